//! What people do on pages and by the API, once it is known who they are.

use atcr_core::oci::{Digest, Reference, RepositoryName, Tag};
use atcr_core::records::{
    BlobRef, ManifestRecord, OciClient, ProfileRecord, Record, RepoPageRecord, StarRecord, StarSubject,
    TagRecord, page_rkey, star_rkey,
};
use atcr_core::syntax::{Datetime, Did, RecordKey};
use atcr_core::{AUDIT, StoreError};
use serde_json::{Map, Value, json};

use super::avatar::picture_type;
use super::error::PageError;
use super::path;
use super::ui::WebUi;
use super::visitors::{Person, Visitors};
use crate::index::Account;
use crate::oci::manifests::audit;

/// The longest description, in bytes (lexicon `io.atcr.repo.page`).
pub(super) const MAX_DESCRIPTION: usize = 100_000;
/// The largest picture, in bytes.
pub(super) const MAX_AVATAR: usize = 3_000_000;

/// What becomes of a repository's picture.
pub(super) enum Avatar {
    /// It stays what it is.
    Keep,
    /// It goes.
    Remove,
    /// It is this one.
    Set(&'static str, bytes::Bytes),
}

impl Avatar {
    /// A picture that somebody sent.
    pub(super) fn read(bytes: bytes::Bytes) -> Result<Self, PageError> {
        match picture_type(&bytes) {
            Some(media_type) => Ok(Self::Set(media_type, bytes)),
            None => Err(PageError::Invalid("The picture is no PNG, JPEG or WebP.".to_owned())),
        }
    }
}

/// What somebody chooses on the page of settings.
pub(super) struct Choices {
    pub(super) default_hold: Option<Did>,
    pub(super) auto_remove_untagged: bool,
    pub(super) client: Option<String>,
    /// One of the registry's names, or none when it is empty; `None` leaves it as it is.
    pub(super) registry_domain: Option<String>,
}

fn desk(ui: &WebUi) -> Result<&dyn Visitors, PageError> {
    ui.visitors().ok_or_else(|| PageError::NotFound("Nobody can sign in here.".to_owned()))
}

/// Refuses what is somebody else's.
pub(super) fn own(person: &Person, account: &Account) -> Result<(), PageError> {
    if person.did == account.did {
        return Ok(());
    }
    Err(PageError::Forbidden(format!(
        "This belongs to {}, and you are {}.",
        path::called(account),
        person.name()
    )))
}

async fn existing(ui: &WebUi, owner: &Did, name: &RepositoryName) -> Result<(), PageError> {
    match ui.index().repository(owner, name).await? {
        Some(_) => Ok(()),
        None => Err(PageError::NotFound(format!("There is no repository called {name}."))),
    }
}

/// Gives a star to a repository.
pub(super) async fn star(
    ui: &WebUi,
    person: &Person,
    owner: &Did,
    name: &RepositoryName,
) -> Result<(), PageError> {
    existing(ui, owner, name).await?;
    if !ui.index().has_starred(&person.did, owner, name).await?.is_empty() {
        return Ok(());
    }
    let record = StarRecord { subject: StarSubject::new(owner, name), created_at: Datetime::now() };
    let record = value(&record)?;
    let rkey = star_rkey(owner, name);
    let change = |_: Option<Value>| Some(record.clone());
    Ok(desk(ui)?.edit(&person.did, &StarRecord::collection(), &rkey, &change).await?)
}

/// Takes all stars of a person from a repository.
pub(super) async fn unstar(
    ui: &WebUi,
    person: &Person,
    owner: &Did,
    name: &RepositoryName,
) -> Result<(), PageError> {
    let mut keys = ui.index().has_starred(&person.did, owner, name).await?;
    let usual = star_rkey(owner, name).to_string();
    if !keys.contains(&usual) {
        keys.push(usual);
    }
    for key in keys {
        let Ok(rkey) = key.parse::<RecordKey>() else { continue };
        desk(ui)?.edit(&person.did, &StarRecord::collection(), &rkey, &|_| None).await?;
    }
    Ok(())
}

/// Removes a tag; the manifest stays.
pub(super) async fn delete_tag(
    ui: &WebUi,
    person: &Person,
    name: &RepositoryName,
    tag: &Tag,
) -> Result<(), PageError> {
    let access = WebUi::access(person, name.as_str())?;
    manifests(ui)?.delete_tag(&access, tag).await?;
    audit("manifest_deleted", &access, tag, []);
    Ok(())
}

/// Points a tag at a manifest that the repository has.
pub(super) async fn move_tag(
    ui: &WebUi,
    person: &Person,
    name: &RepositoryName,
    tag: &Tag,
    digest: &Digest,
) -> Result<(), PageError> {
    let access = WebUi::access(person, name.as_str())?;
    let manifest = manifests(ui)?.get(&access, &Reference::Digest(*digest)).await?;
    manifests(ui)?.put(&access, manifest, std::slice::from_ref(tag)).await?;
    audit("manifest_written", &access, digest, [tag.as_str()]);
    Ok(())
}

/// Removes a manifest. One that tags point at is removed `with_tags` only.
pub(super) async fn delete_manifest(
    ui: &WebUi,
    person: &Person,
    name: &RepositoryName,
    digest: &Digest,
    with_tags: bool,
) -> Result<(), PageError> {
    let tags = ui.index().tags_of(&person.did, name, digest).await?;
    if !with_tags && !tags.is_empty() {
        let tags: Vec<&str> = tags.iter().take(20).map(Tag::as_str).collect();
        return Err(PageError::Conflict(format!(
            "Tags point at this manifest: {}. Delete them first, or say that they go with it.",
            tags.join(", ")
        )));
    }
    let access = WebUi::access(person, name.as_str())?;
    manifests(ui)?.delete(&access, digest).await?;
    audit("manifest_deleted", &access, digest, []);
    Ok(())
}

fn manifests(ui: &WebUi) -> Result<&dyn atcr_core::ManifestStore, PageError> {
    ui.manifests().ok_or_else(|| PageError::NotFound("Nobody can sign in here.".to_owned()))
}

/// Writes what a repository's page says: a description that is empty goes, and without one what is there stays. What a newer program has put into the record stays.
pub(super) async fn write_page(
    ui: &WebUi,
    person: &Person,
    name: &RepositoryName,
    description: Option<&str>,
    avatar: Avatar,
) -> Result<(), PageError> {
    existing(ui, &person.did, name).await?;
    if let Some(length) = description.map(str::len).filter(|length| *length > MAX_DESCRIPTION) {
        return Err(PageError::Invalid(format!(
            "The description has {length} bytes; {MAX_DESCRIPTION} are the most."
        )));
    }
    let avatar = match avatar {
        Avatar::Keep => None,
        Avatar::Remove => Some(None),
        Avatar::Set(media_type, bytes) => {
            let uploaded = desk(ui)?.upload(&person.did, media_type, bytes).await;
            let mut blob: BlobRef = uploaded.map_err(|error| match error {
                StoreError::Denied(said) => PageError::Forbidden(format!(
                    "The picture was not taken; {said}. If you signed in long ago, sign out and in again to permit it."
                )),
                error => error.into(),
            })?;
            // Some servers answer with what they take the bytes for.
            media_type.clone_into(&mut blob.mime_type);
            Some(Some(value(&blob)?))
        }
    };
    let now = Datetime::now().to_string();
    let change = |before: Option<Value>| {
        let mut record = object(before, RepoPageRecord::NSID, &now);
        record.insert("repository".to_owned(), name.as_str().into());
        if let Some(description) = description {
            set(&mut record, "description", (!description.is_empty()).then(|| description.into()));
        }
        if let Some(avatar) = &avatar {
            set(&mut record, "avatar", avatar.clone());
        }
        record.insert("userEdited".to_owned(), true.into());
        record.insert("updatedAt".to_owned(), now.clone().into());
        Some(Value::Object(record))
    };
    Ok(desk(ui)?.edit(&person.did, &RepoPageRecord::collection(), &page_rkey(name), &change).await?)
}

/// Writes somebody's settings. What a newer program has put into the record stays.
pub(super) async fn write_settings(ui: &WebUi, person: &Person, choices: &Choices) -> Result<(), PageError> {
    let profile = ui.index().profile(&person.did).await?;
    if let Some(hold) = &choices.default_hold {
        let is_set = profile.is_some_and(|profile| profile.default_hold.as_ref() == Some(hold));
        let open = ui.index().holds_for(&person.did).await?;
        if !is_set && !open.iter().any(|choice| choice.hold == *hold) {
            return Err(PageError::Invalid(format!(
                "You cannot push to {hold}, as far as it is known here."
            )));
        }
    }
    let unknown = |client: &str| matches!(OciClient::from(client), OciClient::Other(_));
    if choices.client.as_deref().is_some_and(unknown) {
        return Err(PageError::Invalid("That is no client that a profile can name.".to_owned()));
    }
    let domain = choices.registry_domain.as_deref().map(|name| match name {
        "" => Ok(None),
        name => match ui.domains().iter().find(|domain| domain.is(name)) {
            Some(domain) => Ok(Some(domain.as_str().into())),
            None => Err(PageError::Invalid("The registry does not have this name.".to_owned())),
        },
    });
    let domain: Option<Option<Value>> = domain.transpose()?;
    let now = Datetime::now().to_string();
    let change = |before: Option<Value>| {
        let mut record = object(before, ProfileRecord::NSID, &now);
        if let Some(domain) = &domain {
            set(&mut record, "registryDomain", domain.clone());
        }
        set(&mut record, "defaultHold", choices.default_hold.as_ref().map(|hold| hold.as_str().into()));
        set(&mut record, "autoRemoveUntagged", choices.auto_remove_untagged.then(|| true.into()));
        set(&mut record, "ociClient", choices.client.clone().map(Value::from));
        record.insert("updatedAt".to_owned(), now.clone().into());
        Some(Value::Object(record))
    };
    let rkey = "self".parse().map_err(|_| PageError::Invalid("a key".to_owned()))?;
    Ok(desk(ui)?.edit(&person.did, &ProfileRecord::collection(), &rkey, &change).await?)
}

/// Removes every record of somebody that a registry has written, and their webhooks.
pub(super) async fn delete_everything(ui: &WebUi, person: &Person) -> Result<usize, PageError> {
    let collections = [
        TagRecord::collection(),
        ManifestRecord::collection(),
        StarRecord::collection(),
        RepoPageRecord::collection(),
        ProfileRecord::collection(),
    ];
    // First, as nobody is to be told of what follows.
    if let Some(webhooks) = ui.webhooks() {
        for (hook, _) in webhooks.list(&person.did).await? {
            webhooks.remove(&person.did, hook.id()).await?;
        }
    }
    let deleted = desk(ui)?.delete_all(&person.did, &collections).await?;
    tracing::info!(target: AUDIT, event = "records_deleted", did = %person.did, deleted);
    Ok(deleted)
}

fn value(record: &impl serde::Serialize) -> Result<Value, PageError> {
    serde_json::to_value(record).map_err(|error| PageError::Store(StoreError::internal(error)))
}

/// The record that is there, or a new one.
fn object(before: Option<Value>, nsid: &str, now: &str) -> Map<String, Value> {
    match before {
        Some(Value::Object(object)) => object,
        _ => Map::from_iter([("$type".to_owned(), json!(nsid)), ("createdAt".to_owned(), json!(now))]),
    }
}

fn set(record: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) => record.insert(name.to_owned(), value),
        None => record.remove(name),
    };
}
