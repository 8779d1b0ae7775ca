use std::path::PathBuf;

use super::registry::RegistryError;

/// Why a command did not do its work. The message is the last line that its user reads.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    /// What every client takes for "go on without credentials".
    #[error("credentials not found in native keychain")]
    NotFound,
    #[error("no credentials server URL")]
    NoServerUrl,
    #[error("no credentials username")]
    NoUsername,
    #[error(
        "{text:?} is not the address of a registry; write it as in docker pull, such as registry.example.com"
    )]
    NotAServer { text: String },
    #[error("there is no home directory to keep credentials in; set HOME or ATCR_CREDENTIALS_DIR")]
    NoHome,
    #[error("{} cannot be {action}: {source}", path.display())]
    File { path: PathBuf, action: &'static str, source: std::io::Error },
    #[error("{} is damaged: {reason}; repair it, or remove it and sign in again", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("another docker-credential-atcr holds {} and does not let go; try again", path.display())]
    Locked { path: PathBuf },
    #[error("standard input is not what was expected: {0}")]
    Input(String),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{0}")]
    Refused(String),
}

impl HelperError {
    /// For `map_err`: a file that could not be `action`.
    pub(super) fn file(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, action, source }
    }
}
