//! What an image's config says: how it runs and how it was made. Strangers wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atcr_core::StoreError;
use atcr_core::oci::{Digest, RepositoryName};
use atcr_core::syntax::Did;
use bytes::Bytes;
use moka::future::Cache;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::Semaphore;

use super::visitors::Content;
use super::words;

/// The largest config that is shown, in bytes.
const MAX_CONFIG: usize = 1024 * 1024;
/// How long a page waits for one.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a page does without one that could not be had.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// Questions to holds and PDSs at the same time: each one may bring a few megabytes.
const ASKED_AT_ONCE: usize = 32;
/// What is remembered, in bytes.
const REMEMBERED: u64 = 16 * 1024 * 1024;
/// Lines of a kind that a page shows.
const LINES: usize = 200;
/// Characters of a line that a page shows.
const WIDTH: usize = 500;

/// The configs and the pictures that pages have shown. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Configs {
    known: Cache<Digest, Arc<ImageConfig>>,
    /// Blobs of accounts that could not be had: whose they are is part of the name, as one owner may give what
    /// another does not.
    failed: Cache<(Did, Digest), ()>,
    pictures: Cache<(Did, String), Bytes>,
    no_pictures: Cache<(Did, String), ()>,
    questions: Arc<Semaphore>,
}

impl Default for Configs {
    fn default() -> Self {
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(256);
        Self {
            known: Cache::builder()
                .weigher(move |_, config: &Arc<ImageConfig>| size(config.bytes))
                .max_capacity(REMEMBERED)
                .build(),
            failed: Cache::builder().max_capacity(10_000).time_to_live(LEFT_ALONE).build(),
            pictures: Cache::builder()
                .weigher(move |_, picture: &Bytes| size(picture.len()))
                .max_capacity(REMEMBERED)
                .time_to_live(Duration::from_secs(3600))
                .build(),
            no_pictures: Cache::builder().max_capacity(10_000).time_to_live(LEFT_ALONE).build(),
            questions: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
        }
    }
}

impl Configs {
    /// The config with this digest; `None` when it cannot be had now or is none.
    pub(super) async fn config(
        &self,
        content: &dyn Content,
        owner: &Did,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Option<Arc<ImageConfig>> {
        let asked = (owner.clone(), *digest);
        if self.failed.contains_key(&asked) {
            return None;
        }
        let fetch = async {
            let blob = async {
                let _turn = self.questions.acquire().await.map_err(StoreError::internal)?;
                content.blob(owner, name, digest, MAX_CONFIG).await
            };
            let bytes =
                tokio::time::timeout(PATIENCE, blob).await.map_err(|_| None::<StoreError>)?.map_err(Some)?;
            if Digest::of(digest.algorithm(), &bytes) != *digest {
                return Err(None);
            }
            ImageConfig::read(&bytes).map(Arc::new).ok_or(None)
        };
        match self.known.try_get_with(*digest, fetch).await {
            Ok(config) => Some(config).filter(|config| !config.is_empty()),
            Err(error) => {
                let error: Option<&StoreError> = Option::as_ref(&error);
                tracing::debug!(%digest, ?error, "a config is not shown");
                self.failed.insert(asked, ()).await;
                None
            }
        }
    }

    /// A picture at the owner's PDS.
    pub(super) async fn picture(
        &self,
        content: &dyn Content,
        owner: &Did,
        cid: &str,
        limit: usize,
    ) -> Result<Bytes, StoreError> {
        let asked = (owner.clone(), cid.to_owned());
        if self.no_pictures.contains_key(&asked) {
            return Err(StoreError::NotFound("the picture".to_owned()));
        }
        let fetch = async {
            let _turn = self.questions.acquire().await.map_err(StoreError::internal)?;
            content.picture(owner, cid, limit).await
        };
        match self.pictures.try_get_with_by_ref(&asked, fetch).await {
            Ok(picture) => Ok(picture),
            Err(error) => {
                self.no_pictures.insert(asked, ()).await;
                Err(StoreError::unavailable("the picture", error.to_string()))
            }
        }
    }
}

/// The fields of an OCI image configuration that a page shows (image specification, config.md), each one cut to what a
/// page can hold. A field that is not what it should be counts as absent.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageConfig {
    #[serde(skip)]
    bytes: usize,
    pub(super) created: Option<String>,
    pub(super) author: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) user: Option<String>,
    pub(super) working_dir: Option<String>,
    pub(super) entrypoint: Vec<String>,
    pub(super) cmd: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) ports: Vec<String>,
    pub(super) volumes: Vec<String>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) history: Vec<Step>,
}

/// A step by which an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) created: Option<String>,
    pub(super) created_by: String,
    pub(super) is_empty: bool,
}

/// A field, or its default when it is something else.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Good(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Good(value) => value,
        Either::Other(_) => T::default(),
    })
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "lenient")]
    created: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    author: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    os: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    architecture: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    variant: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    config: Option<Running>,
    #[serde(default, deserialize_with = "lenient")]
    history: Vec<WireStep>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Running {
    #[serde(default, deserialize_with = "lenient")]
    user: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    working_dir: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(default, deserialize_with = "lenient")]
    volumes: BTreeMap<String, serde_json::Value>,
    #[serde(default, deserialize_with = "lenient")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct WireStep {
    #[serde(default, deserialize_with = "lenient")]
    created: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    created_by: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    comment: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    empty_layer: bool,
}

fn cut(text: &str) -> String {
    words::cut(text, WIDTH)
}

fn some(text: Option<String>) -> Option<String> {
    text.map(|text| cut(&text)).filter(|text| !text.is_empty())
}

fn lines(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    texts.into_iter().take(LINES).map(|text| cut(&text)).collect()
}

impl ImageConfig {
    fn read(bytes: &[u8]) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        let running = wire.config.unwrap_or_default();
        let platform: Vec<String> =
            [wire.os, wire.architecture, wire.variant].into_iter().filter_map(some).collect();
        Some(Self {
            bytes: bytes.len(),
            created: some(wire.created),
            author: some(wire.author),
            platform: (!platform.is_empty()).then(|| platform.join("/")),
            user: some(running.user),
            working_dir: some(running.working_dir),
            entrypoint: lines(running.entrypoint),
            cmd: lines(running.cmd),
            env: lines(running.env),
            ports: lines(running.exposed_ports.into_keys()),
            volumes: lines(running.volumes.into_keys()),
            labels: running
                .labels
                .into_iter()
                .take(LINES)
                .map(|(name, value)| (cut(&name), cut(&value)))
                .collect(),
            history: wire
                .history
                .into_iter()
                .take(LINES)
                .map(|step| Step {
                    created: some(step.created),
                    created_by: some(step.created_by).or(some(step.comment)).unwrap_or_default(),
                    is_empty: step.empty_layer,
                })
                .collect(),
        })
    }

    /// Whether there is nothing to show.
    fn is_empty(&self) -> bool {
        *self == Self { bytes: self.bytes, ..Self::default() }
    }

    /// What a container of the image runs, as one would type it.
    pub(super) fn command(&self) -> Option<String> {
        let words: Vec<&str> = self.entrypoint.iter().chain(&self.cmd).map(String::as_str).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_read_as_far_as_it_is_one() {
        let config = ImageConfig::read(
            br#"{"created": 7, "os": "linux", "architecture": "arm64", "unknown": [],
                 "config": {"Env": ["A=1", "B=2"], "Entrypoint": ["/app"], "Cmd": null, "ExposedPorts": {"80/tcp": {}},
                            "Labels": {"a": "b"}, "User": ["x"]},
                 "history": [{"created_by": "COPY app /app", "empty_layer": true}, {"comment": "made"}]}"#,
        )
        .unwrap();
        assert_eq!((config.created.as_ref(), config.user.as_ref()), (None, None));
        assert_eq!(config.platform.as_deref(), Some("linux/arm64"));
        assert_eq!((config.env.len(), config.command().as_deref()), (2, Some("/app")));
        assert_eq!(config.ports, ["80/tcp"]);
        assert_eq!(config.history[1].created_by, "made");
        assert!(config.history[0].is_empty);
        assert_eq!(ImageConfig::read(b"{}").unwrap().command(), None);
        assert!(ImageConfig::read(b"[1]").is_none_or(|config| config.is_empty()));
        assert!(ImageConfig::read(b"7").is_none() && ImageConfig::read(b"\x00").is_none());
    }

    #[test]
    fn what_is_long_is_cut() {
        let step = serde_json::json!({ "created_by": "x\u{1b}[0m".repeat(10_000) });
        let config = serde_json::json!({ "history": vec![step; 1000] });
        let config = ImageConfig::read(config.to_string().as_bytes()).unwrap();
        assert_eq!(config.history.len(), LINES);
        assert_eq!(config.history[0].created_by.chars().count(), WIDTH + 1);
        assert!(!config.history[0].created_by.contains('\u{1b}'));
    }
}
