use std::time::Duration;

/// How much of anything a registry accepts or gives at once. Every limit has a default that fits a public registry;
/// change single ones with `Limits { manifest_size: …, ..Limits::default() }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The size of a manifest in bytes; larger ones are 413. The specification asks for at least 4 MiB, the default.
    pub manifest_size: usize,
    /// How many requests of one principal may carry blob content at the same time, at this replica; more are 429.
    /// Default 128. All anonymous callers are one principal.
    pub concurrent_uploads: usize,
    /// How long an upload session lives without a step; each step begins it anew. Default 24 hours.
    pub upload_idle: Duration,
    /// How long a client may take for the next piece of a request body; then the request is cut. Default 60 seconds.
    pub body_idle: Duration,
    /// How long a request that carries no blob content may take until its answer begins; then it is 503. Default
    /// 2 minutes.
    pub request_time: Duration,
    /// How many referrers a page of the list has. Default 1,000. A page also ends near 4 MiB.
    pub referrers_page: usize,
    /// How many tags or repositories a page of the list has. Default 10,000.
    pub tags_page: usize,
    /// How many `tag` parameters a manifest PUT may have; more are 414. The specification asks for at least 10; default 64.
    pub tags_per_manifest: usize,
    /// How many ranges a blob GET may ask for; more are 400. Default 1,024.
    pub ranges: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_size: 4 << 20,
            concurrent_uploads: 128,
            upload_idle: Duration::from_hours(24),
            body_idle: Duration::from_secs(60),
            request_time: Duration::from_secs(120),
            referrers_page: 1000,
            tags_page: 10_000,
            tags_per_manifest: 64,
            ranges: 1024,
        }
    }
}

/// Whether a manifest may name content that is not in its repository (distribution specification, Pushing Manifests).
///
/// Foreign layers and a missing `subject` are accepted in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sparse {
    /// An index without some of its children: they may be elsewhere, or still to come. Default `true`.
    pub indexes: bool,
    /// An image without some of its blobs: a pull of it fails. Default `false`.
    pub images: bool,
}

impl Default for Sparse {
    fn default() -> Self {
        Self { indexes: true, images: false }
    }
}
