//! The webhooks of whoever is signed in: a part of the page of settings, and of the API.

use axum::extract::{Form, Path, State};
use axum::response::Response;
use axum::routing::{delete as delete_at, get, post};
use axum::{Json, Router};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{self, Done};
use super::error::{PageError, see_other};
use super::ui::WebUi;
use super::visitors::Person;
use super::words::Moment;
use crate::webhooks::{
    Delivery, DeliveryState, Hook, HookUrl, NewHook, Secret, Trigger, Triggers, WebhookError, Webhooks,
};

/// Where the page shows them.
const HERE: &str = "/settings#webhooks";

/// A webhook on the page.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) url: String,
    pub(super) triggers: Vec<&'static str>,
    pub(super) is_signed: bool,
    pub(super) off: Option<Moment>,
    pub(super) last: Option<Last>,
}

/// What became of the newest delivery.
pub(super) struct Last {
    pub(super) event: String,
    pub(super) at: Moment,
    pub(super) said: String,
}

impl From<Delivery> for Last {
    fn from(delivery: Delivery) -> Self {
        let state = match delivery.state {
            DeliveryState::Delivered => "delivered",
            DeliveryState::GivenUp => "not delivered",
            DeliveryState::Waiting(_) if delivery.attempts > 0 => "not delivered yet",
            _ => "on its way",
        };
        let said = match delivery.answer {
            Some(answer) => format!("{state} ({answer})"),
            None => state.to_owned(),
        };
        Self { event: delivery.event, at: Moment::new(delivery.created_at), said }
    }
}

/// What is on the page; `None` where nobody runs webhooks.
pub(super) async fn rows(ui: &WebUi, person: &Person) -> Result<Option<Vec<Row>>, PageError> {
    let Some(webhooks) = ui.webhooks() else { return Ok(None) };
    let row = |(hook, last): (Hook, Option<Delivery>)| Row {
        id: hook.id().to_owned(),
        url: hook.shown_url().unwrap_or_else(|| "an address that cannot be decrypted".to_owned()),
        triggers: hook.triggers().iter().map(Trigger::as_str).collect(),
        is_signed: hook.is_signed(),
        off: hook.off_since().map(Moment::new),
        last: last.map(Last::from),
    };
    Ok(Some(webhooks.list(&person.did).await?.into_iter().map(row).collect()))
}

fn webhooks(ui: &WebUi) -> Result<&Webhooks, PageError> {
    ui.webhooks().ok_or_else(|| PageError::NotFound("There are no webhooks here.".to_owned()))
}

/// The form by which one is added: a box that is not ticked is not sent.
#[derive(Deserialize)]
pub(super) struct AddForm {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    secret: String,
    push: Option<String>,
    scan_first: Option<String>,
    scan_changed: Option<String>,
    scan_all: Option<String>,
}

/// `POST /settings/webhooks`
pub(super) async fn add(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<AddForm>,
) -> Result<Response, PageError> {
    let person = ui.person(&headers, "/settings").await?;
    ui.check_form(&headers, &person, &form.csrf)?;
    let chosen = [
        (form.push, Trigger::Push),
        (form.scan_first, Trigger::ScanFirst),
        (form.scan_changed, Trigger::ScanChanged),
        (form.scan_all, Trigger::ScanAll),
    ];
    let triggers = chosen.into_iter().filter_map(|(ticked, trigger)| ticked.map(|_| trigger)).collect();
    webhooks(&ui)?.add(&person.did, wanted(&form.url, &form.secret, triggers)?).await?;
    Ok(see_other(HERE))
}

fn wanted(url: &str, secret: &str, triggers: Triggers) -> Result<NewHook, WebhookError> {
    Ok(NewHook { url: HookUrl::parse(url)?, secret: Secret::parse(secret)?, triggers })
}

#[derive(Deserialize)]
pub(super) struct HookForm {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    id: String,
}

/// `POST /settings/webhooks/test`
pub(super) async fn test(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<HookForm>,
) -> Result<Response, PageError> {
    let person = ui.person(&headers, "/settings").await?;
    ui.check_form(&headers, &person, &form.csrf)?;
    // The page says what became of it.
    webhooks(&ui)?.test(&person.did, &form.id).await?;
    Ok(see_other(HERE))
}

/// `POST /settings/webhooks/delete`
pub(super) async fn delete(
    State(ui): State<WebUi>,
    headers: HeaderMap,
    Form(form): Form<HookForm>,
) -> Result<Response, PageError> {
    let person = ui.person(&headers, "/settings").await?;
    ui.check_form(&headers, &person, &form.csrf)?;
    webhooks(&ui)?.remove(&person.did, &form.id).await?;
    Ok(see_other(HERE))
}

/// The same by the API.
pub(super) fn api() -> Router<WebUi> {
    Router::new()
        .route("/webhooks", get(list_json).post(add_json))
        .route("/webhooks/{id}", delete_at(delete_json))
        .route("/webhooks/{id}/test", post(test_json))
}

fn described(hook: &Hook, last: Option<&Delivery>) -> Value {
    json!({
        "id": hook.id(),
        "url": hook.shown_url(),
        "triggers": hook.triggers().iter().map(Trigger::as_str).collect::<Vec<_>>(),
        "signed": hook.is_signed(),
        "createdAt": hook.created_at(),
        "offSince": hook.off_since(),
        "lastDelivery": last.map(delivery),
    })
}

fn delivery(delivery: &Delivery) -> Value {
    let (state, next) = match delivery.state {
        DeliveryState::Waiting(next) => ("waiting", Some(next)),
        DeliveryState::Delivered => ("delivered", None),
        DeliveryState::GivenUp => ("givenUp", None),
    };
    json!({
        "id": delivery.id,
        "event": delivery.event,
        "createdAt": delivery.created_at,
        "state": state,
        "attempts": delivery.attempts,
        "nextAttemptAt": next,
        "answer": delivery.answer,
    })
}

async fn list_json(State(ui): State<WebUi>, headers: HeaderMap) -> Done {
    let person = ui.person(&headers, "/").await?;
    let hooks = webhooks(&ui)?.list(&person.did).await?;
    let hooks: Vec<_> = hooks.iter().map(|(hook, last)| described(hook, last.as_ref())).collect();
    Ok(api::done(json!({ "webhooks": hooks })))
}

#[derive(Deserialize)]
struct AddBody {
    #[serde(default)]
    url: String,
    #[serde(default)]
    triggers: Vec<String>,
    #[serde(default)]
    secret: String,
}

async fn add_json(State(ui): State<WebUi>, headers: HeaderMap, Json(body): Json<AddBody>) -> Done {
    let person = api::person(&ui, &headers).await?;
    let triggers: Result<Triggers, WebhookError> = body.triggers.iter().map(|name| name.parse()).collect();
    let hook = wanted(&body.url, &body.secret, triggers?)?;
    let hook = webhooks(&ui)?.add(&person.did, hook).await?;
    Ok(api::done(described(&hook, None)))
}

async fn delete_json(State(ui): State<WebUi>, headers: HeaderMap, Path(id): Path<String>) -> Done {
    let person = api::person(&ui, &headers).await?;
    webhooks(&ui)?.remove(&person.did, &id).await?;
    Ok(api::done(json!({})))
}

async fn test_json(State(ui): State<WebUi>, headers: HeaderMap, Path(id): Path<String>) -> Done {
    let person = api::person(&ui, &headers).await?;
    Ok(api::done(delivery(&webhooks(&ui)?.test(&person.did, &id).await?)))
}
