use askama::Template;
use atcr_core::syntax::Did;
use axum::extract::{Form, Query, State};
use axum::response::Response;
use http::header::{HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use url::Url;

use super::actions::{self, Choices};
use super::client::cookie;
use super::error::{PageError, see_other};
use super::page::{HoldState, Visitor, html};
use super::ui::WebUi;
use super::webhooks;
use super::words;
use crate::index::{HoldRelation, Profile};

/// The clients that a profile can name, in the order of the list.
const CLIENTS: [&str; 6] = ["docker", "podman", "buildah", "nerdctl", "crane", "none"];

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings {
    visitor: Visitor,
    saved: bool,
    did: String,
    holds: Vec<HoldOption>,
    clients: Vec<(&'static str, bool)>,
    domains: Vec<(String, bool)>,
    auto_remove_untagged: bool,
    devices: Option<String>,
    webhooks: Option<Vec<webhooks::Row>>,
    export: Option<String>,
}

struct HoldOption {
    did: String,
    what: String,
    chosen: bool,
}

#[derive(Deserialize)]
pub(super) struct Ask {
    saved: Option<String>,
}

/// `/settings`
pub(super) async fn show(
    State(ui): State<WebUi>,
    Query(ask): Query<Ask>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let person = ui.person(&headers, "/settings").await?;
    let profile = ui.index().profile(&person.did).await?;
    let chosen = profile.as_ref().and_then(|profile| profile.default_hold.clone());
    let holds = holds(&ui, &person.did, chosen).await?;
    let client = profile.as_ref().and_then(|profile| profile.oci_client.clone());
    let client = client.unwrap_or_else(|| CLIENTS[0].to_owned());
    let account = ui.index().account(&person.did).await?;
    let page = Settings {
        webhooks: webhooks::rows(&ui, &person).await?,
        visitor,
        saved: ask.saved.is_some(),
        export: account.and_then(|account| export(account.pds.as_deref()?, &person.did)),
        did: person.did.to_string(),
        holds,
        domains: domains(&ui, profile.as_ref()),
        clients: CLIENTS.map(|name| (name, name == client)).to_vec(),
        auto_remove_untagged: profile
            .is_some_and(|Profile { auto_remove_untagged, .. }| auto_remove_untagged),
        devices: ui.visitors().and_then(|visitors| visitors.devices_path()).map(str::to_owned),
    };
    html(StatusCode::OK, &page)
}

/// The holds that somebody can choose, and the one that they have chosen whatever it is.
async fn holds(ui: &WebUi, did: &Did, chosen: Option<Did>) -> Result<Vec<HoldOption>, PageError> {
    let mut holds: Vec<HoldOption> = ui
        .index()
        .holds_for(did)
        .await?
        .into_iter()
        .map(|choice| HoldOption {
            chosen: chosen.as_ref() == Some(&choice.hold),
            what: match choice.relation {
                HoldRelation::Captain => "yours",
                HoldRelation::Crew => "you are of its crew",
                HoldRelation::Open => "open to everybody",
            }
            .to_owned()
                + &choice.captain.region.map(|region| format!(", {region}")).unwrap_or_default()
                + &down(ui, &choice.hold),
            did: choice.hold.to_string(),
        })
        .collect();
    if let Some(chosen) = chosen
        && !holds.iter().any(|hold| hold.chosen)
    {
        let what =
            "your choice; whether you can push to it is not known here".to_owned() + &down(ui, &chosen);
        holds.insert(0, HoldOption { did: chosen.to_string(), what, chosen: true });
    }
    Ok(holds)
}

/// The names of the registry, when there is a choice.
fn domains(ui: &WebUi, profile: Option<&Profile>) -> Vec<(String, bool)> {
    let chosen = ui.host_for(profile);
    let domains = ui.domains().iter().map(|domain| (domain.to_string(), domain.as_str() == chosen)).collect();
    if ui.domains().len() > 1 { domains } else { Vec::new() }
}

/// What is to be said of a hold that does not answer.
fn down(ui: &WebUi, hold: &Did) -> String {
    let since = HoldState::new(ui, hold).down;
    since.map(|since| format!(", not answering since {}", words::clock(&since))).unwrap_or_default()
}

/// Where an account's PDS gives its whole repo to anybody, as a CAR file.
fn export(pds: &str, did: &Did) -> Option<String> {
    let mut url = Url::parse(pds).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    url.set_path("/xrpc/com.atproto.sync.getRepo");
    url.query_pairs_mut().append_pair("did", did.as_str());
    Some(url.into())
}

#[derive(Deserialize)]
pub(super) struct SettingsForm {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    hold: String,
    #[serde(default)]
    client: String,
    /// Not there where there is no choice.
    domain: Option<String>,
    auto_remove_untagged: Option<String>,
}

/// `POST /settings`
pub(super) async fn save(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<SettingsForm>,
) -> Result<Response, PageError> {
    let person = ui.person(&headers, "/settings").await?;
    ui.check_form(&headers, &person, &form.csrf)?;
    let hold = Some(form.hold.trim()).filter(|hold| !hold.is_empty()).map(str::parse::<Did>).transpose();
    let choices = Choices {
        default_hold: hold.map_err(|_| PageError::Invalid("That is no DID of a hold.".to_owned()))?,
        auto_remove_untagged: form.auto_remove_untagged.is_some(),
        registry_domain: form.domain,
        client: Some(form.client).filter(|client| !client.is_empty()),
    };
    actions::write_settings(&ui, &person, &choices).await?;
    let mut response = see_other("/settings?saved=1");
    // A client that was chosen on a page before is not what is wanted now.
    if let Ok(cookie) = HeaderValue::try_from(cookie(choices.client.as_deref())) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

#[derive(Deserialize)]
pub(super) struct DeleteForm {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    confirm: String,
}

/// `POST /settings/delete`: removes what this registry, or another one, has written to somebody's repo.
pub(super) async fn delete(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<DeleteForm>,
) -> Result<Response, PageError> {
    let person = ui.person(&headers, "/settings").await?;
    ui.check_form(&headers, &person, &form.csrf)?;
    if form.confirm.trim().trim_start_matches('@') != person.name() {
        return Err(PageError::Invalid(format!("To delete everything, type {}.", person.name())));
    }
    actions::delete_everything(&ui, &person).await?;
    Ok(see_other("/"))
}
