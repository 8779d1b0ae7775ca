//! `atcr-appview`: the registry that people push to and pull from.

use std::path::PathBuf;
use std::process::ExitCode;

use atcr_bin::config::{self, AppViewConfig};
use atcr_bin::{Error, appview, logging};
use clap::{Parser, Subcommand};

/// The registry: the OCI Distribution API in front of people's PDSs and holds.
#[derive(Debug, Parser)]
#[command(name = "atcr-appview", version, about)]
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
        Command::Config(ConfigCommand::Init { file }) => config::init::<AppViewConfig>(file.as_deref()),
    })
}

fn serve(file: Option<PathBuf>) -> Result<(), Error> {
    let config: AppViewConfig = config::load(file.as_deref(), std::env::vars())?;
    logging::start(&config.log.level, config.log.format.into());
    atcr_bin::block_on(appview::run(config))
}
