//! `docker-credential-atcr`: hands out what `docker login` would have kept, after one sign-in with a browser.
//!
//! A helper that fails makes even public pulls fail, and one that waits makes them wait. So `get` answers within
//! 2 seconds whatever happens (a watchdog sees to it), and whenever it has nothing good to give it says so in the words that
//! make a client go on without credentials.

mod accounts;
mod choice;
mod cli;
mod credentials;
mod diagnose;
mod docker_config;
mod error;
mod keyring;
mod kubelet;
mod login;
mod protocol;
mod registry;
mod server;
mod update;
mod watchdog;

pub use cli::{Cli, run};
pub use protocol::{Input, read_input};

use credentials::{Account, Kind, Store};
use error::HelperError;
use registry::Registry;
use server::ServerName;
