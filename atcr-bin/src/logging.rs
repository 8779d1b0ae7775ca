//! Logs to standard error; standard output is for what a program is asked to print.

use std::io::IsTerminal as _;

use atcr_core::AUDIT;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::audit::AuditLog;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl From<crate::config::LogFormat> for LogFormat {
    fn from(format: crate::config::LogFormat) -> Self {
        match format {
            crate::config::LogFormat::Text => Self::Text,
            crate::config::LogFormat::Json => Self::Json,
        }
    }
}

/// Starts logging. `level` is a level (`info`) or a list of directives (`info,atcr_hold=debug`), as `RUST_LOG` has
/// them; `RUST_LOG` wins where it is set.
pub fn start(level: &str, format: LogFormat) {
    start_with_audit(level, format, None);
}

/// The same, with the events of the audit log in a file of their own, whatever the level.
pub fn start_with_audit(level: &str, format: LogFormat, audit: Option<AuditLog>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let elsewhere = audit.is_some();
    let filter = filter.and(filter_fn(move |event| !elsewhere || event.target() != AUDIT));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let audit = audit.map(|audit| audit.with_filter(filter_fn(|event| event.target() == AUDIT)));
    // A second start, in a test, changes nothing.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(audit).try_init();
}
