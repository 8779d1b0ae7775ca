//! `atcr-hold`: the service that keeps the blobs of images.

use std::process::ExitCode;

use atcr_bin::cli::ServerCommand;
use atcr_bin::hold::{self, DoctorCommand, IdentityCommand, RepoCommand, StorageCommand};
use clap::{Parser, Subcommand};

/// A hold: storage for images, with an identity of its own.
#[derive(Debug, Parser)]
#[command(name = "atcr-hold", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Server(ServerCommand),
    /// Who the hold is, and its entry in a PLC directory.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// The hold's repo: its captain, crew and layer records.
    #[command(subcommand)]
    Repo(RepoCommand),
    /// The blobs: whether they are as they should be, and how they get elsewhere.
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Tries out the storage and says what is wrong with it, and what to do.
    ///
    /// It puts a small blob there, as clients would, and removes it again. The hold may run meanwhile.
    Doctor(DoctorCommand),
}

fn main() -> ExitCode {
    atcr_bin::exit(match Cli::parse().command {
        Command::Server(command) => command.run(hold::run),
        Command::Identity(command) => command.run(),
        Command::Repo(command) => command.run(),
        Command::Storage(command) => command.run(),
        Command::Doctor(command) => command.run(),
    })
}
