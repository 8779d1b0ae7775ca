//! `atcr-hold`: the service that keeps the blobs of images.

use std::path::PathBuf;
use std::process::ExitCode;

use atcr_bin::config::{self, HoldConfig};
use atcr_bin::{Error, hold, logging};
use clap::{Parser, Subcommand};

/// A hold: storage for images, with an identity of its own.
#[derive(Debug, Parser)]
#[command(name = "atcr-hold", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT.
    Serve {
        /// The configuration file. Without it, defaults and the environment.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// The configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Writes a commented configuration with every setting: to a new file, or to standard output.
    Init {
        /// The file; it must not exist.
        file: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    atcr_bin::exit(match Cli::parse().command {
        Command::Serve { config } => serve(config),
        Command::Config(ConfigCommand::Init { file }) => config::init::<HoldConfig>(file.as_deref()),
    })
}

fn serve(file: Option<PathBuf>) -> Result<(), Error> {
    let config: HoldConfig = config::load(file.as_deref(), std::env::vars())?;
    logging::start(&config.log.level, config.log.format.into());
    atcr_bin::block_on(hold::run(config))
}
