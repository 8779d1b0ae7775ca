//! `docker-credential-atcr`: the credential helper of Docker, podman and the rest, and of the kubelet.

use std::process::ExitCode;

use atcr_bin::credential_helper::{Cli, run};
use clap::Parser;

fn main() -> ExitCode {
    run(Cli::parse())
}
