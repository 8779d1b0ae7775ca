use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use atcr_core::syntax::{Did, Handle};

use super::{Device, DeviceId, DeviceRequest, DeviceStore, Kept, Polled, UserCode};
use crate::browser::RowName;
use crate::pds_session::SessionStoreError;

/// Keeps devices in memory: for tests and examples. A restart forgets them.
#[derive(Debug, Default)]
pub struct MemoryDeviceStore(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    devices: HashMap<RowName, Device>,
}

#[derive(Debug)]
struct Waiting {
    request: DeviceRequest,
    decision: Decision,
    polled: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Open,
    Denied,
    Approved(Did, Option<Handle>),
}

impl MemoryDeviceStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DeviceStore for MemoryDeviceStore {
    async fn request(
        &self,
        request: &DeviceRequest,
        now: i64,
        limit: u32,
    ) -> Result<Kept, SessionStoreError> {
        let mut state = self.state();
        state.waiting.retain(|waiting| waiting.request.expires > now);
        let limit = limit as usize;
        let near = state.waiting.iter().filter(|waiting| waiting.request.address == request.address).count();
        if state.waiting.len() >= limit || near >= (limit / 100).max(1) {
            return Ok(Kept::TooMany);
        }
        if state.waiting.iter().any(|waiting| waiting.request.user_code == request.user_code) {
            return Ok(Kept::CodeTaken);
        }
        state.waiting.push(Waiting { request: request.clone(), decision: Decision::Open, polled: 0 });
        Ok(Kept::Kept)
    }

    async fn find(&self, code: &UserCode, now: i64) -> Result<Option<DeviceRequest>, SessionStoreError> {
        let state = self.state();
        let found = state.waiting.iter().find(|waiting| waiting.request.user_code == *code);
        let found =
            found.filter(|waiting| waiting.request.expires > now && waiting.decision == Decision::Open);
        Ok(found.map(|waiting| waiting.request.clone()))
    }

    async fn decide(
        &self,
        code: &UserCode,
        account: Option<(&Did, Option<&Handle>)>,
        now: i64,
    ) -> Result<bool, SessionStoreError> {
        let mut state = self.state();
        let found = state.waiting.iter_mut().find(|waiting| waiting.request.user_code == *code);
        let Some(waiting) =
            found.filter(|waiting| waiting.request.expires > now && waiting.decision == Decision::Open)
        else {
            return Ok(false);
        };
        waiting.decision = match account {
            Some((did, handle)) => Decision::Approved(did.clone(), handle.cloned()),
            None => Decision::Denied,
        };
        Ok(true)
    }

    async fn poll(
        &self,
        code: RowName,
        id: &DeviceId,
        secret: RowName,
        now: i64,
        interval: i64,
    ) -> Result<Polled, SessionStoreError> {
        let mut state = self.state();
        let index = state.waiting.iter().position(|waiting| waiting.request.code == code);
        let Some(index) = index.filter(|index| state.waiting[*index].request.expires > now) else {
            return Ok(Polled::Unknown);
        };
        let waiting = &mut state.waiting[index];
        if now < waiting.polled.saturating_add(interval) {
            return Ok(Polled::TooSoon);
        }
        waiting.polled = now;
        if waiting.decision == Decision::Open {
            return Ok(Polled::Pending);
        }
        let Waiting { request, decision, .. } = state.waiting.remove(index);
        let Decision::Approved(did, handle) = decision else { return Ok(Polled::Denied) };
        let DeviceRequest { name, address, .. } = request;
        let device = Device { id: id.clone(), did, handle, name, address, created: now, used: now };
        state.devices.insert(secret, device.clone());
        Ok(Polled::Granted(device))
    }

    async fn device(&self, secret: RowName, now: i64) -> Result<Option<Device>, SessionStoreError> {
        let mut state = self.state();
        let device = state.devices.get_mut(&secret);
        Ok(device.map(|device| {
            if device.used.saturating_add(3600) <= now {
                device.used = now;
            }
            device.clone()
        }))
    }

    async fn devices(&self, did: &Did) -> Result<Vec<Device>, SessionStoreError> {
        let state = self.state();
        let mut devices: Vec<_> =
            state.devices.values().filter(|device| device.did == *did).cloned().collect();
        devices.sort_by_key(|device| std::cmp::Reverse(device.created));
        Ok(devices)
    }

    async fn revoke(&self, did: &Did, id: &DeviceId) -> Result<bool, SessionStoreError> {
        let mut state = self.state();
        let before = state.devices.len();
        state.devices.retain(|_, device| device.did != *did || device.id != *id);
        Ok(state.devices.len() < before)
    }

    async fn forget(&self, secret: RowName) -> Result<(), SessionStoreError> {
        self.state().devices.remove(&secret);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_contract() {
        let store: std::sync::Arc<dyn DeviceStore> = std::sync::Arc::new(MemoryDeviceStore::default());
        super::super::contract::check(&[store.clone(), store]).await;
    }
}
