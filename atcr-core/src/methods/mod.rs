//! The methods of `io.atcr.hold.*`: what a hold answers over XRPC.
//!
//! Each method is an empty type that implements [`Method`] and names its parameters, input, output and errors. The
//! schemas are in `lexicons/`. What atcr adds to the published ones is optional fields, and [`DeleteBlob`]; a hold
//! or a client that does not know them can do all the others as before.
//!
//! ```
//! use atcr_core::methods::{GetPartUploadUrlOutput, InitiateUpload, Method};
//!
//! assert_eq!(InitiateUpload::NSID, "io.atcr.hold.initiateUpload");
//! // The answer of a hold of 2025: no method, which means PUT.
//! let part: GetPartUploadUrlOutput = serde_json::from_str(
//!     r#"{"url": "https://hold.example.com/xrpc/io.atcr.hold.uploadPart", "headers": {"X-Upload-Id": "u"}}"#,
//! )?;
//! assert_eq!(part.method.as_str(), "PUT");
//! # Ok::<(), serde_json::Error>(())
//! ```

mod blob;
mod crew;
pub mod error_name;
mod notify;
mod quota;
mod scan_jobs;
mod stats;
#[cfg(test)]
mod tests;
mod upload;
mod user_data;

pub use blob::{DeleteBlob, DeleteBlobInput};
pub use crew::{
    RequestCrew, RequestCrewInput, RequestCrewOutput, RequestCrewStatus, UpdateCrewTier, UpdateCrewTierInput,
    UpdateCrewTierOutput,
};
pub use notify::{
    GetLayersForManifest, GetLayersForManifestOutput, GetLayersForManifestParams, NotifiedBlob,
    NotifiedChild, NotifiedLayer, NotifiedManifest, NotifiedPlatform, NotifyManifest, NotifyManifestInput,
    NotifyManifestOutput, Operation,
};
pub use quota::{GetQuota, GetQuotaOutput, GetQuotaParams, ListTiers, ListTiersOutput, Tier};
pub use scan_jobs::{
    SCANNER_SECRET_HEADER, ScanJob, ScanMessage, ScanResult, SubscribeScanJobs, SubscribeScanJobsParams,
};
pub use stats::{SetStats, SetStatsInput, SetStatsOutput};
pub use upload::{
    AbortUpload, AbortUploadInput, AbortUploadOutput, AbortUploadStatus, Capabilities, Capability,
    CompleteUpload, CompleteUploadInput, CompleteUploadOutput, CompleteUploadStatus, CompletedPart,
    GetPartUploadUrl, GetPartUploadUrlInput, GetPartUploadUrlOutput, InitiateUpload, InitiateUploadInput,
    InitiateUploadOutput, PART_NUMBER_HEADER, PartMethod, PartUploadRequest, UPLOAD_ID_HEADER, UploadId,
    UploadName, UploadPart, UploadPartOutput,
};
pub use user_data::{
    DeleteUserData, DeleteUserDataOutput, ExportUserData, ExportUserDataOutput, ExportedCrew, ExportedLayer,
    ExportedPost, ExportedStats,
};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::syntax::Nsid;

/// A method of XRPC (specification, HTTP API, and Lexicon).
pub trait Method {
    /// Its name, the last part of its path.
    const NSID: &'static str;
    /// How it is called.
    const KIND: MethodKind;
    /// The names of the errors that it declares; any method may also answer with the general ones.
    const ERRORS: &'static [&'static str];
    /// The query of the URL.
    type Params: Serialize + DeserializeOwned;
    /// The body of the request.
    type Input: Serialize + DeserializeOwned;
    /// The body of the answer; of a subscription, a message.
    type Output: Serialize + DeserializeOwned;

    /// The name, parsed.
    fn nsid() -> Nsid {
        Self::NSID.parse().expect("the NSIDs of this crate are valid")
    }
}

/// How a method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodKind {
    /// With GET.
    Query,
    /// With POST.
    Procedure,
    /// As a web socket.
    Subscription,
}

/// No parameters, or an input or output without fields: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// Implements [`Method`] on a new empty type.
macro_rules! method {
    (
        $(#[$meta:meta])*
        $name:ident, $nsid:literal, $kind:ident, ($params:ty, $input:ty) -> $output:ty, [$($error:ident),*]
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;

        impl $crate::methods::Method for $name {
            const NSID: &'static str = $nsid;
            const KIND: $crate::methods::MethodKind = $crate::methods::MethodKind::$kind;
            const ERRORS: &'static [&'static str] = &[$($crate::methods::error_name::$error),*];
            type Params = $params;
            type Input = $input;
            type Output = $output;
        }
    };
}
use method;

/// An absent list, which Go writes as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
