//! `atcr-appview`: the registry that people push to and pull from.

use std::process::ExitCode;

use atcr_bin::appview;
use atcr_bin::cli::ServerCommand;
use clap::Parser;

/// The registry: the OCI Distribution API in front of people's PDSs and holds.
#[derive(Debug, Parser)]
#[command(name = "atcr-appview", version)]
struct Cli {
    #[command(subcommand)]
    command: ServerCommand,
}

fn main() -> ExitCode {
    atcr_bin::exit(Cli::parse().command.run(appview::run))
}
