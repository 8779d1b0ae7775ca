//! What the pages show, as JSON: `/api/v1/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use atcr_core::StoreError;
use atcr_core::oci::{Digest, RepositoryName, Tag};
use atcr_core::syntax::Did;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::{Json, Router};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actions::{self, Avatar, Choices, MAX_AVATAR};
use super::client::is_image;
use super::error::PageError;
use super::manifest::config;
use super::path;
use super::repository::kind;
use super::scan;
use super::ui::WebUi;
use super::visitors::Person;
use super::webhooks;
use crate::hold_health::Health;
use crate::index::{
    Account, HoldChoice, Listed, ManifestEntry, PageRequest, RepositoryEntry, Scan, TagEntry, TagMove,
};

pub(super) fn router() -> Router<WebUi> {
    Router::new()
        .route("/openapi.json", get(describe))
        .route("/repositories", get(repositories))
        .route("/search", get(search))
        .route("/users/{owner}/repositories", get(of_owner))
        .route("/users/{owner}/stars", get(stars))
        .route("/repository", get(repository).put(write_page))
        .route("/repository/avatar", put(set_avatar).delete(remove_avatar))
        .route("/star", get(has_starred).put(star).delete(unstar))
        .route("/tag", put(move_tag).delete(delete_tag))
        .route("/tags", get(tags))
        .route("/history", get(history))
        .route("/manifests", get(manifests))
        .route("/manifest", get(manifest).delete(delete_manifest))
        .route("/vulnerabilities", get(vulnerabilities))
        .route("/settings", get(settings).put(write_settings))
        .route("/records", delete(delete_records))
        .merge(webhooks::api())
}

/// A failure, as JSON.
pub(super) struct ApiError(PageError);

impl<E: Into<PageError>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.0.name(), "message": self.0.message() });
        (self.0.status(), Json(body)).into_response()
    }
}

pub(super) type Cached<T> = ([(http::HeaderName, &'static str); 1], Json<T>);
type Answer<T> = Result<Cached<T>, ApiError>;

fn answer<T>(body: T) -> Cached<T> {
    ([(CACHE_CONTROL, "public, max-age=5")], Json(body))
}

#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    q: String,
    sort: Option<String>,
}

#[derive(Deserialize)]
struct Which {
    owner: String,
    repository: String,
    digest: Option<Digest>,
    tag: Option<Tag>,
}

impl Which {
    fn digest(&self) -> Result<Digest, PageError> {
        self.digest.ok_or_else(|| PageError::Invalid("digest is missing".to_owned()))
    }

    fn tag(&self) -> Result<&Tag, PageError> {
        self.tag.as_ref().ok_or_else(|| PageError::Invalid("tag is missing".to_owned()))
    }
}

/// Which part of a list is wanted: taken from the same query by itself, since numbers cannot be read from inside of
/// another struct there.
#[derive(Deserialize)]
struct Part {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl From<Part> for PageRequest {
    fn from(part: Part) -> Self {
        Self { limit: part.limit, cursor: part.cursor }
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

async fn repositories(
    State(ui): State<WebUi>,
    Query(ask): Query<Ask>,
    Query(part): Query<Part>,
) -> Answer<List<Repository>> {
    Ok(answer(list(match ask.sort.as_deref() {
        Some("popular") => ui.index().popular(&part.into()).await?,
        None | Some("recent") => ui.index().recent(&part.into()).await?,
        Some(_) => return Err(PageError::Invalid("sort is recent or popular".to_owned()).into()),
    })))
}

async fn search(
    State(ui): State<WebUi>,
    Query(ask): Query<Ask>,
    Query(part): Query<Part>,
) -> Answer<List<Repository>> {
    Ok(answer(list(ui.index().search(&ask.q, &part.into()).await?)))
}

async fn of_owner(
    State(ui): State<WebUi>,
    Path(owner): Path<String>,
    Query(part): Query<Part>,
) -> Answer<List<Repository>> {
    let account = path::account(&ui, &owner).await?;
    Ok(answer(list(ui.index().repositories_of(&account.did, &part.into()).await?)))
}

async fn stars(
    State(ui): State<WebUi>,
    Path(owner): Path<String>,
    Query(part): Query<Part>,
) -> Answer<List<Repository>> {
    let account = path::account(&ui, &owner).await?;
    Ok(answer(list(ui.index().starred_by(&account.did, &part.into()).await?)))
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

async fn tags(
    State(ui): State<WebUi>,
    Query(which): Query<Which>,
    Query(part): Query<Part>,
) -> Answer<List<Tagged>> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    Ok(answer(list(ui.index().tags_by_date(&account.did, &name, &part.into()).await?)))
}

async fn history(
    State(ui): State<WebUi>,
    Query(which): Query<Which>,
    Query(part): Query<Part>,
) -> Answer<List<Move>> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    Ok(answer(list(ui.index().history(&account.did, &name, which.tag.as_ref(), &part.into()).await?)))
}

async fn manifests(
    State(ui): State<WebUi>,
    Query(which): Query<Which>,
    Query(part): Query<Part>,
) -> Answer<List<Manifest>> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    Ok(answer(list(ui.index().manifests(&account.did, &name, &part.into()).await?)))
}

async fn manifest(State(ui): State<WebUi>, Query(which): Query<Which>) -> Answer<serde_json::Value> {
    let account = path::account(&ui, &which.owner).await?;
    let name = path::repository(&which.repository)?;
    let digest = which.digest()?;
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
    let layers = index.layers(&entry).await?;
    let config = match layers.iter().find(|layer| layer.is_config && is_image(&layer.media_type)) {
        Some(layer) => config(&ui, did, &name, layer).await,
        None => None,
    };
    let layers = layers.into_iter().map(|layer| {
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
    let scans: Vec<_> = index.scans(did, &digest).await?.iter().map(scan).collect();
    let health = entry.hold.as_ref().and_then(|hold| health(&ui, hold));
    let sizes = index.child_sizes(&entry).await?;
    let mut entry = Manifest::from(entry);
    // An index has no blobs of its own.
    entry.size = sizes.values().fold(entry.size, |sum, size| sum.saturating_add(*size));
    Ok(answer(json!({
        "manifest": entry, "annotations": annotations, "tags": tags, "layers": layers,
        "children": children, "referrers": referrers, "config": config.as_deref(),
        "holdHealth": health, "scans": scans,
    })))
}

fn scan(scan: &Scan) -> serde_json::Value {
    let counts: BTreeMap<_, _> = scan::counts(scan).into_iter().collect();
    json!({
        "hold": scan.hold, "status": scan.status, "reason": scan.reason, "scanner": scan.scanner,
        "scannedAt": scan.scanned_at, "counts": counts, "report": scan.report, "sbom": scan.sbom,
    })
}

#[derive(Deserialize)]
struct OfHold {
    hold: Option<Did>,
}

async fn vulnerabilities(
    State(ui): State<WebUi>,
    Query(which): Query<Which>,
    Query(of): Query<OfHold>,
    Query(part): Query<Part>,
) -> Answer<serde_json::Value> {
    let account = path::account(&ui, &which.owner).await?;
    let (name, digest) = (path::repository(&which.repository)?, which.digest()?);
    if ui.index().manifest(&account.did, &name, &digest).await?.is_none() {
        return Err(PageError::NotFound(format!("there is no manifest {digest} in {name}")).into());
    }
    let scans = ui.index().scans(&account.did, &digest).await?;
    let (found, report) = scan::listed(&ui, scans, of.hold.as_ref()).await?;
    let Some(report) = report else {
        return Err(PageError::NotFound("the report has a form that is not known here".to_owned()).into());
    };
    let from = part.cursor.as_deref().map(str::parse::<usize>).transpose();
    let from = from.map_err(|_| PageError::Invalid("that is no cursor of this list".to_owned()))?;
    let (from, limit) = (from.unwrap_or_default(), part.limit.unwrap_or(100).clamp(1, 1000));
    let items: Vec<_> = report.findings.iter().skip(from).take(limit).collect();
    let next = from.saturating_add(limit);
    let cursor = (next < report.findings.len()).then(|| next.to_string());
    Ok(answer(json!({
        "scan": scan(&found), "total": report.total, "items": items, "cursor": cursor,
    })))
}

/// How a hold is, where it was asked lately.
fn health(ui: &WebUi, hold: &Did) -> Option<serde_json::Value> {
    let Health { answers, since, checked_at } = ui.health(hold)?;
    Some(json!({ "answers": answers, "since": since, "checkedAt": checked_at }))
}

/// Who changes something, and of what repository.
struct Acting {
    person: Person,
    account: Arc<Account>,
    name: RepositoryName,
}

/// Whoever is signed in, for a change that a page of this registry asks for, or a program that has its cookie. Browsers
/// send no PUT and no DELETE for another site, as nothing here permits that.
pub(super) async fn person(ui: &WebUi, headers: &HeaderMap) -> Result<Person, PageError> {
    ui.check_origin(headers)?;
    ui.person(headers, "/").await
}

impl Acting {
    async fn new(ui: &WebUi, headers: &HeaderMap, which: &Which) -> Result<Self, PageError> {
        let person = person(ui, headers).await?;
        let account = path::account(ui, &which.owner).await?;
        Ok(Self { person, account, name: path::repository(&which.repository)? })
    }

    async fn by_owner(ui: &WebUi, headers: &HeaderMap, which: &Which) -> Result<Self, PageError> {
        let acting = Self::new(ui, headers, which).await?;
        actions::own(&acting.person, &acting.account)?;
        Ok(acting)
    }
}

pub(super) type Done = Result<Cached<serde_json::Value>, ApiError>;

/// The answer to a change, and with what is somebody's own: nobody keeps it.
pub(super) fn done(body: serde_json::Value) -> Cached<serde_json::Value> {
    ([(CACHE_CONTROL, "private, no-store")], Json(body))
}

async fn has_starred(State(ui): State<WebUi>, Query(which): Query<Which>, headers: HeaderMap) -> Done {
    let person = ui.person(&headers, "/").await?;
    let (account, name) = (path::account(&ui, &which.owner).await?, path::repository(&which.repository)?);
    let starred = !ui.index().has_starred(&person.did, &account.did, &name).await?.is_empty();
    Ok(done(json!({ "starred": starred })))
}

async fn star(State(ui): State<WebUi>, headers: HeaderMap, Query(which): Query<Which>) -> Done {
    let Acting { person, account, name } = Acting::new(&ui, &headers, &which).await?;
    actions::star(&ui, &person, &account.did, &name).await?;
    Ok(done(json!({ "starred": true })))
}

async fn unstar(State(ui): State<WebUi>, headers: HeaderMap, Query(which): Query<Which>) -> Done {
    let Acting { person, account, name } = Acting::new(&ui, &headers, &which).await?;
    actions::unstar(&ui, &person, &account.did, &name).await?;
    Ok(done(json!({ "starred": false })))
}

async fn move_tag(State(ui): State<WebUi>, headers: HeaderMap, Query(which): Query<Which>) -> Done {
    let Acting { person, name, .. } = Acting::by_owner(&ui, &headers, &which).await?;
    let (tag, digest) = (which.tag()?, which.digest()?);
    actions::move_tag(&ui, &person, &name, tag, &digest).await?;
    Ok(done(json!({ "tag": tag, "digest": digest })))
}

async fn delete_tag(State(ui): State<WebUi>, headers: HeaderMap, Query(which): Query<Which>) -> Done {
    let Acting { person, name, .. } = Acting::by_owner(&ui, &headers, &which).await?;
    actions::delete_tag(&ui, &person, &name, which.tag()?).await?;
    Ok(done(json!({})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WithTags {
    with_tags: Option<bool>,
}

async fn delete_manifest(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Query(which): Query<Which>,
    Query(with): Query<WithTags>,
) -> Done {
    let Acting { person, name, .. } = Acting::by_owner(&ui, &headers, &which).await?;
    let with_tags = with.with_tags.unwrap_or_default();
    actions::delete_manifest(&ui, &person, &name, &which.digest()?, with_tags).await?;
    Ok(done(json!({})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageBody {
    description: String,
    #[serde(default)]
    remove_avatar: bool,
}

async fn write_page(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Query(which): Query<Which>,
    Json(body): Json<PageBody>,
) -> Done {
    let Acting { person, name, .. } = Acting::by_owner(&ui, &headers, &which).await?;
    let avatar = if body.remove_avatar { Avatar::Remove } else { Avatar::Keep };
    actions::write_page(&ui, &person, &name, Some(&body.description), avatar).await?;
    Ok(done(json!({})))
}

/// What is sent is the picture itself.
async fn set_avatar(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Query(which): Query<Which>,
    body: Body,
) -> Done {
    // Nothing is read of what nobody has sent, or somebody about what is not theirs.
    let Acting { person, name, .. } = Acting::by_owner(&ui, &headers, &which).await?;
    let limit = MAX_AVATAR as u64;
    let body = to_bytes(body, MAX_AVATAR).await.map_err(|_| StoreError::TooLarge { limit })?;
    let avatar = Avatar::read(body)?;
    actions::write_page(&ui, &person, &name, None, avatar).await?;
    Ok(done(json!({})))
}

async fn remove_avatar(State(ui): State<WebUi>, headers: HeaderMap, Query(which): Query<Which>) -> Done {
    let Acting { person, name, .. } = Acting::by_owner(&ui, &headers, &which).await?;
    actions::write_page(&ui, &person, &name, None, Avatar::Remove).await?;
    Ok(done(json!({})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SettingsBody {
    default_hold: Option<Did>,
    #[serde(default)]
    auto_remove_untagged: bool,
    oci_client: Option<String>,
    registry_domain: Option<String>,
}

async fn settings(State(ui): State<WebUi>, headers: HeaderMap) -> Done {
    let person = ui.person(&headers, "/").await?;
    let profile = ui.index().profile(&person.did).await?;
    let holds = ui.index().holds_for(&person.did).await?;
    let hold = |choice: HoldChoice| json!({ "did": choice.hold, "health": health(&ui, &choice.hold) });
    let holds: Vec<_> = holds.into_iter().map(hold).collect();
    Ok(done(json!({
        "did": person.did,
        "defaultHold": profile.as_ref().and_then(|profile| profile.default_hold.as_ref()),
        "autoRemoveUntagged": profile.as_ref().is_some_and(|profile| profile.auto_remove_untagged),
        "ociClient": profile.as_ref().and_then(|profile| profile.oci_client.as_ref()),
        "registryDomain": profile.as_ref().and_then(|profile| profile.registry_domain.as_ref()),
        "registryDomains": ui.domains(),
        "holds": holds,
    })))
}

async fn write_settings(State(ui): State<WebUi>, headers: HeaderMap, Json(body): Json<SettingsBody>) -> Done {
    let person = person(&ui, &headers).await?;
    let choices = Choices {
        default_hold: body.default_hold,
        auto_remove_untagged: body.auto_remove_untagged,
        client: body.oci_client,
        registry_domain: body.registry_domain,
    };
    actions::write_settings(&ui, &person, &choices).await?;
    Ok(done(json!({})))
}

#[derive(Deserialize)]
struct Confirm {
    confirm: Did,
}

async fn delete_records(State(ui): State<WebUi>, headers: HeaderMap, Query(ask): Query<Confirm>) -> Done {
    let person = person(&ui, &headers).await?;
    if ask.confirm != person.did {
        return Err(PageError::Invalid(format!("confirm must be {}", person.did)).into());
    }
    Ok(done(json!({ "deleted": actions::delete_everything(&ui, &person).await? })))
}
