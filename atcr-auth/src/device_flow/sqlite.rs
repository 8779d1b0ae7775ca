use async_trait::async_trait;
use atcr_core::syntax::{Did, Handle};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Device, DeviceId, DeviceRequest, DeviceStore, Kept, Polled, UserCode};
use crate::browser::RowName;
use crate::pds_session::{SessionStoreError, SqliteSessionStore};

/// `decision`: 0 while nobody has decided, 1 approved, 2 denied.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS device_request (
    code BLOB PRIMARY KEY NOT NULL,
    user_code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    expires INTEGER NOT NULL,
    decision INTEGER NOT NULL DEFAULT 0,
    did TEXT,
    handle TEXT,
    polled INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS device_request_expires ON device_request (expires);
CREATE TABLE IF NOT EXISTS device (
    secret BLOB PRIMARY KEY NOT NULL,
    id TEXT NOT NULL UNIQUE,
    did TEXT NOT NULL,
    handle TEXT,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    created INTEGER NOT NULL,
    used INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS device_did ON device (did)";

fn read(error: sqlx::Error) -> SessionStoreError {
    SessionStoreError::new("reading a device failed", error)
}

fn write(error: sqlx::Error) -> SessionStoreError {
    SessionStoreError::new("writing a device failed", error)
}

fn damaged(_: impl std::fmt::Debug) -> SessionStoreError {
    SessionStoreError::new("reading a device failed", "a row is damaged")
}

fn did(text: &str) -> Result<Did, SessionStoreError> {
    text.parse().map_err(damaged)
}

fn handle(text: Option<&str>) -> Result<Option<Handle>, SessionStoreError> {
    text.map(str::parse).transpose().map_err(damaged)
}

fn device(row: &SqliteRow) -> Result<Device, SessionStoreError> {
    Ok(Device {
        id: DeviceId::new(row.try_get::<String, _>(0).map_err(read)?),
        did: did(row.try_get(1).map_err(read)?)?,
        handle: handle(row.try_get(2).map_err(read)?)?,
        name: row.try_get(3).map_err(read)?,
        address: row.try_get(4).map_err(read)?,
        created: row.try_get(5).map_err(read)?,
        used: row.try_get(6).map_err(read)?,
    })
}

#[async_trait]
impl DeviceStore for SqliteSessionStore {
    async fn request(
        &self,
        request: &DeviceRequest,
        now: i64,
        limit: u32,
    ) -> Result<Kept, SessionStoreError> {
        let mut tx = self.writer().begin_with("BEGIN IMMEDIATE").await.map_err(write)?;
        sqlx::query("DELETE FROM device_request WHERE expires <= ?")
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(write)?;
        let row = sqlx::query("SELECT count(*), count(*) FILTER (WHERE address = ?) FROM device_request")
            .bind(&request.address)
            .fetch_one(&mut *tx)
            .await
            .map_err(read)?;
        let (all, near): (i64, i64) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
        if all >= i64::from(limit) || near >= i64::from(limit / 100).max(1) {
            tx.commit().await.map_err(write)?;
            return Ok(Kept::TooMany);
        }
        let done = sqlx::query(
            "INSERT INTO device_request (code, user_code, name, address, expires) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(&request.code.0[..])
        .bind(request.user_code.letters())
        .bind(&request.name)
        .bind(&request.address)
        .bind(request.expires)
        .execute(&mut *tx)
        .await
        .map_err(write)?;
        tx.commit().await.map_err(write)?;
        Ok(if done.rows_affected() == 1 { Kept::Kept } else { Kept::CodeTaken })
    }

    async fn find(&self, code: &UserCode, now: i64) -> Result<Option<DeviceRequest>, SessionStoreError> {
        let row = sqlx::query(
            "SELECT code, name, address, expires FROM device_request
             WHERE user_code = ? AND expires > ? AND decision = 0",
        )
        .bind(code.letters())
        .bind(now)
        .fetch_optional(self.readers())
        .await
        .map_err(read)?;
        let Some(row) = row else { return Ok(None) };
        let hash: &[u8] = row.try_get(0).map_err(read)?;
        Ok(Some(DeviceRequest {
            code: RowName(hash.try_into().map_err(damaged)?),
            user_code: code.clone(),
            name: row.try_get(1).map_err(read)?,
            address: row.try_get(2).map_err(read)?,
            expires: row.try_get(3).map_err(read)?,
        }))
    }

    async fn decide(
        &self,
        code: &UserCode,
        account: Option<(&Did, Option<&Handle>)>,
        now: i64,
    ) -> Result<bool, SessionStoreError> {
        let done = sqlx::query(
            "UPDATE device_request SET decision = ?, did = ?, handle = ?
             WHERE user_code = ? AND expires > ? AND decision = 0",
        )
        .bind(if account.is_some() { 1 } else { 2 })
        .bind(account.map(|(did, _)| did.as_str()))
        .bind(account.and_then(|(_, handle)| handle).map(Handle::as_str))
        .bind(code.letters())
        .bind(now)
        .execute(self.writer())
        .await
        .map_err(write)?;
        Ok(done.rows_affected() == 1)
    }

    async fn poll(
        &self,
        code: RowName,
        id: &DeviceId,
        secret: RowName,
        now: i64,
        interval: i64,
    ) -> Result<Polled, SessionStoreError> {
        let mut tx = self.writer().begin_with("BEGIN IMMEDIATE").await.map_err(write)?;
        let row = sqlx::query(
            "SELECT decision, did, handle, name, address, polled FROM device_request WHERE code = ? AND expires > ?",
        )
        .bind(&code.0[..])
        .bind(now)
        .fetch_optional(&mut *tx)
        .await
        .map_err(read)?;
        let Some(row) = row else { return Ok(Polled::Unknown) };
        let polled: i64 = row.try_get(5).map_err(read)?;
        if now < polled.saturating_add(interval) {
            return Ok(Polled::TooSoon);
        }
        let decision: i64 = row.try_get(0).map_err(read)?;
        if decision == 0 {
            sqlx::query("UPDATE device_request SET polled = ? WHERE code = ?")
                .bind(now)
                .bind(&code.0[..])
                .execute(&mut *tx)
                .await
                .map_err(write)?;
            tx.commit().await.map_err(write)?;
            return Ok(Polled::Pending);
        }
        sqlx::query("DELETE FROM device_request WHERE code = ?")
            .bind(&code.0[..])
            .execute(&mut *tx)
            .await
            .map_err(write)?;
        if decision != 1 {
            tx.commit().await.map_err(write)?;
            return Ok(Polled::Denied);
        }
        let device = Device {
            id: id.clone(),
            did: did(row.try_get(1).map_err(read)?)?,
            handle: handle(row.try_get(2).map_err(read)?)?,
            name: row.try_get(3).map_err(read)?,
            address: row.try_get(4).map_err(read)?,
            created: now,
            used: now,
        };
        sqlx::query(
            "INSERT INTO device (secret, id, did, handle, name, address, created, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&secret.0[..])
        .bind(device.id.as_str())
        .bind(device.did.as_str())
        .bind(device.handle.as_ref().map(Handle::as_str))
        .bind(&device.name)
        .bind(&device.address)
        .bind(now)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(write)?;
        tx.commit().await.map_err(write)?;
        Ok(Polled::Granted(device))
    }

    async fn device(&self, secret: RowName, now: i64) -> Result<Option<Device>, SessionStoreError> {
        let row =
            sqlx::query("SELECT id, did, handle, name, address, created, used FROM device WHERE secret = ?")
                .bind(&secret.0[..])
                .fetch_optional(self.readers())
                .await
                .map_err(read)?;
        let Some(mut device) = row.as_ref().map(device).transpose()? else { return Ok(None) };
        if device.used.saturating_add(3600) <= now {
            sqlx::query("UPDATE device SET used = ? WHERE secret = ?")
                .bind(now)
                .bind(&secret.0[..])
                .execute(self.writer())
                .await
                .map_err(write)?;
            device.used = now;
        }
        Ok(Some(device))
    }

    async fn devices(&self, did: &Did) -> Result<Vec<Device>, SessionStoreError> {
        let rows = sqlx::query(
            "SELECT id, did, handle, name, address, created, used FROM device WHERE did = ? ORDER BY created DESC LIMIT 1000",
        )
        .bind(did.as_str())
        .fetch_all(self.readers())
        .await
        .map_err(read)?;
        rows.iter().map(device).collect()
    }

    async fn revoke(&self, did: &Did, id: &DeviceId) -> Result<bool, SessionStoreError> {
        let done = sqlx::query("DELETE FROM device WHERE did = ? AND id = ?")
            .bind(did.as_str())
            .bind(id.as_str())
            .execute(self.writer())
            .await
            .map_err(write)?;
        Ok(done.rows_affected() == 1)
    }

    async fn forget(&self, secret: RowName) -> Result<(), SessionStoreError> {
        let done = sqlx::query("DELETE FROM device WHERE secret = ?")
            .bind(&secret.0[..])
            .execute(self.writer())
            .await;
        done.map(drop).map_err(write)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pds_session::SealingKey;

    #[tokio::test]
    async fn keeps_the_contract_and_devices_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.sqlite");
        let open = async || {
            let store = SqliteSessionStore::open(&path, SealingKey::new(&[1; 32])).await.unwrap();
            let store: Arc<dyn DeviceStore> = Arc::new(store);
            store
        };
        super::super::contract::check(&[open().await, open().await]).await;
        let kept = open().await.devices(&super::super::contract::ALICE.parse().unwrap()).await.unwrap();
        assert_eq!(kept.len(), 1);
    }
}
