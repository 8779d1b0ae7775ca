use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The audit log, of either server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The file that it is written to. Without it, its events are in the log.
    pub path: Option<PathBuf>,
}
