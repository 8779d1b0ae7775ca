//! A hold.

pub mod storage;
