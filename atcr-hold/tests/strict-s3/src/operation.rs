use http::Method;
use http::request::Parts;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of S3's API")]
pub enum Operation {
    AbortMultipartUpload,
    CompleteMultipartUpload,
    CopyObject,
    CreateMultipartUpload,
    DeleteObject,
    GetObject,
    HeadObject,
    ListMultipartUploads,
    ListObjects,
    ListParts,
    PutObject,
    UploadPart,
    UploadPartCopy,
    Other,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// What it asked for.
    pub operation: Operation,
    /// Its path, decoded no further.
    pub path: String,
    /// Whether it was signed in its URL.
    pub presigned: bool,
    /// How many bytes of a body came.
    pub received: u64,
    /// How many bytes of a body went back.
    pub sent: u64,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
}

impl Operation {
    pub(crate) fn of(request: &Parts) -> Self {
        let query = request.uri.query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let copies = request.headers.contains_key("x-amz-copy-source");
        let (upload, uploads, list) = (has("uploadId"), has("uploads"), has("list-type"));
        match request.method {
            Method::PUT if upload && copies => Self::UploadPartCopy,
            Method::PUT if upload => Self::UploadPart,
            Method::PUT if copies => Self::CopyObject,
            Method::PUT => Self::PutObject,
            Method::POST if uploads => Self::CreateMultipartUpload,
            Method::POST if upload => Self::CompleteMultipartUpload,
            Method::DELETE if upload => Self::AbortMultipartUpload,
            Method::DELETE => Self::DeleteObject,
            Method::GET if upload => Self::ListParts,
            Method::GET if uploads => Self::ListMultipartUploads,
            Method::GET if list => Self::ListObjects,
            Method::GET => Self::GetObject,
            Method::HEAD => Self::HeadObject,
            _ => Self::Other,
        }
    }
}
