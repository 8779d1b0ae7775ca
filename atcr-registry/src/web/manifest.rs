use std::sync::Arc;

use askama::Template;
use atcr_core::oci::RepositoryName;
use atcr_core::syntax::Did;
use axum::response::Response;
use http::StatusCode;
use url::Url;

use super::client::is_image;
use super::error::PageError;
use super::image_config::ImageConfig;
use super::page::{HoldState, Visitor, html};
use super::path;
use super::repository::{is_attestation, is_index, kind, platform, size_of_index};
use super::scan::ScanRow;
use super::ui::WebUi;
use super::words::{self, Moment};
use crate::index::{Account, Layer};

#[derive(Template)]
#[template(path = "manifest.html")]
struct Manifest {
    visitor: Visitor,
    image: String,
    owner: String,
    name: String,
    /// The path of the repository's page.
    path: String,
    digest: String,
    kind: String,
    media_type: String,
    created: Moment,
    size: Option<String>,
    content_size: Option<String>,
    hold: Option<HoldState>,
    subject: Option<String>,
    tags: Vec<String>,
    platforms: Vec<Row>,
    layers: Vec<Row>,
    referrers: Vec<Row>,
    scans: Vec<ScanRow>,
    annotations: Vec<(String, String)>,
    config: Option<Arc<ImageConfig>>,
    is_owner: bool,
    record: String,
    proof: Option<String>,
}

struct Row {
    what: String,
    digest: String,
    size: String,
}

/// `/r/{owner}/{repository}@{digest}`
pub(super) async fn show(
    ui: &WebUi,
    visitor: Visitor,
    owner: &str,
    name: &str,
    digest: &str,
) -> Result<Response, PageError> {
    let account = path::account(ui, owner).await?;
    let (name, digest) = (path::repository(name)?, path::digest(digest)?);
    let (index, did) = (ui.index(), &account.did);
    let Some(entry) = index.manifest(did, &name, &digest).await? else {
        return Err(PageError::NotFound(format!(
            "{}/{name} has no manifest {digest}.",
            path::called(&account)
        )));
    };
    let children = index.children(&entry).await?;
    let sizes = index.child_sizes(&entry).await?;
    let layers = index.layers(&entry).await?;
    let referrers = index.referrers(did, &name, &digest).await?;
    let scans = index.scans(did, &digest).await?;
    let tags = index.tags_of(did, &name, &digest).await?;
    let config = match layers.iter().find(|layer| layer.is_config && is_image(&layer.media_type)) {
        Some(layer) => config(ui, did, &name, layer).await,
        None => None,
    };
    let of = format!("{}/{name}@{digest}", path::segment(&path::called(&account)));
    let mut rows = Vec::with_capacity(scans.len());
    for scan in scans {
        rows.push(ScanRow::new(ui, scan, &of).await?);
    }
    let profile = ui.profile_of(&visitor).await?;
    let page = Manifest {
        is_owner: visitor.is(did),
        config,
        visitor,
        image: format!("{}/{}/{name}@{digest}", ui.host_for(profile.as_ref()), path::in_image(&account)),
        path: path::of_repository(&account, &name),
        owner: path::called(&account),
        name: name.to_string(),
        digest: digest.to_string(),
        kind: kind(&entry),
        media_type: entry.media_type.to_string(),
        created: Moment::new(entry.created_at),
        size: entry.size.map(words::bytes),
        content_size: if is_index(&entry.media_type) {
            Some(size_of_index(&children, &sizes))
        } else {
            Some(entry.content_size).filter(|size| *size > 0).map(words::bytes)
        },
        hold: entry.hold.as_ref().map(|hold| HoldState::new(ui, hold)),
        subject: entry.subject.as_ref().map(ToString::to_string),
        tags: tags.iter().map(ToString::to_string).collect(),
        platforms: children
            .iter()
            .map(|child| Row {
                what: if is_attestation(child) { "attestation".to_owned() } else { platform(child) },
                digest: child.digest.to_string(),
                // Of an image that is not known there is the size of its manifest, which says nothing.
                size: sizes.get(&child.digest).copied().map(words::bytes).unwrap_or_default(),
            })
            .collect(),
        layers: layers
            .into_iter()
            .map(|layer| Row {
                what: if layer.is_config { "config".to_owned() } else { layer.media_type },
                digest: layer.digest.to_string(),
                size: words::bytes(layer.size),
            })
            .collect(),
        referrers: referrers
            .iter()
            .map(|referrer| Row {
                what: kind(referrer),
                digest: referrer.digest.to_string(),
                size: words::bytes(referrer.content_size),
            })
            .collect(),
        scans: rows,
        record: format!("at://{did}/io.atcr.manifest/{}", entry.rkey),
        proof: proof(&account, &entry.rkey),
        annotations: entry.annotations.into_iter().collect(),
    };
    html(StatusCode::OK, &page)
}

/// What an image is made of, where it can be had.
pub(super) async fn config(
    ui: &WebUi,
    owner: &Did,
    name: &RepositoryName,
    layer: &Layer,
) -> Option<Arc<ImageConfig>> {
    ui.configs().config(ui.content()?, owner, name, &layer.digest).await
}

/// Where the owner's PDS proves that the record is in the repo that the owner has signed.
fn proof(account: &Account, rkey: &str) -> Option<String> {
    let mut url = Url::parse(account.pds.as_deref()?).ok()?;
    if !matches!(url.scheme(), "https" | "http") {
        return None;
    }
    url.set_path("/xrpc/com.atproto.sync.getRecord");
    url.query_pairs_mut()
        .append_pair("did", account.did.as_str())
        .append_pair("collection", "io.atcr.manifest")
        .append_pair("rkey", rkey);
    Some(url.into())
}
