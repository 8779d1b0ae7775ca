//! Lists of vulnerabilities, as scanners write them. Holds keep them; who runs a hold may have written anything.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use atcr_core::StoreError;
use atcr_core::records::data::parse_cid;
use atcr_core::syntax::Did;
use bytes::Bytes;
use moka::future::Cache;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::visitors::Content;
use super::words::cut;

/// The largest report that is read, in bytes.
const MAX_REPORT: usize = 8 * 1024 * 1024;
/// Vulnerabilities of a report that are kept.
const FINDINGS: usize = 5000;
/// Versions without a vulnerability that are kept.
const VERSIONS: usize = 4;
/// Characters of a text that are kept.
const WIDTH: usize = 160;
/// How long a page waits for a report.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it does without one that could not be had.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// Reports that are fetched and read at the same time.
const AT_ONCE: usize = 2;
/// What is remembered, in bytes.
const REMEMBERED: u64 = 16 * 1024 * 1024;

/// What a scanner found. The worst comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// How many it found, also when not all are kept.
    pub(super) total: usize,
    pub(super) findings: Vec<Finding>,
}

/// A vulnerability of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) package: String,
    pub(super) version: String,
    pub(super) id: String,
    pub(super) fixed_in: Vec<String>,
}

/// How bad it is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Critical,
    High,
    Medium,
    Low,
    Negligible,
    Unknown,
}

impl Severity {
    fn of(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "critical" => Self::Critical,
            "high" => Self::High,
            "medium" => Self::Medium,
            "low" => Self::Low,
            "negligible" => Self::Negligible,
            _ => Self::Unknown,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Negligible => "negligible",
            Self::Unknown => "unknown",
        }
    }
}

impl Finding {
    /// Where the vulnerability is described. The address is made here: what a report says it is leads anywhere.
    pub(super) fn described_at(&self) -> Option<String> {
        let plain = self.id.len() <= 40 && self.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        match self.id.split_once('-') {
            Some(("CVE", _)) if plain => Some(format!("https://nvd.nist.gov/vuln/detail/{}", self.id)),
            Some(("GHSA", _)) if plain => Some(format!("https://github.com/advisories/{}", self.id)),
            _ => None,
        }
    }

    pub(super) fn fixes(&self) -> String {
        self.fixed_in.join(", ")
    }

    fn bytes(&self) -> usize {
        let fixes: usize = self.fixed_in.iter().map(|fix| fix.len() + 24).sum();
        size_of::<Self>() + self.package.len() + self.version.len() + self.id.len() + fixes
    }
}

/// The first `N` of a list, and how many it has: a list that a stranger wrote decides over no memory.
#[derive(Debug)]
struct AtMost<T, const N: usize> {
    kept: Vec<T>,
    total: usize,
}

impl<T, const N: usize> Default for AtMost<T, N> {
    fn default() -> Self {
        Self { kept: Vec::new(), total: 0 }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seq<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Seq<T, N> {
            type Value = AtMost<T, N>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut read = AtMost::default();
                while read.kept.len() < N {
                    let Some(element) = list.next_element()? else { break };
                    read.kept.push(element);
                }
                read.total = read.kept.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    read.total += 1;
                }
                Ok(read)
            }
        }
        deserializer.deserialize_seq(Seq(PhantomData))
    }
}

/// The fields of Grype's JSON that are shown.
#[derive(Deserialize)]
struct Grype {
    matches: AtMost<Match, FINDINGS>,
}

#[derive(Deserialize)]
struct Match {
    vulnerability: Vulnerability,
    artifact: Artifact,
}

#[derive(Deserialize)]
struct Vulnerability {
    id: Short,
    severity: Option<Short>,
    fix: Option<Fix>,
}

#[derive(Deserialize)]
struct Fix {
    versions: Option<AtMost<Short, VERSIONS>>,
}

#[derive(Deserialize)]
struct Artifact {
    name: Short,
    version: Option<Short>,
}

/// A text, cut to what a page can hold.
struct Short(String);

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(cut(&String::deserialize(deserializer)?, WIDTH)))
    }
}

fn text(short: Option<Short>) -> String {
    short.map(|Short(text)| text).unwrap_or_default()
}

impl From<Match> for Finding {
    fn from(Match { vulnerability, artifact }: Match) -> Self {
        let versions = vulnerability.fix.and_then(|fix| fix.versions).unwrap_or_default();
        Self {
            severity: Severity::of(&text(vulnerability.severity)),
            package: artifact.name.0,
            version: text(artifact.version),
            id: vulnerability.id.0,
            fixed_in: versions.kept.into_iter().map(|Short(version)| version).collect(),
        }
    }
}

impl Report {
    /// Reads the JSON of Grype; `None` for any other form.
    fn read(bytes: &[u8]) -> Option<Self> {
        let Grype { matches } = serde_json::from_slice(bytes).ok()?;
        let mut findings: Vec<Finding> = matches.kept.into_iter().map(Finding::from).collect();
        findings.sort();
        Some(Self { total: matches.total, findings })
    }

    fn bytes(&self) -> u32 {
        let bytes = self.findings.iter().map(Finding::bytes).sum::<usize>() + 256;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The reports that pages have shown. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reports {
    /// `None` is one that has another form.
    known: Cache<(Did, String), Option<Arc<Report>>>,
    failed: Cache<(Did, String), ()>,
    turns: Arc<Semaphore>,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            known: Cache::builder()
                .weigher(|_, report: &Option<Arc<Report>>| {
                    report.as_ref().map_or(256, |report| report.bytes())
                })
                .max_capacity(REMEMBERED)
                .build(),
            failed: Cache::builder().max_capacity(1000).time_to_live(LEFT_ALONE).build(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Reports {
    /// A report of a hold, by the CID of its blob; `None` when it has another form than is known here.
    pub(super) async fn report(
        &self,
        content: &dyn Content,
        hold: &Did,
        cid: &str,
    ) -> Result<Option<Arc<Report>>, StoreError> {
        let gone = |why: String| StoreError::unavailable("the list of vulnerabilities", why);
        let asked = (hold.clone(), cid.to_owned());
        if self.failed.contains_key(&asked) {
            return Err(gone("it could not be had a minute ago".to_owned()));
        }
        let fetch = async {
            let _turn = self.turns.acquire().await.map_err(StoreError::internal)?;
            let blob = content.picture(hold, cid, MAX_REPORT);
            let blob = tokio::time::timeout(PATIENCE, blob).await;
            let blob = blob.map_err(|elapsed| StoreError::unavailable("the hold", elapsed))??;
            if !is(&blob, cid) {
                return Err(StoreError::unavailable("the hold", "it gave another blob"));
            }
            let read = tokio::task::spawn_blocking(move || Report::read(&blob).map(Arc::new));
            read.await.map_err(StoreError::internal)
        };
        match self.known.try_get_with_by_ref(&asked, fetch).await {
            Ok(report) => Ok(report),
            Err(error) => {
                tracing::debug!(%hold, cid, %error, "a list of vulnerabilities is not shown");
                self.failed.insert(asked, ()).await;
                Err(gone(error.to_string()))
            }
        }
    }
}

/// Whether a blob is what its CID says.
fn is(blob: &Bytes, cid: &str) -> bool {
    const SHA_256: u64 = 0x12;
    let cid = parse_cid(cid).ok().filter(|cid| cid.hash().code() == SHA_256);
    cid.is_some_and(|cid| cid.hash().digest() == Sha256::digest(blob).as_slice())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn matched(id: &str, severity: &str, package: &str, fixes: &[&str]) -> Value {
        json!({
            "vulnerability": {
                "id": id, "severity": severity, "dataSource": "javascript:alert(1)", "namespace": "debian:12",
                "fix": { "versions": fixes, "state": "fixed" }, "advisories": [],
            },
            "relatedVulnerabilities": [{ "id": id }], "matchDetails": [{ "type": "exact-direct-match" }],
            "artifact": { "id": "1", "name": package, "version": "1.2", "type": "deb", "locations": [{ "path": "/x" }] },
        })
    }

    fn read(report: &Value) -> Option<Report> {
        Report::read(report.to_string().as_bytes())
    }

    #[test]
    fn the_worst_comes_first() {
        let report = read(&json!({
            "matches": [
                matched("CVE-2026-1", "Low", "a", &[]),
                matched("GHSA-x", "Critical", "b", &["1.3", "2.0"]),
                matched("CVE-2026-2", "Something", "c", &[]),
                matched("CVE-2026-3", "High", "d", &[]),
            ],
            "source": { "type": "image" }, "distro": {}, "descriptor": { "name": "grype", "version": "0.92" },
        }))
        .unwrap();
        let severities: Vec<&str> = report.findings.iter().map(|finding| finding.severity.as_str()).collect();
        assert_eq!(severities, ["critical", "high", "low", "unknown"]);
        let first = &report.findings[0];
        assert_eq!((first.package.as_str(), first.version.as_str()), ("b", "1.2"));
        assert_eq!(first.fixes(), "1.3, 2.0");
    }

    #[test]
    fn an_address_is_made_of_names_that_are_known() {
        let address = |id: &str| {
            let report = read(&json!({ "matches": [matched(id, "High", "a", &[])] })).unwrap();
            report.findings[0].described_at()
        };
        assert_eq!(address("CVE-2026-1").as_deref(), Some("https://nvd.nist.gov/vuln/detail/CVE-2026-1"));
        assert_eq!(address("GHSA-a-b").as_deref(), Some("https://github.com/advisories/GHSA-a-b"));
        for other in
            ["", "CVE-../../x", "CVE-1?x=1", "javascript:alert(1)", "ELSA-2026-1", "CVE-1\"><script>"]
        {
            assert_eq!(address(other), None, "{other}");
        }
    }

    #[test]
    fn other_forms_are_not_guessed_at() {
        for other in [
            json!({}),
            json!([]),
            json!({ "matches": {} }),
            json!({ "matches": [7] }),
            json!({ "matches": [{ "vulnerability": { "id": 7 }, "artifact": { "name": "a" } }] }),
            json!({ "Results": [{ "Vulnerabilities": [] }] }),
        ] {
            assert_eq!(read(&other), None, "{other}");
        }
        assert_eq!(Report::read(b"\x00"), None);
        assert_eq!(Report::read(&[b"{\"x\":".as_slice(), &vec![b'['; 100_000]].concat()), None);
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = "x\u{1b}".repeat(10_000);
        let fixes = vec![long.as_str(); 100];
        let one = matched(&long, &long, &long, &fixes);
        let report = read(&json!({ "matches": vec![one.clone(); 3] })).unwrap();
        let finding = &report.findings[0];
        assert!(finding.bytes() < 8 * WIDTH * 4, "{}", finding.bytes());
        assert!(!finding.id.contains('\u{1b}'));
        assert_eq!(finding.fixed_in.len(), VERSIONS);
        let small = matched("CVE-1", "Low", "a", &[]);
        let report = read(&json!({ "matches": vec![small; FINDINGS + 7] })).unwrap();
        assert_eq!((report.findings.len(), report.total), (FINDINGS, FINDINGS + 7));
    }
}
