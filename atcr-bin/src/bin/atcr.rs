//! atcr.
fn main() {}
