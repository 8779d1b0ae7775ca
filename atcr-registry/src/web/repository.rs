use std::collections::BTreeMap;

use askama::Template;
use atcr_core::oci::{Digest, MediaType, Reference, RepositoryName};
use atcr_core::syntax::Did;
use axum::response::Response;
use http::header::{HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::client::{Client, cookie, is_image};
use super::error::PageError;
use super::page::{HoldState, Visitor, html};
use super::ui::WebUi;
use super::words::{self, Moment};
use super::{markdown, path};
use crate::index::{Child, Lookup, ManifestEntry, PageRequest, TagEntry};

/// How many tags or moves a part of a list has.
const EACH: usize = 25;

#[derive(Template)]
#[template(path = "repository.html")]
struct Repository {
    visitor: Visitor,
    owner: String,
    name: String,
    /// The page's path, and its parts for other paths.
    path: String,
    of: String,
    /// The page's own address, and what is said of it elsewhere (Open Graph).
    address: String,
    summary: String,
    picture: Option<String>,
    card: Option<String>,
    is_owner: bool,
    has_starred: bool,
    description: String,
    stars: String,
    pulls: String,
    pushes: String,
    pushed: Moment,
    hold: Option<HoldState>,
    clients: &'static [Client],
    client: &'static Client,
    command: String,
    view: View,
    next: Option<String>,
}

enum View {
    Tags(Vec<TagRow>),
    Manifests(Vec<ManifestRow>),
    History(Vec<MoveRow>),
}

impl View {
    fn name(&self) -> &'static str {
        match self {
            Self::Tags(_) => "tags",
            Self::Manifests(_) => "manifests",
            Self::History(_) => "history",
        }
    }
}

struct TagRow {
    tag: String,
    digest: Option<String>,
    moved: Moment,
    size: Option<String>,
    platforms: Vec<String>,
}

struct ManifestRow {
    digest: String,
    kind: String,
    created: Moment,
    size: Option<String>,
    tags: Vec<String>,
}

struct MoveRow {
    tag: String,
    digest: Option<String>,
    at: Moment,
    rev: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    view: Option<String>,
    cursor: Option<String>,
    client: Option<String>,
    tag: Option<String>,
}

/// `/r/{owner}/{repository}`
pub(super) async fn show(
    ui: &WebUi,
    visitor: Visitor,
    owner: &str,
    name: &str,
    ask: Ask,
    headers: &HeaderMap,
) -> Result<Response, PageError> {
    let account = path::account(ui, owner).await?;
    let name = path::repository(name)?;
    let did = &account.did;
    let Some(entry) = ui.index().repository(did, &name).await? else {
        let owner = path::called(&account);
        return Err(PageError::NotFound(format!("{owner} has no repository called “{name}”.")));
    };
    let page = PageRequest { limit: Some(EACH), cursor: ask.cursor };
    let (view, next) = match ask.view.as_deref() {
        Some("manifests") => manifests(ui, did, &name, &page).await?,
        Some("history") => history(ui, did, &name, ask.tag.as_deref(), &page).await?,
        _ => tags(ui, did, &name, &page).await?,
    };
    let newest = newest(ui, did, &name).await?;
    let owner = path::called(&account);
    let profile = ui.profile_of(&visitor).await?;
    let image = format!("{}/{}/{name}", ui.host_for(profile.as_ref()), path::in_image(&account));
    let image = match &newest {
        Some((Some(tag), _)) => format!("{image}:{tag}"),
        Some((None, manifest)) => format!("{image}@{}", manifest.digest),
        None => image,
    };
    let of = format!("{}/{name}", path::segment(&owner));
    let path = format!("/r/{of}");
    let manifest = newest.map(|(_, manifest)| manifest);
    let artifact_type = manifest.as_ref().and_then(|manifest| manifest.artifact_type.as_deref());
    let clients = Client::all(artifact_type);
    let has_starred = match &visitor.person {
        Some(person) => !ui.index().has_starred(&person.did, did, &name).await?.is_empty(),
        None => false,
    };
    let preferred = profile.as_ref().and_then(|profile| profile.oci_client.as_deref());
    let client = Client::chosen(clients, ask.client.as_deref(), headers, preferred);
    // Its address changes with the picture, so that browsers may keep it.
    let picture = entry.avatar.filter(|_| ui.content().is_some());
    let picture = picture.map(|(cid, _)| format!("/avatar/{of}?{cid}"));
    let of_tag = ask.tag.as_deref().filter(|_| matches!(view, View::History(_)));
    let of_tag = of_tag.map(|tag| format!("&tag={tag}")).unwrap_or_default();
    let repository = Repository {
        is_owner: visitor.is(did),
        has_starred,
        visitor,
        address: ui.address(&path),
        summary: words::first_line(entry.description.as_deref().unwrap_or_default()),
        card: picture.as_ref().map(|picture| ui.address(picture)),
        picture,
        description: markdown::render(entry.description.as_deref().unwrap_or_default()),
        stars: words::counted(entry.stars, "star"),
        pulls: words::counted(entry.pulls, "pull"),
        pushes: if entry.pushes == 1 { "1 push".to_owned() } else { words::count(entry.pushes) + " pushes" },
        pushed: Moment::new(entry.last_push),
        hold: manifest.and_then(|manifest| manifest.hold).map(|hold| HoldState::new(ui, &hold)),
        clients,
        command: client.command(&image),
        client,
        next: next.map(|cursor| format!("{path}?view={}{of_tag}&cursor={cursor}", view.name())),
        path,
        of,
        owner,
        name: name.to_string(),
        view,
    };
    let mut response = html(StatusCode::OK, &repository)?;
    if ask.client.as_deref() == Some(client.name)
        && let Ok(cookie) = HeaderValue::try_from(cookie(Some(client.name)))
    {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// What a pull command names: `latest` where there is one, else the tag that moved last, else the manifest that came last.
async fn newest(
    ui: &WebUi,
    did: &Did,
    name: &RepositoryName,
) -> Result<Option<(Option<String>, ManifestEntry)>, PageError> {
    if let Ok(latest) = "latest".parse()
        && let Lookup::Found(found) = ui.index().lookup(did, name, &Reference::Tag(latest)).await?
        && let Some(manifest) = ui.index().manifest(did, name, &found.digest).await?
    {
        return Ok(Some((Some("latest".to_owned()), manifest)));
    }
    let tags = ui.index().tags_by_date(did, name, &PageRequest::first(1)).await?.items;
    if let Some(TagEntry { tag, digest: Some(digest), .. }) = tags.first()
        && let Some(manifest) = ui.index().manifest(did, name, digest).await?
    {
        return Ok(Some((Some(tag.to_string()), manifest)));
    }
    let manifests = ui.index().manifests(did, name, &PageRequest::first(1)).await?.items;
    Ok(manifests.into_iter().next().map(|manifest| (None, manifest)))
}

async fn tags(
    ui: &WebUi,
    did: &Did,
    name: &RepositoryName,
    page: &PageRequest,
) -> Result<(View, Option<String>), PageError> {
    let listed = ui.index().tags_by_date(did, name, page).await?;
    let mut rows = Vec::with_capacity(listed.items.len());
    for entry in listed.items {
        let size = entry.content_size.filter(|size| *size > 0).map(words::bytes);
        let (platforms, size) = match (&entry.digest, &entry.media_type) {
            (Some(digest), Some(media_type)) if is_index(media_type) => {
                match ui.index().manifest(did, name, digest).await? {
                    Some(index) => platforms(ui, &index).await?,
                    None => (Vec::new(), None),
                }
            }
            _ => (Vec::new(), size),
        };
        rows.push(TagRow {
            tag: entry.tag.to_string(),
            digest: entry.digest.map(|digest| digest.to_string()),
            moved: Moment::new(entry.updated_at),
            size,
            platforms,
        });
    }
    Ok((View::Tags(rows), listed.next))
}

/// The platforms of an index, and its size.
async fn platforms(ui: &WebUi, index: &ManifestEntry) -> Result<(Vec<String>, Option<String>), PageError> {
    let children = ui.index().children(index).await?;
    let size = size_of_index(&children, &ui.index().child_sizes(index).await?);
    Ok((children.iter().filter(|child| !is_attestation(child)).map(platform).collect(), Some(size)))
}

/// How large an index is: what its images have together, or how many they are when that is not known of each.
pub(super) fn size_of_index(children: &[Child], sizes: &BTreeMap<Digest, u64>) -> String {
    let images = children.iter().filter(|child| !is_attestation(child));
    let mut each = images.clone().map(|child| sizes.get(&child.digest));
    // Strangers wrote the sizes.
    match each.try_fold(0_u64, |sum, size| Some(sum.saturating_add(*size?))) {
        Some(size) if size > 0 => words::bytes(size),
        _ => format!("multi-platform, {}", words::counted(images.count() as u64, "platform")),
    }
}

/// `linux/arm64/v8`
pub(super) fn platform(child: &Child) -> String {
    let parts = [&child.os, &child.architecture, &child.variant];
    let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "any".to_owned() } else { parts.join("/") }
}

/// Whether BuildKit put it into the index to say something of another child.
pub(super) fn is_attestation(child: &Child) -> bool {
    child.annotations.contains_key("vnd.docker.reference.type")
}

async fn manifests(
    ui: &WebUi,
    did: &Did,
    name: &RepositoryName,
    page: &PageRequest,
) -> Result<(View, Option<String>), PageError> {
    let listed = ui.index().manifests(did, name, page).await?;
    let mut rows = Vec::with_capacity(listed.items.len());
    for entry in listed.items {
        let tags = ui.index().tags_of(did, name, &entry.digest).await?;
        let size = if is_index(&entry.media_type) {
            platforms(ui, &entry).await?.1
        } else {
            Some(entry.content_size).filter(|size| *size > 0).map(words::bytes)
        };
        rows.push(ManifestRow {
            kind: kind(&entry),
            created: Moment::new(entry.created_at),
            size,
            tags: tags.iter().map(ToString::to_string).collect(),
            digest: entry.digest.to_string(),
        });
    }
    Ok((View::Manifests(rows), listed.next))
}

/// What a manifest is, in a word or as its type says.
pub(super) fn kind(entry: &ManifestEntry) -> String {
    if is_index(&entry.media_type) {
        return "index".to_owned();
    }
    match entry.artifact_type.as_deref() {
        Some(other) if !is_image(other) => other.to_owned(),
        _ => "image".to_owned(),
    }
}

pub(super) fn is_index(media_type: &MediaType) -> bool {
    matches!(media_type.as_str(), MediaType::OCI_INDEX | MediaType::DOCKER_LIST)
}

async fn history(
    ui: &WebUi,
    did: &Did,
    name: &RepositoryName,
    tag: Option<&str>,
    page: &PageRequest,
) -> Result<(View, Option<String>), PageError> {
    let tag = tag.and_then(|tag| tag.parse().ok());
    let listed = ui.index().history(did, name, tag.as_ref(), page).await?;
    let rows = listed.items.into_iter().map(|moved| MoveRow {
        tag: moved.tag.to_string(),
        digest: moved.digest.map(|digest| digest.to_string()),
        at: Moment::new(moved.at),
        rev: moved.rev.to_string(),
    });
    Ok((View::History(rows.collect()), listed.next))
}
