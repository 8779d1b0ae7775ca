use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::{Nothing, method};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::records::{BytesField, SeverityCounts};
use crate::syntax::Did;

method! {
    /// The line between a hold and its scanner. Both send JSON text frames, not the DAG-CBOR frames of other
    /// subscriptions; the scanner shows the shared secret in [`SCANNER_SECRET_HEADER`].
    SubscribeScanJobs, "io.atcr.hold.subscribeScanJobs", Subscription,
    (SubscribeScanJobsParams, Nothing) -> ScanMessage, [INVALID_SECRET]
}

/// The header with the secret that a hold and its scanner share.
pub const SCANNER_SECRET_HEADER: &str = "x-scanner-secret";

/// Parameters of [`SubscribeScanJobs`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeScanJobsParams {
    /// The last job that the scanner has seen; -1 is "only new ones", `None` is the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<i64>,
}

/// A message of [`SubscribeScanJobs`], told apart by `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ScanMessage {
    /// From the hold: `scan_job`.
    ScanJob(ScanJob),
    /// From the scanner: `scan_result`.
    ScanResult(ScanResult),
}

/// A manifest to scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanJob {
    /// The number of the job, rising.
    pub seq: i64,
    /// The manifest.
    pub digest: Digest,
    /// The repository, without its owner.
    pub repository: RepositoryName,
    /// The owner.
    pub user_did: Did,
    /// The hold that has the blobs.
    pub hold_did: Did,
    /// Its URL.
    pub hold_endpoint: Url,
    /// The tag that it was pushed under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Jobs with a lower number come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
}

/// What a scanner found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanResult {
    /// The manifest.
    pub digest: Digest,
    /// How many vulnerabilities.
    #[serde(default)]
    pub summary: SeverityCounts,
    /// The bill of materials, SPDX JSON of at most 100 MB.
    #[serde(default, deserialize_with = "bytes", skip_serializing_if = "Option::is_none")]
    pub sbom: Option<BytesField>,
    /// The vulnerabilities, Grype JSON of at most 100 MB.
    #[serde(default, deserialize_with = "bytes", skip_serializing_if = "Option::is_none")]
    pub vuln_report: Option<BytesField>,
    /// The scanner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanner_version: Option<String>,
    /// Why it failed, in at most 1,024 bytes; the counts mean nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Bytes in the data model's form, or as the bare base64 that Go writes for them.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BytesField>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Field(BytesField),
        Bare(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => None,
        Some(Form::Field(bytes)) => Some(bytes),
        Some(Form::Bare(text)) => {
            Some(BytesField::decode(&text).ok_or_else(|| D::Error::custom("bytes that are not base64"))?)
        }
    })
}
