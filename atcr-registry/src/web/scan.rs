//! What scanners found in a manifest.

use std::sync::Arc;

use askama::Template;
use atcr_core::syntax::Did;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use url::Url;

use super::error::PageError;
use super::page::{Visitor, html};
use super::path;
use super::report::{Finding, Report};
use super::ui::WebUi;
use super::words::{self, Moment};
use crate::index::{Account, Scan};

/// How many vulnerabilities a part of the list has.
const EACH: usize = 150;

/// A scan, as the page of its manifest shows it.
pub(super) struct ScanRow {
    pub(super) hold: String,
    /// Why there are no numbers: how it went, and what the scanner said about it.
    pub(super) failure: Option<(String, String)>,
    /// None that are zero.
    pub(super) counts: Vec<(&'static str, u64)>,
    pub(super) scanner: String,
    pub(super) scanned: Moment,
    pub(super) list: Option<String>,
    pub(super) report: Option<String>,
    pub(super) sbom: Option<String>,
}

/// How many there are of each severity; the rest of the total has none that is known.
pub(super) fn counts(scan: &Scan) -> [(&'static str, u64); 5] {
    let counts = scan.counts;
    let known = [
        ("critical", counts.critical),
        ("high", counts.high),
        ("medium", counts.medium),
        ("low", counts.low),
    ];
    let sum = known.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let [critical, high, medium, low] = known;
    [critical, high, medium, low, ("other", counts.total.saturating_sub(sum))]
}

impl ScanRow {
    /// `of` is the manifest, as it stands in addresses.
    pub(super) async fn new(ui: &WebUi, scan: Scan, of: &str) -> Result<Self, PageError> {
        let hold = ui.index().account(&scan.hold).await?;
        let blob = |cid: &Option<String>| blob_address(hold.as_deref()?, cid.as_deref()?);
        let has_list = scan.report.is_some() && ui.content().is_some();
        Ok(Self {
            report: blob(&scan.report),
            sbom: blob(&scan.sbom),
            list: has_list
                .then(|| format!("/vulnerabilities/{of}?hold={}", path::segment(scan.hold.as_str()))),
            counts: counts(&scan).into_iter().filter(|(_, count)| *count > 0).collect(),
            failure: (scan.status != "ok").then(|| (scan.status, scan.reason.unwrap_or_default())),
            hold: scan.hold.to_string(),
            scanner: scan.scanner,
            scanned: Moment::new(scan.scanned_at),
        })
    }
}

/// Where a hold gives a blob of its own to anybody.
fn blob_address(hold: &Account, cid: &str) -> Option<String> {
    let url = Url::parse(hold.pds.as_deref()?).ok();
    let mut url = url.filter(|url| matches!(url.scheme(), "https" | "http"))?;
    url.set_path("/xrpc/com.atproto.sync.getBlob");
    url.query_pairs_mut().append_pair("did", hold.did.as_str()).append_pair("cid", cid);
    Some(url.into())
}

/// The newest list of vulnerabilities of a manifest, or that of one hold.
pub(super) async fn listed(
    ui: &WebUi,
    scans: Vec<Scan>,
    hold: Option<&Did>,
) -> Result<(Scan, Option<Arc<Report>>), PageError> {
    let none = || PageError::NotFound("No scanner has published a list of its vulnerabilities.".to_owned());
    let mut lists = scans.into_iter().filter(|scan| scan.report.is_some());
    let scan = lists.find(|scan| hold.is_none_or(|hold| scan.hold == *hold)).ok_or_else(none)?;
    let (Some(cid), Some(content)) = (&scan.report, ui.content()) else { return Err(none()) };
    let report = ui.reports().report(content, &scan.hold, cid).await?;
    Ok((scan, report))
}

#[derive(Template)]
#[template(path = "vulnerabilities.html")]
struct Vulnerabilities {
    visitor: Visitor,
    owner: String,
    name: String,
    digest: String,
    path: String,
    scan: ScanRow,
    /// `None` for a report of another form than is known here.
    list: Option<List>,
    next: Option<String>,
}

/// A part of a report.
struct List {
    rows: Vec<Finding>,
    kept: usize,
    total: usize,
}

#[derive(Deserialize)]
pub(super) struct Ask {
    hold: Option<Did>,
    from: Option<usize>,
}

/// `/vulnerabilities/{owner}/{repository}@{digest}`
pub(super) async fn show(
    State(ui): State<WebUi>,
    Path((owner, rest)): Path<(String, String)>,
    Query(ask): Query<Ask>,
    visitor: Visitor,
) -> Result<Response, PageError> {
    let account = path::account(&ui, &owner).await?;
    let (name, digest) = rest.split_once('@').unwrap_or((&rest, ""));
    let (name, digest) = (path::repository(name)?, path::digest(digest)?);
    let owner = path::called(&account);
    if ui.index().manifest(&account.did, &name, &digest).await?.is_none() {
        return Err(PageError::NotFound(format!("{owner}/{name} has no manifest {digest}.")));
    }
    let scans = ui.index().scans(&account.did, &digest).await?;
    let (scan, report) = listed(&ui, scans, ask.hold.as_ref()).await?;
    let of = format!("{}/{name}@{digest}", path::segment(&owner));
    let from = ask.from.unwrap_or_default();
    let list = report.map(|report| List {
        rows: report.findings.iter().skip(from).take(EACH).cloned().collect(),
        kept: report.findings.len(),
        total: report.total,
    });
    let kept = list.as_ref().map_or(0, |list| list.kept);
    let hold = path::segment(scan.hold.as_str());
    let next = from.saturating_add(EACH);
    let page = Vulnerabilities {
        next: (next < kept).then(|| format!("/vulnerabilities/{of}?hold={hold}&from={next}")),
        scan: ScanRow::new(&ui, scan, &of).await?,
        visitor,
        path: path::of_repository(&account, &name),
        owner,
        name: name.to_string(),
        digest: digest.to_string(),
        list,
    };
    html(StatusCode::OK, &page)
}
