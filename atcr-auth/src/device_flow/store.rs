use std::fmt::{self, Debug};

use async_trait::async_trait;
use atcr_core::syntax::{Did, Handle};

use super::UserCode;
use crate::browser::RowName;
use crate::pds_session::SessionStoreError;

/// The public name of a device. Whoever knows it can do nothing with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceId(String);

impl DeviceId {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 12];
        getrandom::fill(&mut bytes)?;
        Ok(Self(crate::jwt::encode_bytes(&bytes)))
    }

    /// The name as a store or a form has it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device that waits for its approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRequest {
    /// The hash of the code that it polls with.
    pub code: RowName,
    /// The code that its user compares.
    pub user_code: UserCode,
    /// What it calls itself.
    pub name: String,
    /// Where it asked from.
    pub address: String,
    /// When the request ends, in seconds since 1970.
    pub expires: i64,
}

/// A device that may push to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its public name.
    pub id: DeviceId,
    /// Whose account.
    pub did: Did,
    /// The account's handle when it was approved.
    pub handle: Option<Handle>,
    /// What it calls itself.
    pub name: String,
    /// Where it was when it asked.
    pub address: String,
    /// When it was approved, in seconds since 1970.
    pub created: i64,
    /// When it was last used; within the hour.
    pub used: i64,
}

/// Whether a request was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It waits for its approval.
    Kept,
    /// Another one has the same user code.
    CodeTaken,
    /// Too many wait already: at all, or from this address.
    TooMany,
}

/// What a poll finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// There is no such request: it has ended, or it was redeemed.
    Unknown,
    /// Nobody has decided yet.
    Pending,
    /// The last poll is not long enough ago.
    TooSoon,
    /// Somebody said no. The request is gone.
    Denied,
    /// Approved: the device is there, and the request is gone.
    Granted(Device),
}

/// Keeps devices, and those that wait for their approval, for any number of processes.
///
/// Contract, checked by the suite in the module `contract` (feature of that name): a request is decided once and
/// redeemed once, wherever it is tried; it is not there any more at the second at which it expires; what was put is
/// there after a restart (but for stores that say they forget).
#[async_trait]
pub trait DeviceStore: Debug + Send + Sync + 'static {
    /// Keeps a request. Drops those that have expired by `now`. At most `limit` may wait, and a hundredth of that
    /// from one address.
    async fn request(&self, request: &DeviceRequest, now: i64, limit: u32)
    -> Result<Kept, SessionStoreError>;

    /// The request with this user code that nobody has decided.
    async fn find(&self, code: &UserCode, now: i64) -> Result<Option<DeviceRequest>, SessionStoreError>;

    /// Decides a request: for an account, or against it. `false` when it is gone or was decided before.
    async fn decide(
        &self,
        code: &UserCode,
        account: Option<(&Did, Option<&Handle>)>,
        now: i64,
    ) -> Result<bool, SessionStoreError>;

    /// What has become of a request. An approved one is redeemed: a device of this name, with a secret of this hash.
    /// Polls less than `interval` seconds after the last one are too soon, and do not count as one.
    async fn poll(
        &self,
        code: RowName,
        id: &DeviceId,
        secret: RowName,
        now: i64,
        interval: i64,
    ) -> Result<Polled, SessionStoreError>;

    /// The device with a secret of this hash. Notes its use, once an hour.
    async fn device(&self, secret: RowName, now: i64) -> Result<Option<Device>, SessionStoreError>;

    /// The devices of an account, the newest first.
    async fn devices(&self, did: &Did) -> Result<Vec<Device>, SessionStoreError>;

    /// Drops a device of an account; `false` when it has none of this name.
    async fn revoke(&self, did: &Did, id: &DeviceId) -> Result<bool, SessionStoreError>;

    /// Drops the device with a secret of this hash, if there is one.
    async fn forget(&self, secret: RowName) -> Result<(), SessionStoreError>;
}
