use axum::extract::{Request, State};
use axum::response::Response;

use super::authorize::{Refusal, Visit};
use super::sign_in::read;
use crate::accounts::Pds;

/// Takes the owner's decision.
pub(super) async fn decide(State(pds): State<Pds>, request: Request) -> Response {
    match decision(&pds, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&pds),
    }
}

async fn decision(pds: &Pds, request: Request) -> Result<Response, Refusal> {
    let (parts, form) = read(request).await?;
    let visit = Visit::find(pds, &form, &parts.headers, true).await?;
    match (form.get("decision"), visit.request.did.clone()) {
        (Some("deny"), _) => Err(visit.refuse(pds, "access_denied", "The user rejected the request").await),
        // The page was shown for one account; another window may have chosen another one since.
        (Some("allow"), Some(did)) if form.get("did") == Some(did.as_str()) => visit.grant(pds, &did).await,
        (Some("allow"), _) => Ok(visit.next()),
        _ => Err(Refusal::page("The form is incomplete. Please start again.")),
    }
}
