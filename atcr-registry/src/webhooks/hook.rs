use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use super::WebhookError;

/// The longest address, in bytes.
const MAX_URL: usize = 2048;
/// The longest secret, in bytes.
const MAX_SECRET: usize = 256;

/// What a hook is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// The first scan of a manifest.
    ScanFirst,
    /// Every scan.
    ScanAll,
    /// A scan that found something else than the one before.
    ScanChanged,
    /// A tag points at another manifest.
    Push,
}

impl Trigger {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Push, Self::ScanFirst, Self::ScanAll, Self::ScanChanged];

    /// As it is written in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScanFirst => "scan:first",
            Self::ScanAll => "scan:all",
            Self::ScanChanged => "scan:changed",
            Self::Push => "push",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::ScanFirst => 1,
            Self::ScanAll => 2,
            Self::ScanChanged => 4,
            Self::Push => 8,
        }
    }
}

impl FromStr for Trigger {
    type Err = WebhookError;

    fn from_str(text: &str) -> Result<Self, WebhookError> {
        let found = Self::ALL.into_iter().find(|trigger| trigger.as_str() == text);
        found.ok_or_else(|| WebhookError::Trigger(text.chars().take(32).collect()))
    }
}

/// The things that a hook is told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Triggers(u8);

impl Triggers {
    /// Whether it is one of them.
    pub fn contains(self, trigger: Trigger) -> bool {
        self.0 & trigger.bit() != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Trigger> {
        Trigger::ALL.into_iter().filter(move |trigger| self.contains(*trigger))
    }

    /// Whether scans are among them.
    pub(super) fn has_scans(self) -> bool {
        self.0 & !Trigger::Push.bit() != 0
    }

    pub(super) fn bits(self) -> i64 {
        i64::from(self.0)
    }

    pub(super) fn from_bits(bits: i64) -> Self {
        Self(u8::try_from(bits & 15).unwrap_or_default())
    }
}

impl FromIterator<Trigger> for Triggers {
    fn from_iter<I: IntoIterator<Item = Trigger>>(triggers: I) -> Self {
        Self(triggers.into_iter().fold(0, |bits, trigger| bits | trigger.bit()))
    }
}

/// In what form a receiver wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Discord,
    Slack,
}

/// The address of a receiver. Whoever knows it can often send there, so that it is never shown whole.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(Url);

impl HookUrl {
    /// An address of https, or of http where the registry may call its own machine.
    pub fn parse(text: &str) -> Result<Self, WebhookError> {
        let bad = |why: &str| WebhookError::Url(why.to_owned());
        if text.len() > MAX_URL {
            return Err(bad("it has more than 2,048 bytes"));
        }
        let mut url = Url::parse(text.trim()).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
            return Err(bad("it does not begin with https:// and a host"));
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// Discord's and Slack's incoming webhooks have addresses of their own, by which they are known.
    pub(super) fn form(&self) -> Form {
        let (host, path) = (self.0.host_str().unwrap_or_default(), self.0.path());
        let is = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if (is("discord.com") || is("discordapp.com")) && path.starts_with("/api/") {
            // Discord takes the form of Slack there.
            return if path.ends_with("/slack") { Form::Slack } else { Form::Discord };
        }
        if host == "hooks.slack.com" || host == "hooks.slack-gov.com" { Form::Slack } else { Form::Json }
    }
}

/// Enough to know it again: the host, and the end of what is long.
impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = &self.0[url::Position::BeforePath..];
        let end = rest.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
        let end = if rest.len() > 24 { &rest[end..] } else { "" };
        write!(f, "{}/…{end}", self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookUrl({self})")
    }
}

/// What deliveries are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of at most 256 bytes; `None` when the text is empty.
    pub fn parse(text: &str) -> Result<Option<Self>, WebhookError> {
        if text.len() > MAX_SECRET {
            return Err(WebhookError::Secret(MAX_SECRET));
        }
        Ok((!text.is_empty()).then(|| Self(text.to_owned())))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A hook as somebody wants it.
#[derive(Debug, Clone)]
pub struct NewHook {
    /// Where to send.
    pub url: HookUrl,
    /// What to sign with, if anything.
    pub secret: Option<Secret>,
    /// What to tell of.
    pub triggers: Triggers,
}

/// Where a hook's deliveries go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) url: HookUrl,
    pub(super) secret: Option<Secret>,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Target {
    /// As it is encrypted.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let secret = self.secret.as_ref().map(|secret| secret.0.clone());
        serde_json::to_vec(&Plain { url: self.url.0.to_string(), secret })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Plain { url, secret } = serde_json::from_slice(bytes).ok()?;
        Some(Self { url: HookUrl::parse(&url).ok()?, secret: secret.map(Secret) })
    }
}

/// A hook of an account.
#[derive(Debug, Clone)]
pub struct Hook {
    pub(super) id: String,
    pub(super) triggers: Triggers,
    /// Nothing when it does not open with the configured key.
    pub(super) target: Option<Target>,
    pub(super) created_at: Timestamp,
    /// What was before is not told.
    pub(super) since: Timestamp,
    pub(super) off_since: Option<Timestamp>,
}

impl Hook {
    /// Its name in addresses.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is told of.
    pub fn triggers(&self) -> Triggers {
        self.triggers
    }

    /// Where it goes, as far as that is shown; nothing when the store's key is another one than it was.
    pub fn shown_url(&self) -> Option<String> {
        self.target.as_ref().map(|target| target.url.to_string())
    }

    /// Whether deliveries are signed.
    pub fn is_signed(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.secret.is_some())
    }

    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Since when it is switched off, because too much could not be delivered.
    pub fn off_since(&self) -> Option<Timestamp> {
        self.off_since
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryState {
    /// It is to be sent at this time.
    Waiting(Timestamp),
    /// The receiver has it.
    Delivered,
    /// Every attempt failed.
    GivenUp,
}

/// Something that was sent to a hook, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The same over all attempts.
    pub id: String,
    /// What it tells: a trigger, or `test`.
    pub event: String,
    /// When it came up.
    pub created_at: Timestamp,
    /// What became of it.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// What became of the last attempt, in words.
    pub answer: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_by_its_host_and_its_end() {
        for (url, shown) in [
            ("https://ci.example/hook", "https://ci.example/…"),
            ("https://ci.example:8443/hook?token=secret", "https://ci.example:8443/…"),
            (
                "https://discord.com/api/webhooks/123456789/AbCdEfGhIjKlMnOpQrStUvWxYz#x",
                "https://discord.com/…WxYz",
            ),
        ] {
            let url = HookUrl::parse(url).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("HookUrl({shown})"));
        }
    }

    #[test]
    fn what_is_no_address_of_the_web_is_refused() {
        for url in ["", "ci.example/hook", "ftp://ci.example/", "file:///etc/passwd", "data:,x", "https://"] {
            assert!(matches!(HookUrl::parse(url), Err(WebhookError::Url(_))), "{url}");
        }
        let long = format!("https://ci.example/{}", "x".repeat(MAX_URL));
        assert!(matches!(HookUrl::parse(&long), Err(WebhookError::Url(_))));
    }

    #[test]
    fn the_form_goes_by_the_host() {
        for (url, form) in [
            ("https://discord.com/api/webhooks/1/x", Form::Discord),
            ("https://ptb.discord.com/api/v10/webhooks/1/x", Form::Discord),
            ("https://discord.com/api/webhooks/1/x/slack", Form::Slack),
            ("https://hooks.slack.com/services/T/B/x", Form::Slack),
            ("https://notdiscord.com/api/webhooks/1/x", Form::Json),
            ("https://discord.com.example/api/webhooks/1/x", Form::Json),
            ("https://evil.example/hooks.slack.com", Form::Json),
        ] {
            assert_eq!(HookUrl::parse(url).unwrap().form(), form, "{url}");
        }
    }

    #[test]
    fn triggers_are_those_that_were_chosen() {
        let some: Triggers = [Trigger::Push, Trigger::ScanChanged].into_iter().collect();
        assert_eq!(some.bits(), 12);
        assert_eq!(Triggers::from_bits(12), some);
        assert!(some.contains(Trigger::Push) && !some.contains(Trigger::ScanAll) && some.has_scans());
        for trigger in Trigger::ALL {
            assert_eq!(trigger.as_str().parse::<Trigger>().unwrap(), trigger);
        }
        assert!("pull".parse::<Trigger>().is_err());
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        let target = Target {
            url: HookUrl::parse("https://ci.example/long-and-secret-path-of-a-hook").unwrap(),
            secret: Secret::parse("s3cret").unwrap(),
        };
        let shown = format!("{target:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("secret-path"), "{shown}");
        assert!(Secret::parse("").unwrap().is_none());
        assert!(matches!(Secret::parse(&"x".repeat(257)), Err(WebhookError::Secret(256))));
    }
}
