//! The binaries as their users meet them.

mod cli;
mod outage;
mod push_pull;
mod support;
