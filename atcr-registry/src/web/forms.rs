//! The forms on the pages of repositories and manifests. Each one is done, and its page is shown anew.

use std::sync::Arc;

use atcr_core::oci::{Digest, RepositoryName, Tag};
use axum::extract::{Form, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;

use super::actions;
use super::error::{PageError, see_other};
use super::path;
use super::ui::WebUi;
use super::visitors::Person;
use crate::index::Account;

/// What every one of these forms says.
#[derive(Deserialize)]
pub(super) struct Of {
    #[serde(default)]
    csrf: String,
    owner: String,
    repository: String,
}

/// Who sent a form, about what.
struct Sent {
    person: Person,
    account: Arc<Account>,
    name: RepositoryName,
}

impl Sent {
    async fn new(ui: &WebUi, headers: &HeaderMap, of: &Of) -> Result<Self, PageError> {
        let account = path::account(ui, &of.owner).await?;
        let name = path::repository(&of.repository)?;
        let person = ui.person(headers, &path::of_repository(&account, &name)).await?;
        ui.check_form(headers, &person, &of.csrf)?;
        Ok(Self { person, account, name })
    }

    /// The same, for what its owner may do.
    async fn by_owner(ui: &WebUi, headers: &HeaderMap, of: &Of) -> Result<Self, PageError> {
        let sent = Self::new(ui, headers, of).await?;
        actions::own(&sent.person, &sent.account)?;
        Ok(sent)
    }

    /// Back to the repository, or to its owner when nothing is left of it.
    async fn back(&self, ui: &WebUi, view: &str) -> Result<Response, PageError> {
        if ui.index().repository(&self.account.did, &self.name).await?.is_none() {
            return Ok(see_other(&format!("/u/{}", path::segment(&path::called(&self.account)))));
        }
        Ok(see_other(&format!("{}{view}", path::of_repository(&self.account, &self.name))))
    }
}

#[derive(Deserialize)]
pub(super) struct StarForm {
    #[serde(flatten)]
    of: Of,
    on: Option<String>,
}

/// `POST /actions/star`: with `on=1` a star is given, without it is taken back.
pub(super) async fn star(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<StarForm>,
) -> Result<Response, PageError> {
    let sent = Sent::new(&ui, &headers, &form.of).await?;
    if form.on.is_some() {
        actions::star(&ui, &sent.person, &sent.account.did, &sent.name).await?;
    } else {
        actions::unstar(&ui, &sent.person, &sent.account.did, &sent.name).await?;
    }
    sent.back(&ui, "").await
}

#[derive(Deserialize)]
pub(super) struct TagForm {
    #[serde(flatten)]
    of: Of,
    tag: String,
    digest: Option<String>,
}

fn tag(text: &str) -> Result<Tag, PageError> {
    text.parse().map_err(|_| PageError::Invalid("That is no tag.".to_owned()))
}

/// `POST /actions/delete-tag`
pub(super) async fn delete_tag(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<TagForm>,
) -> Result<Response, PageError> {
    let sent = Sent::by_owner(&ui, &headers, &form.of).await?;
    actions::delete_tag(&ui, &sent.person, &sent.name, &tag(&form.tag)?).await?;
    sent.back(&ui, "").await
}

/// `POST /actions/move-tag`: a tag goes back to where it was, or to another manifest of the repository.
pub(super) async fn move_tag(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<TagForm>,
) -> Result<Response, PageError> {
    let sent = Sent::by_owner(&ui, &headers, &form.of).await?;
    let digest = path::digest(form.digest.as_deref().unwrap_or_default())?;
    actions::move_tag(&ui, &sent.person, &sent.name, &tag(&form.tag)?, &digest).await?;
    sent.back(&ui, "?view=history").await
}

#[derive(Deserialize)]
pub(super) struct ManifestForm {
    #[serde(flatten)]
    of: Of,
    digest: String,
    with_tags: Option<String>,
}

/// `POST /actions/delete-manifest`
pub(super) async fn delete_manifest(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<ManifestForm>,
) -> Result<Response, PageError> {
    let sent = Sent::by_owner(&ui, &headers, &form.of).await?;
    let digest: Digest = path::digest(&form.digest)?;
    actions::delete_manifest(&ui, &sent.person, &sent.name, &digest, form.with_tags.is_some()).await?;
    sent.back(&ui, "?view=manifests").await
}
