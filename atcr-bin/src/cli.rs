//! What the command lines of the servers have in common.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::audit::AuditLog;
use crate::config::{self, Config};
use crate::{Error, logging};

/// The configuration that a command works with.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// The configuration file. Without it, defaults and the environment.
    #[arg(long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// Puts the configuration together.
    pub fn load<C: Config>(&self) -> Result<C, Error> {
        Ok(config::load(self.file.as_deref(), std::env::vars())?)
    }
}

/// The commands that every server has.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Serves until SIGTERM or SIGINT.
    Serve(ConfigFile),
    /// The configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What can be done about the configuration file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Writes a commented configuration with every setting: to a new file, or to standard output.
    Init {
        /// The file; it must not exist.
        file: Option<PathBuf>,
    },
}

impl ServerCommand {
    /// Does it: `serve` is the server's own part.
    pub fn run<C: Config, S>(self, serve: impl FnOnce(C) -> S) -> Result<(), Error>
    where
        S: Future<Output = Result<(), Error>>,
    {
        match self {
            Self::Serve(file) => {
                let config: C = file.load()?;
                let audit = config.audit().path.as_deref().map(AuditLog::open).transpose()?;
                logging::start_with_audit(&config.log().level, config.log().format.into(), audit);
                crate::block_on(serve(config))
            }
            Self::Config(ConfigCommand::Init { file }) => config::init::<C>(file.as_deref()),
        }
    }
}
