use askama::Template;

/// Asks for the handle.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignInPage<'a> {
    pub(super) handle: &'a str,
    pub(super) return_to: &'a str,
    pub(super) error: Option<&'a str>,
}

/// Says who is signed in.
#[derive(Template)]
#[template(path = "account.html")]
pub(super) struct AccountPage<'a> {
    pub(super) name: &'a str,
    pub(super) did: &'a str,
    pub(super) csrf: &'a str,
}

/// Says that nobody is signed in any more.
#[derive(Template)]
#[template(path = "signed_out.html")]
pub(super) struct SignedOutPage;
