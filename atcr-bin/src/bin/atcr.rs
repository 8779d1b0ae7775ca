//! `atcr`: a whole network on this machine, to try things out and to develop against.

use std::path::PathBuf;
use std::process::ExitCode;

use atcr_bin::audit::AuditLog;
use atcr_bin::config::DidMethod;
use atcr_bin::dev::{self, DevOptions};
use atcr_bin::logging::{self, LogFormat};
use clap::{Parser, Subcommand};

/// An OCI container registry on the AT Protocol.
#[derive(Debug, Parser)]
#[command(name = "atcr", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a whole network on loopback: PLC directory, PDS with the accounts alice.test and bob.test, hold and
    /// registry. Prints the commands to paste.
    Dev {
        /// The port of the registry. The other services take the ports after it, or free ones.
        #[arg(long, default_value_t = 5000)]
        port: u16,
        /// Where everything is kept; with the same folder the network comes back as it was. A temporary folder,
        /// removed at the end, when not given.
        #[arg(long)]
        data_dir: Option<PathBuf>,
        /// How the hold is named.
        #[arg(long, value_enum, default_value_t)]
        hold_identity: DidMethod,
        /// Prints one line of JSON when ready, and nothing else.
        #[arg(long)]
        json: bool,
        /// Takes images some of whose blobs were not pushed, for tests of clients that make them.
        #[arg(long)]
        sparse_images: bool,
        /// A file for who did what, one JSON object per line.
        #[arg(long)]
        audit: Option<PathBuf>,
        /// What to log: a level, or a list such as info,atcr_hold=debug.
        #[arg(long, default_value = "warn")]
        log: String,
        /// The form of the log.
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    },
}

fn main() -> ExitCode {
    let Command::Dev { port, data_dir, hold_identity, json, sparse_images, audit, log, log_format } =
        Cli::parse().command;
    let audit = match audit.as_deref().map(AuditLog::open).transpose() {
        Ok(audit) => audit,
        Err(error) => return atcr_bin::exit(Err(error)),
    };
    logging::start_with_audit(&log, log_format, audit);
    let options = DevOptions { port, data_dir, hold_identity, json, sparse_images };
    atcr_bin::exit(atcr_bin::block_on(dev::run(options)))
}
