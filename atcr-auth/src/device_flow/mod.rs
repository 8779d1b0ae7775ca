//! Signing a device in that has no browser: the Device Authorization Grant (RFC 8628), for credential helpers.
//!
//! | route | what it does |
//! |---|---|
//! | `POST /auth/device/code` | a code for the device and one for its user |
//! | `POST /auth/device/token` | whether it has been approved; once, the device's secret |
//! | `POST /auth/device/revoke` | a device says that it is no more |
//! | `GET /auth/device/version` | which version of the credential helper belongs to this registry |
//! | `GET`, `POST /device` | "may this device push to your account?" |
//! | `GET /auth/devices`, `POST /auth/devices/revoke` | the devices of an account |
//!
//! The secret is what the token endpoint then takes as a password ([`DeviceSignIn`]), while the account has a session
//! at its PDS. Secrets have 256 random bits and are kept as their SHA-256: nobody guesses one, so a slow hash, which
//! makes up for passwords that people choose, would only cost time at every pull.

mod code;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod flow;
mod memory;
mod pages;
mod sign_in;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use code::UserCode;
pub use flow::DeviceFlow;
pub use memory::MemoryDeviceStore;
pub use sign_in::DeviceSignIn;
pub use store::{Device, DeviceId, DeviceRequest, DeviceStore, Kept, Polled};

/// The page on which people see their devices and revoke them.
pub const DEVICES: &str = "/auth/devices";

pub(crate) use code::DeviceSecret;
pub(crate) use sign_in::IDENTITY_TOKEN_USER;
#[cfg(feature = "sqlite")]
pub(crate) use sqlite::SCHEMA;
