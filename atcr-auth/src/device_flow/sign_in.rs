use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::Account;
use atcr_core::syntax::Did;
use url::Url;

use super::{DeviceSecret, DeviceStore};
use crate::clock::Clock;
use crate::pds_session::{SignIn, SignInError};

/// The user name with which a client hands over an identity token, which says itself whose it is.
pub(crate) const IDENTITY_TOKEN_USER: &str = "<token>";

/// Sign-in that takes the secret of a device in the place of a password, and everything else as before.
#[derive(Debug, Clone)]
pub struct DeviceSignIn {
    devices: Arc<dyn DeviceStore>,
    inner: Arc<dyn SignIn>,
    login_url: Url,
    clock: Clock,
}

impl DeviceSignIn {
    /// `inner` takes passwords, and says whose session at their PDS is there: a device is good for nothing without it.
    /// `login_url` is where to open one.
    pub fn new(devices: Arc<dyn DeviceStore>, inner: Arc<dyn SignIn>, login_url: Url, clock: Clock) -> Self {
        Self { devices, inner, login_url, clock }
    }
}

#[async_trait]
impl SignIn for DeviceSignIn {
    async fn sign_in(&self, identifier: &str, password: &str) -> Result<Account, SignInError> {
        let Some(secret) = DeviceSecret::read(password) else {
            return self.inner.sign_in(identifier, password).await;
        };
        let device = self.devices.device(secret.row(), self.clock.unix()).await?;
        let device = device.ok_or(SignInError::UnknownDevice)?;
        let account = self.inner.signed_in(&device.did).await?.ok_or_else(|| SignInError::SessionEnded {
            did: device.did.clone(),
            login_url: self.login_url.clone(),
        })?;
        // A handle may have changed since the device was approved.
        let name = identifier.trim().trim_start_matches('@');
        let handles = [&account.handle, &device.handle];
        let meant = name == IDENTITY_TOKEN_USER
            || name == device.did.as_str()
            || handles.into_iter().flatten().any(|handle| handle.as_str().eq_ignore_ascii_case(name));
        if meant { Ok(account) } else { Err(SignInError::UnknownDevice) }
    }

    async fn signed_in(&self, did: &Did) -> Result<Option<Account>, SignInError> {
        self.inner.signed_in(did).await
    }
}
