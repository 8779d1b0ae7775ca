//! What receivers are sent.

use atcr_core::oci::{Digest, RepositoryName, Tag};
use atcr_core::records::SeverityCounts;
use atcr_core::syntax::Did;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::hook::Form;

/// Something that is told, as it is kept until it was sent: public, and the same at every attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Event {
    Push(Push),
    Scan(Scan),
    Test(Test),
}

/// An account, as a payload calls it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) did: Did,
    pub(super) handle: Option<String>,
}

impl Owner {
    fn name(&self) -> &str {
        self.handle.as_deref().unwrap_or(self.did.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Push {
    pub(super) owner: Owner,
    pub(super) repository: RepositoryName,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
    pub(super) pushed_at: Timestamp,
    pub(super) media_type: Option<String>,
    pub(super) stars: u64,
    pub(super) pulls: u64,
    pub(super) hold: Option<Hold>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Hold {
    pub(super) did: Did,
    pub(super) endpoint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Scan {
    /// `scan:first`, `scan:changed` or `scan:all`.
    pub(super) trigger: String,
    pub(super) owner: Owner,
    pub(super) repository: RepositoryName,
    pub(super) tag: Option<Tag>,
    pub(super) digest: Digest,
    pub(super) hold: Hold,
    pub(super) scanned_at: Timestamp,
    pub(super) scanner: String,
    pub(super) counts: SeverityCounts,
    /// What the scan before found, where this one found something else.
    pub(super) previous: Option<SeverityCounts>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Test {
    pub(super) owner: Owner,
}

/// The event that a test is called.
pub(super) const TEST: &str = "test";

/// What an attempt adds: signed with the rest, so that neither can be exchanged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) delivery: &'a str,
    pub(super) sent_at: Timestamp,
    /// Where the registry's pages are.
    pub(super) base: &'a Url,
}

impl Event {
    /// What it is called in headers.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Push(_) => super::Trigger::Push.as_str(),
            Self::Scan(scan) => &scan.trigger,
            Self::Test(_) => TEST,
        }
    }

    /// The body of a request.
    pub(super) fn body(&self, form: Form, attempt: Attempt<'_>) -> Vec<u8> {
        let value = match form {
            Form::Json => self.json(attempt),
            Form::Discord => self.message(attempt).discord(),
            Form::Slack => self.message(attempt).slack(),
        };
        value.to_string().into_bytes()
    }

    fn json(&self, attempt: Attempt<'_>) -> serde_json::Value {
        let mut body = match self {
            Self::Push(push) => push.json(attempt.base),
            Self::Scan(scan) => scan.json(),
            Self::Test(Test { owner }) => json!({ "userDid": owner.did, "userHandle": owner.handle }),
        };
        body["trigger"] = self.name().into();
        body["delivery"] = attempt.delivery.into();
        body["sent_at"] = exact(attempt.sent_at).into();
        body
    }

    fn message(&self, attempt: Attempt<'_>) -> Message {
        match self {
            Self::Push(push) => Message {
                title: format!("{}/{}:{} was pushed", push.owner.name(), push.repository, push.tag),
                url: page(attempt.base, &push.owner, &push.repository, Some(&push.digest)),
                facts: vec![
                    ("Digest", push.digest.to_string()),
                    ("Hold", push.hold.as_ref().map(|hold| hold.did.to_string()).unwrap_or_default()),
                ],
                at: push.pushed_at,
                color: BLUE,
            },
            Self::Scan(scan) => scan.message(attempt.base),
            Self::Test(test) => Message {
                title: format!("A test of a webhook of {}", test.owner.name()),
                url: attempt.base.join("/settings").map(String::from).unwrap_or_default(),
                facts: Vec::new(),
                at: attempt.sent_at,
                color: BLUE,
            },
        }
    }
}

impl Push {
    fn json(&self, base: &Url) -> serde_json::Value {
        let Self { owner, repository, tag, digest, .. } = self;
        json!({
            "push_data": {
                "pushed_at": exact(self.pushed_at),
                "pusher": owner.name(),
                "pusher_did": owner.did,
                "tag": tag,
                "digest": digest,
            },
            "repository": {
                "name": repository,
                "namespace": owner.name(),
                "repo_name": format!("{}/{repository}", owner.name()),
                "repo_url": page(base, owner, repository, None),
                "media_type": self.media_type,
                "star_count": self.stars,
                "pull_count": self.pulls,
            },
            "hold": self.hold.as_ref().map(|hold| json!({ "did": hold.did, "endpoint": hold.endpoint })),
        })
    }
}

impl Scan {
    fn json(&self) -> serde_json::Value {
        let mut body = json!({
            "holdDid": self.hold.did,
            "holdEndpoint": self.hold.endpoint,
            "manifest": {
                "digest": self.digest,
                "repository": self.repository,
                "tag": self.tag,
                "userDid": self.owner.did,
                "userHandle": self.owner.handle,
            },
            "scan": {
                "scannedAt": exact(self.scanned_at),
                "scannerVersion": self.scanner,
                "vulnerabilities": self.counts,
            },
        });
        if let Some(previous) = self.previous {
            body["previous"] = json!(previous);
        }
        body
    }

    fn message(&self, base: &Url) -> Message {
        let name = match &self.tag {
            Some(tag) => format!("{}/{}:{tag}", self.owner.name(), self.repository),
            None => format!("{}/{}", self.owner.name(), self.repository),
        };
        let mut facts = vec![("Found", said(self.counts))];
        facts.extend(self.previous.map(|previous| ("Before", said(previous))));
        facts.push(("Digest", self.digest.to_string()));
        facts.push(("Scanner", self.scanner.clone()));
        let color = match self.counts {
            SeverityCounts { critical: 0, high: 0, medium: 0, .. } => GREEN,
            SeverityCounts { critical: 0, high: 0, .. } => AMBER,
            _ => RED,
        };
        Message {
            title: format!("{name} was scanned"),
            url: page(base, &self.owner, &self.repository, Some(&self.digest)),
            facts,
            at: self.scanned_at,
            color,
        }
    }
}

const BLUE: u32 = 0x0b_5cd5;
const RED: u32 = 0xb3_261e;
const AMBER: u32 = 0x8a_5300;
const GREEN: u32 = 0x1b_7f3b;

fn said(counts: SeverityCounts) -> String {
    let SeverityCounts { critical, high, medium, low, total } = counts;
    format!("{critical} critical, {high} high, {medium} medium, {low} low; {total} in all")
}

/// RFC 3339, to the millisecond.
fn exact(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// The address of a page about a repository, or about a manifest in it.
fn page(base: &Url, owner: &Owner, repository: &RepositoryName, digest: Option<&Digest>) -> String {
    let at = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{}/r/{}/{repository}{at}", base.origin().ascii_serialization(), owner.name())
}

/// What people read in a chat.
#[derive(Debug)]
struct Message {
    title: String,
    url: String,
    facts: Vec<(&'static str, String)>,
    at: Timestamp,
    color: u32,
}

impl Message {
    /// As an incoming webhook of Discord takes it.
    fn discord(&self) -> serde_json::Value {
        let shown = |text: &str| {
            let mut out = String::new();
            for c in text.chars().filter(|c| !c.is_control()).take(200) {
                if "\\*_~`|<>[]@#".contains(c) {
                    out.push('\\');
                }
                out.push(c);
            }
            out
        };
        let fields = self.facts.iter().filter(|(_, value)| !value.is_empty());
        let fields: Vec<_> =
            fields.map(|(name, value)| json!({ "name": name, "value": shown(value) })).collect();
        json!({
            "embeds": [{
                "title": shown(&self.title),
                "url": self.url,
                "color": self.color,
                "timestamp": exact(self.at),
                "fields": fields,
            }],
            // Nobody is called by what strangers write.
            "allowed_mentions": { "parse": [] },
        })
    }

    /// As an incoming webhook of Slack takes it.
    fn slack(&self) -> serde_json::Value {
        let shown = |text: &str| {
            let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
        };
        let title = shown(&self.title);
        let facts = self.facts.iter().filter(|(_, value)| !value.is_empty());
        let lines: Vec<String> = facts.map(|(name, value)| format!("{name}: {}", shown(value))).collect();
        let mut blocks = vec![json!({
            "type": "section",
            "text": { "type": "mrkdwn", "text": format!("<{}|{title}>", self.url) },
        })];
        if !lines.is_empty() {
            let text = json!({ "type": "plain_text", "text": lines.join("\n") });
            blocks.push(json!({ "type": "section", "text": text }));
        }
        json!({ "text": title, "blocks": blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { did: "did:plc:alice".parse().unwrap(), handle: Some("alice.example".to_owned()) }
    }

    fn hold() -> Hold {
        Hold {
            did: "did:web:hold.example".parse().unwrap(),
            endpoint: Some("https://hold.example".to_owned()),
        }
    }

    fn push() -> Event {
        Event::Push(Push {
            owner: owner(),
            repository: "tools/my_app".parse().unwrap(),
            tag: "v1".parse().unwrap(),
            digest: Digest::sha256(b"x"),
            pushed_at: "2026-06-01T10:00:00.25Z".parse().unwrap(),
            media_type: Some("application/vnd.oci.image.index.v1+json".to_owned()),
            stars: 3,
            pulls: 14,
            hold: Some(hold()),
        })
    }

    fn scan(previous: Option<SeverityCounts>) -> Event {
        Event::Scan(Scan {
            trigger: if previous.is_some() { "scan:changed" } else { "scan:first" }.to_owned(),
            owner: owner(),
            repository: "tools/my_app".parse().unwrap(),
            tag: Some("v1".parse().unwrap()),
            digest: Digest::sha256(b"x"),
            hold: hold(),
            scanned_at: "2026-06-01T10:00:00Z".parse().unwrap(),
            scanner: "trivy <!channel> @everyone *1*".to_owned(),
            counts: SeverityCounts { critical: 1, high: 2, medium: 3, low: 4, total: 11 },
            previous,
        })
    }

    fn body(event: &Event, form: Form) -> serde_json::Value {
        let base = "https://registry.example/".parse().unwrap();
        let sent_at = "2026-06-01T10:00:01Z".parse().unwrap();
        let attempt = Attempt { delivery: "0123", sent_at, base: &base };
        serde_json::from_slice(&event.body(form, attempt)).unwrap()
    }

    const DIGEST: &str = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    const PAGE: &str = "https://registry.example/r/alice.example/tools/my_app";

    #[test]
    fn a_push_as_json() {
        let expected = json!({
            "trigger": "push",
            "delivery": "0123",
            "sent_at": "2026-06-01T10:00:01.000Z",
            "push_data": {
                "pushed_at": "2026-06-01T10:00:00.250Z",
                "pusher": "alice.example",
                "pusher_did": "did:plc:alice",
                "tag": "v1",
                "digest": DIGEST,
            },
            "repository": {
                "name": "tools/my_app",
                "namespace": "alice.example",
                "repo_name": "alice.example/tools/my_app",
                "repo_url": PAGE,
                "media_type": "application/vnd.oci.image.index.v1+json",
                "star_count": 3,
                "pull_count": 14,
            },
            "hold": { "did": "did:web:hold.example", "endpoint": "https://hold.example" },
        });
        assert_eq!(body(&push(), Form::Json), expected);
    }

    #[test]
    fn a_scan_as_json() {
        let expected = json!({
            "trigger": "scan:first",
            "delivery": "0123",
            "sent_at": "2026-06-01T10:00:01.000Z",
            "holdDid": "did:web:hold.example",
            "holdEndpoint": "https://hold.example",
            "manifest": {
                "digest": DIGEST,
                "repository": "tools/my_app",
                "tag": "v1",
                "userDid": "did:plc:alice",
                "userHandle": "alice.example",
            },
            "scan": {
                "scannedAt": "2026-06-01T10:00:00.000Z",
                "scannerVersion": "trivy <!channel> @everyone *1*",
                "vulnerabilities": { "critical": 1, "high": 2, "medium": 3, "low": 4, "total": 11 },
            },
        });
        assert_eq!(body(&scan(None), Form::Json), expected);
        let before = SeverityCounts { critical: 2, high: 2, medium: 3, low: 4, total: 12 };
        let changed = body(&scan(Some(before)), Form::Json);
        assert_eq!(changed["trigger"], "scan:changed");
        assert_eq!(
            changed["previous"],
            json!({ "critical": 2, "high": 2, "medium": 3, "low": 4, "total": 12 })
        );
    }

    #[test]
    fn a_push_at_discord() {
        let expected = json!({
            "embeds": [{
                "title": "alice.example/tools/my\\_app:v1 was pushed",
                "url": format!("{PAGE}@{DIGEST}"),
                "color": 744_661,
                "timestamp": "2026-06-01T10:00:00.250Z",
                "fields": [
                    { "name": "Digest", "value": DIGEST },
                    { "name": "Hold", "value": "did:web:hold.example" },
                ],
            }],
            "allowed_mentions": { "parse": [] },
        });
        assert_eq!(body(&push(), Form::Discord), expected);
    }

    #[test]
    fn a_push_at_slack() {
        let expected = json!({
            "text": "alice.example/tools/my_app:v1 was pushed",
            "blocks": [
                {
                    "type": "section",
                    "text": {
                        "type": "mrkdwn",
                        "text": format!("<{PAGE}@{DIGEST}|alice.example/tools/my_app:v1 was pushed>"),
                    },
                },
                {
                    "type": "section",
                    "text": {
                        "type": "plain_text",
                        "text": format!("Digest: {DIGEST}\nHold: did:web:hold.example"),
                    },
                },
            ],
        });
        assert_eq!(body(&push(), Form::Slack), expected);
    }

    #[test]
    fn what_a_scanner_calls_itself_calls_nobody() {
        let slack = body(&scan(None), Form::Slack).to_string();
        assert!(slack.contains("trivy &lt;!channel&gt; @everyone *1*"), "{slack}");
        assert!(slack.contains("1 critical, 2 high, 3 medium, 4 low; 11 in all"), "{slack}");
        let discord = body(&scan(None), Form::Discord);
        assert_eq!(discord["embeds"][0]["color"], RED);
        let fields = discord["embeds"][0]["fields"].as_array().unwrap();
        assert_eq!(fields.last().unwrap()["value"], r"trivy \<!channel\> \@everyone \*1\*");
    }

    #[test]
    fn an_event_is_kept_as_it_was() {
        for event in [push(), scan(None), Event::Test(Test { owner: owner() })] {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        }
        assert_eq!(body(&Event::Test(Test { owner: owner() }), Form::Json)["trigger"], "test");
    }
}
