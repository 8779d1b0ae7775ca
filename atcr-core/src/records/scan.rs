use serde::{Deserialize, Serialize};

use super::data::BlobRef;
use super::lenient;
use super::open_enum;
use super::typed::record;
use crate::oci::RepositoryName;
use crate::syntax::{AtUri, Datetime, Did};

record! {
    "io.atcr.hold.scan";
    /// What a scanner found in a manifest, in the hold's repo under [`scan_rkey`](super::scan_rkey).
    pub struct ScanRecord {
        /// The record of the manifest.
        pub manifest: AtUri,
        /// The repository, without its owner.
        pub repository: RepositoryName,
        /// The owner.
        pub user_did: Did,
        /// Critical vulnerabilities.
        pub critical: u64,
        /// High ones.
        pub high: u64,
        /// Medium ones.
        pub medium: u64,
        /// Low ones.
        pub low: u64,
        /// All of them, those without a severity included.
        pub total: u64,
        /// The scanner, in at most 64 bytes.
        #[serde(default)]
        pub scanner_version: String,
        /// When it was scanned.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub scanned_at: Datetime,
        /// The bill of materials: a blob of `application/spdx+json`.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub sbom_blob: Option<BlobRef>,
        /// The vulnerabilities: a blob of `application/vnd.atcr.vulnerabilities+json`.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub vuln_report_blob: Option<BlobRef>,
        /// How it went; `None` is ok.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub status: Option<ScanStatus>,
        /// Why it was skipped or failed, in at most 256 bytes.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
    }
}

impl ScanRecord {
    /// The counts together.
    pub fn counts(&self) -> SeverityCounts {
        let Self { critical, high, medium, low, total, .. } = *self;
        SeverityCounts { critical, high, medium, low, total }
    }
}

/// How many vulnerabilities there are of each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeverityCounts {
    /// Critical ones.
    pub critical: u64,
    /// High ones.
    pub high: u64,
    /// Medium ones.
    pub medium: u64,
    /// Low ones.
    pub low: u64,
    /// All of them, those without a severity included.
    pub total: u64,
}

open_enum! {
    /// How a scan went.
    pub enum ScanStatus {
        /// The counts are of this manifest.
        Ok = "ok",
        /// It could not be scanned; the counts mean nothing.
        Failed = "failed",
        /// There is nothing to scan, such as in a Helm chart.
        Skipped = "skipped",
    }
}
