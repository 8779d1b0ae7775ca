//! The endpoints of the distribution specification, one file each, and what they share.

mod blobs;
mod body;
mod call;
mod catalog;
mod error;
pub(crate) mod manifests;
mod page;
mod path;
mod ping;
mod referrers;
pub(crate) mod router;
pub(crate) mod session;
pub(crate) mod slots;
mod tags;
mod uploads;
pub(crate) mod warning;
