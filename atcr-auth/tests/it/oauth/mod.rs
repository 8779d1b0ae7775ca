//! Sign-in by OAuth at our development PDS, over HTTP, with a wire that counts and can lie.

mod device_flow;
mod hostile;
mod many_processes;
mod refresh;
mod sign_in;
mod world;
