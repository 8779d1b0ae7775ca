use axum::extract::{Form, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::WebSignIn;
use super::begin::see_other;
use super::pages::{AccountPage, SignedOutPage};
use super::problem::Problem;
use crate::browser::ReturnTo;
use crate::pages::{self, Forms};

#[derive(Debug, Deserialize)]
pub(super) struct SignOut {
    #[serde(default)]
    csrf: String,
    /// This browser only.
    here: Option<String>,
}

/// Who is signed in.
pub(super) async fn account(State(this): State<WebSignIn>, headers: HeaderMap) -> Response {
    match this.browsers.signed_in(&headers).await {
        Ok(Some(signed_in)) => {
            let page = AccountPage {
                name: signed_in.name(),
                did: signed_in.did().as_str(),
                csrf: &signed_in.form_token(),
            };
            pages::show(StatusCode::OK, &page, Forms::Here)
        }
        Ok(None) => see_other(&this.browsers.login_path(&ReturnTo::fixed("/auth/account"))),
        Err(error) => Problem::from(error).page(),
    }
}

pub(super) async fn sign_out(
    State(this): State<WebSignIn>,
    headers: HeaderMap,
    Form(form): Form<SignOut>,
) -> Response {
    match this.end(&headers, &form).await {
        Ok(response) => response,
        Err(problem) => problem.page(),
    }
}

impl WebSignIn {
    async fn end(&self, headers: &HeaderMap, form: &SignOut) -> Result<Response, Problem> {
        let Some(signed_in) = self.browsers.signed_in(headers).await? else {
            return Ok(signed_out());
        };
        signed_in.check_form(headers, &form.csrf)?;
        let cookie = self.browsers.forget(headers).await?;
        if form.here.is_none() {
            self.browsers.forget_account(signed_in.did()).await?;
            self.sessions.sign_out(signed_in.did()).await?;
        }
        let mut response = signed_out();
        response.headers_mut().insert(header::SET_COOKIE, cookie);
        Ok(response)
    }
}

fn signed_out() -> Response {
    pages::show(StatusCode::OK, &SignedOutPage, Forms::Here)
}
