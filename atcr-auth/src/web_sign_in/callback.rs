use atcr_core::AUDIT;
use atcr_core::syntax::AtIdentifier;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, header};
use url::form_urlencoded;

use super::WebSignIn;
use super::begin::{STATE, Underway, see_other};
use super::problem::Problem;
use crate::browser::{ReturnTo, Secret};
use crate::oauth::Pending;
use crate::pds_session::Opened;

pub(super) async fn callback(
    State(this): State<WebSignIn>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match this.finish(query.as_deref().unwrap_or_default(), &headers).await {
        Ok(response) => response,
        Err(problem) => problem.page(),
    }
}

/// The parameters of an answer (RFC 6749 section 4.1.2). One that comes twice counts as none.
struct Answer<'a>(Vec<(std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>);

impl Answer<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_ref());
        values.next().filter(|_| values.next().is_none())
    }
}

impl WebSignIn {
    async fn finish(&self, query: &str, headers: &HeaderMap) -> Result<Response, Problem> {
        let answer = Answer(form_urlencoded::parse(query.as_bytes()).collect());
        let state = answer.get("state").and_then(Secret::read).ok_or(Problem::UnknownState)?;
        // Whatever comes of it, a state is good for one answer.
        let kept = self.store.take(state.row(STATE), self.clock.unix()).await?;
        let kept = kept.ok_or(Problem::UnknownState)?;
        let Underway { pending, return_to, browser } =
            serde_json::from_slice(&kept).map_err(|_| Problem::UnknownState)?;
        let did = pending.did.clone();
        let done = self.conclude(&answer, pending, &return_to, browser, headers).await;
        if let Err(problem) = &done {
            let reason = problem.name();
            tracing::info!(target: AUDIT, event = "sign_in_failed", %did, way = "oauth", reason);
        }
        done
    }

    /// Ends the sign-in that an answer belongs to.
    async fn conclude(
        &self,
        answer: &Answer<'_>,
        pending: Pending,
        return_to: &str,
        browser: [u8; 32],
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        if self.cookie.read(headers).is_none_or(|sent| sent.row("sign-in").0 != browser) {
            return Err(Problem::ForeignBrowser);
        }
        // RFC 9207: another server's answer must not be taken for this one's.
        if answer.get("iss") != Some(&pending.issuer) {
            return Err(Problem::OtherServer(pending.issuer));
        }
        if let Some(error) = answer.get("error") {
            let text = answer.get("error_description").unwrap_or(error);
            return Err(Problem::Denied(text.chars().filter(|c| !c.is_control()).take(256).collect()));
        }
        let code = answer.get("code").filter(|code| !code.is_empty()).ok_or(Problem::NoCode)?;
        let base = self.sessions.oauth().ok_or(Problem::NotConfigured)?.registration().base();
        let return_to = ReturnTo::parse(return_to, base).unwrap_or_else(|| ReturnTo::fixed("/auth/account"));
        let did = pending.did.clone();
        // The account may have moved to another server since.
        if self.sessions.identities().pds(&did).await? != pending.pds {
            return Err(Problem::OtherServer(pending.issuer));
        }
        match self.sessions.open_oauth(pending, code).await? {
            Opened::Account(account) => {
                let cookie = self.browsers.sign_in(headers, &account).await?;
                let mut response = see_other(return_to.as_str());
                response.headers_mut().insert(header::SET_COOKIE, cookie);
                Ok(response)
            }
            Opened::AskFor(ask) => self.start(&AtIdentifier::Did(did), &return_to, Some(ask), headers).await,
        }
    }
}
