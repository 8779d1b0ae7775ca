//! What the pages show, as JSON: `/api/v1/`.

use atcr_core::oci::Digest;
use atcr_core::syntax::Did;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::PageError;
use super::path;
use super::repository::kind;
use super::ui::WebUi;
use crate::index::{Listed, ManifestEntry, PageRequest, RepositoryEntry, TagEntry, TagMove};

pub(super) fn router() -> Router<WebUi> {
    Router::new()
        .route("/openapi.json", get(describe))
        .route("/repositories", get(repositories))
        .route("/search", get(search))
        .route("/users/{owner}/repositories", get(of_owner))
        .route("/users/{owner}/stars", get(stars))
        .route("/repository", get(repository))
        .route("/tags", get(tags))
        .route("/history", get(history))
        .route("/manifests", get(manifests))
        .route("/manifest", get(manifest))
}

/// A failure, as JSON.
struct ApiError(PageError);

impl<E: Into<PageError>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let word = match self.0 {
            PageError::NotFound(_) => "NotFound",
            PageError::Invalid(_) => "InvalidRequest",
            PageError::Busy => "Busy",
            _ => "InternalServerError",
        };
        (self.0.status(), Json(json!({ "error": word, "message": self.0.message() }))).into_response()
    }
}

type Cached<T> = ([(http::HeaderName, &'static str); 1], Json<T>);
type Answer<T> = Result<Cached<T>, ApiError>;

fn answer<T>(body: T) -> Cached<T> {
    ([(CACHE_CONTROL, "public, max-age=5")], Json(body))
}

#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    q: String,
    sort: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Ask {
    fn page(&self) -> PageRequest {
        PageRequest { limit: self.limit, cursor: self.cursor.clone() }
    }
}

#[derive(Deserialize)]
struct Which {
    owner: String,
    repository: String,
    digest: Option<Digest>,
    tag: Option<atcr_core::oci::Tag>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Which {
    fn page(&self) -> PageRequest {
        PageRequest { limit: self.limit, cursor: self.cursor.clone() }
    }
}

#[derive(Serialize)]
struct List<T> {
    items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

fn list<A, B: From<A>>(listed: Listed<A>) -> List<B> {
    List { items: listed.items.into_iter().map(B::from).collect(), cursor: listed.next }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Repository {
    did: Did,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    name: String,
    last_push: Timestamp,
    stars: u64,
    pulls: u64,
    pushes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl From<RepositoryEntry> for Repository {
    fn from(entry: RepositoryEntry) -> Self {
        Self {
            did: entry.owner,
            handle: entry.handle.map(|handle| handle.to_string()),
            name: entry.name.to_string(),
            last_push: entry.last_push,
            stars: entry.stars,
            pulls: entry.pulls,
            pushes: entry.pushes,
            description: entry.description,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tagged {
    tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl From<TagEntry> for Tagged {
    fn from(entry: TagEntry) -> Self {
        Self {
            tag: entry.tag.to_string(),
            digest: entry.digest.map(|digest| digest.to_string()),
            updated_at: entry.updated_at,
            media_type: entry.media_type.map(|media_type| media_type.to_string()),
            size: entry.content_size,
        }
    }
}

#[derive(Serialize)]
struct Move {
    tag: String,
    digest: Option<String>,
    at: Timestamp,
    rev: String,
}

impl From<TagMove> for Move {
    fn from(moved: TagMove) -> Self {
        Self {
            tag: moved.tag.to_string(),
            digest: moved.digest.map(|digest| digest.to_string()),
            at: moved.at,
            rev: moved.rev.to_string(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    digest: String,
    kind: String,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    created_at: Timestamp,
    size: u64,
    layers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Did>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    rkey: String,
}

impl From<ManifestEntry> for Manifest {
    fn from(entry: ManifestEntry) -> Self {
        Self {
            kind: kind(&entry),
            digest: entry.digest.to_string(),
            media_type: entry.media_type.to_string(),
            artifact_type: entry.artifact_type,
            created_at: entry.created_at,
            size: entry.content_size,
            layers: entry.layer_count,
            hold: entry.hold,
            subject: entry.subject.map(|subject| subject.to_string()),
            rkey: entry.rkey,
        }
    }
}

async fn describe() -> Response {
    ([(CONTENT_TYPE, "application/json")], include_str!("../../templates/openapi.json")).into_response()
}

async fn repositories(State(ui): State<WebUi>, Query(ask): Query<Ask>) -> Answer<List<Repository>> {
    Ok(answer(list(match ask.sort.as_deref() {
        Some("popular") => ui.index().popular(&ask.page()).await?,
        None | Some("recent") => ui.index().recent(&ask.page()).await?,
        Some(_) => return Err(PageError::Invalid("sort is recent or popular".to_owned()).into()),
    })))
}

async fn search(State(ui): State<WebUi>, Query(ask): Query<Ask>) -> Answer<List<Repository>> {
    Ok(answer(list(ui.index().search(&ask.q, &ask.page()).await?)))
}

async fn of_owner(
    State(ui): State<WebUi>,
    Path(owner): Path<String>,
    Query(ask): Query<Ask>,
) -> Answer<List<Repository>> {
    let account = path::account(&ui, &owner).await?;
    Ok(answer(list(ui.index().repositories_of(&account.did, &ask.page()).await?)))
}

async fn stars(
    State(ui): State<WebUi>,
    Path(owner): Path<String>,
    Query(ask): Query<Ask>,
) -> Answer<List<Repository>> {
    let account = path::account(&ui, &owner).await?;
    Ok(answer(list(ui.index().starred_by(&account.did, &ask.page()).await?)))
}

async fn repository(State(ui): State<WebUi>, Query(which): Query<Which>) -> Answer<Repository> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    match ui.index().repository(&account.did, &name).await? {
        Some(entry) => Ok(answer(entry.into())),
        None => {
            Err(PageError::NotFound(format!("there is no repository {}/{name}", path::called(&account)))
                .into())
        }
    }
}

async fn tags(State(ui): State<WebUi>, Query(which): Query<Which>) -> Answer<List<Tagged>> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    Ok(answer(list(ui.index().tags_by_date(&account.did, &name, &which.page()).await?)))
}

async fn history(State(ui): State<WebUi>, Query(which): Query<Which>) -> Answer<List<Move>> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    Ok(answer(list(ui.index().history(&account.did, &name, which.tag.as_ref(), &which.page()).await?)))
}

async fn manifests(State(ui): State<WebUi>, Query(which): Query<Which>) -> Answer<List<Manifest>> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    Ok(answer(list(ui.index().manifests(&account.did, &name, &which.page()).await?)))
}

async fn manifest(State(ui): State<WebUi>, Query(which): Query<Which>) -> Answer<serde_json::Value> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    let Some(digest) = which.digest else {
        return Err(PageError::Invalid("digest is missing".to_owned()).into());
    };
    let (index, did) = (ui.index(), &account.did);
    let Some(entry) = index.manifest(did, &name, &digest).await? else {
        return Err(PageError::NotFound(format!("there is no manifest {digest} in {name}")).into());
    };
    let children = index.children(&entry).await?.into_iter().map(|child| {
        json!({
            "digest": child.digest.to_string(), "size": child.size, "mediaType": child.media_type,
            "os": child.os, "architecture": child.architecture, "variant": child.variant,
            "annotations": child.annotations,
        })
    });
    let children: Vec<_> = children.collect();
    let layers = index.layers(&entry).await?.into_iter().map(|layer| {
        json!({
            "digest": layer.digest.to_string(), "size": layer.size, "mediaType": layer.media_type,
            "isConfig": layer.is_config,
        })
    });
    let layers: Vec<_> = layers.collect();
    let tags: Vec<String> =
        index.tags_of(did, &name, &digest).await?.iter().map(ToString::to_string).collect();
    let referrers: Vec<Manifest> =
        index.referrers(did, &name, &digest).await?.into_iter().map(Manifest::from).collect();
    let annotations = entry.annotations.clone();
    Ok(answer(json!({
        "manifest": Manifest::from(entry), "annotations": annotations, "tags": tags, "layers": layers,
        "children": children, "referrers": referrers,
    })))
}
