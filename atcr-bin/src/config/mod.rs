//! Configuration: defaults, then a YAML file, then the environment; one struct per binary.

mod appview;
mod audit;
mod hold;
mod init;
mod layers;
mod limits;
mod size;

use std::path::PathBuf;

pub use appview::AppViewConfig;
pub use audit::Audit;
pub use hold::{
    Addressing, DidMethod, HoldConfig, Layout, Log, LogFormat, Quota, Secret, Storage, StorageDriver,
    Tier as TierConfig, VerifyMode,
};
pub use init::init;
pub use layers::load;
pub use limits::{Connections, Requests};
pub use size::Size;

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read; `config init` writes a commented one", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("the configuration {} is not valid YAML: {message}", path.display())]
    Yaml {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// There is no such setting.
    #[error("{origin}: there is no setting {key}{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// The file or the environment variable.
        origin: String,
        /// What was set.
        key: String,
        /// The setting whose name is most like it.
        nearest: Option<String>,
    },
    /// A setting has a value that it cannot have.
    #[error("the setting {key} cannot be {value}: {reason}")]
    Value {
        /// The setting.
        key: String,
        /// What it was set to.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// A setting without which nothing works is not set.
    #[error("the setting {key} is required: {purpose}; set it in the configuration file or as {env}")]
    Required {
        /// The setting.
        key: &'static str,
        /// What it is for.
        purpose: &'static str,
        /// The environment variable.
        env: &'static str,
    },
}

/// What a binary's configuration brings.
pub trait Config: serde::Serialize + serde::de::DeserializeOwned + Default {
    /// The prefix of its environment variables, without the `_`.
    const ENV_PREFIX: &'static str;
    /// Environment variables of older versions and of upstream, and the settings they stand for; with a `!` before it,
    /// the setting is the contrary.
    const ENV_ALIASES: &'static [(&'static str, &'static str)];
    /// The commented file that `config init` writes: every setting with its default.
    const TEMPLATE: &'static str;

    /// How it logs.
    fn log(&self) -> &Log;

    /// Where it says who did what.
    fn audit(&self) -> &Audit;
}
