use askama::Template;

/// Asks for the code that the device shows.
#[derive(Template)]
#[template(path = "device_code.html")]
pub(super) struct CodePage<'a> {
    pub(super) typed: &'a str,
    pub(super) error: Option<&'a str>,
}

/// "May this device push to your account?"
#[derive(Template)]
#[template(path = "device.html")]
pub(super) struct ApprovePage<'a> {
    pub(super) account: &'a str,
    pub(super) device: &'a str,
    pub(super) address: &'a str,
    pub(super) user_code: &'a str,
    pub(super) csrf: &'a str,
}

/// What has been decided.
#[derive(Template)]
#[template(path = "device_done.html")]
pub(super) struct DonePage<'a> {
    pub(super) allowed: bool,
    pub(super) account: &'a str,
}

/// One line of the list.
pub(super) struct Line {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) created: String,
    pub(super) used: String,
}

/// The devices of an account.
#[derive(Template)]
#[template(path = "devices.html")]
pub(super) struct DevicesPage<'a> {
    pub(super) account: &'a str,
    pub(super) devices: &'a [Line],
    pub(super) csrf: &'a str,
}
