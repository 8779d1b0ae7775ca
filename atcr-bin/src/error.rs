use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a binary stopped. The messages are the last lines its user reads: they say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read or written.
    #[error("{} cannot be {action}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried: `read`, `written`, `created`.
        action: &'static str,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}; is another program using it? choose another address")]
    Listen {
        /// The address.
        addr: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// Another process works on the same data.
    #[error("{} is in use by another process; stop it, or choose another data directory", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// A command could not do its work.
    #[error("{what}")]
    Command {
        /// What did not happen, of what.
        what: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// One of the libraries could not be started.
    #[error("{what} cannot be started")]
    Start {
        /// What was to be started.
        what: &'static str,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// For `map_err`: a file that could not be `action`.
    pub(crate) fn file(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, action, source }
    }

    /// For `map_err`: a command that did not do its work.
    pub(crate) fn command<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Command { what: what.into(), source: source.into() }
    }

    /// For `map_err`: a part that could not be started.
    pub(crate) fn start<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Start { what, source: source.into() }
    }
}

/// Ends a binary: prints an error with all its causes.
pub fn exit(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut text = format!("error: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(&format!("\n  because: {inner}"));
        cause = inner.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}
