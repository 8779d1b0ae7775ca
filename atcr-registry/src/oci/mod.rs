//! The endpoints of the distribution specification, one file each, and what they share.

pub(crate) mod router;
pub(crate) mod session;
pub(crate) mod slots;
pub(crate) mod warning;
