use std::time::Duration;

use atcr_registry::{ConnectionLimits, Limits};
use serde::{Deserialize, Serialize};

/// What connections may cost, of either server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// How many there are at a time.
    pub limit: usize,
    /// The size of a request's headers in bytes.
    pub header_bytes: usize,
    /// How many headers a request may have.
    pub headers: usize,
    /// How many seconds a client may take for a request's headers.
    pub header_seconds: u64,
    /// How many seconds a client may take nothing of an answer.
    pub write_idle_seconds: u64,
}

impl Default for Connections {
    fn default() -> Self {
        let ConnectionLimits { header_bytes, headers, header_time, write_idle, connections } =
            ConnectionLimits::default();
        Self {
            limit: connections,
            header_bytes,
            headers,
            header_seconds: header_time.as_secs(),
            write_idle_seconds: write_idle.as_secs(),
        }
    }
}

impl From<Connections> for ConnectionLimits {
    fn from(config: Connections) -> Self {
        Self {
            header_bytes: config.header_bytes,
            headers: config.headers,
            header_time: Duration::from_secs(config.header_seconds),
            write_idle: Duration::from_secs(config.write_idle_seconds),
            connections: config.limit,
        }
    }
}

/// What requests may cost the registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// The size of a manifest in bytes.
    pub manifest_size: usize,
    /// How many uploads an account may have under way at the same time.
    pub concurrent_uploads: usize,
    /// How many seconds an upload session lives without a step.
    pub upload_idle_seconds: u64,
    /// How many seconds a client may take for the next piece of what it sends.
    pub body_idle_seconds: u64,
    /// How many seconds a request without blob content may take.
    pub request_seconds: u64,
}

impl Default for Requests {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            manifest_size: limits.manifest_size,
            concurrent_uploads: limits.concurrent_uploads,
            upload_idle_seconds: limits.upload_idle.as_secs(),
            body_idle_seconds: limits.body_idle.as_secs(),
            request_seconds: limits.request_time.as_secs(),
        }
    }
}

impl From<Requests> for Limits {
    fn from(config: Requests) -> Self {
        Self {
            manifest_size: config.manifest_size,
            concurrent_uploads: config.concurrent_uploads,
            upload_idle: Duration::from_secs(config.upload_idle_seconds),
            body_idle: Duration::from_secs(config.body_idle_seconds),
            request_time: Duration::from_secs(config.request_seconds),
            ..Self::default()
        }
    }
}
