//! What scanners found.

use atcr_registry::index::Since;
use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use crate::world::{SCRIPT, World, alice, blob_ref, commit, hold, image, report, sbom, scanned};

fn of(digest: &str) -> String {
    format!("alice.example/tools/app@{digest}")
}

#[tokio::test]
async fn a_manifest_says_what_was_found_in_it_and_by_whom() {
    let world = World::new().await;
    let own = format!("/r/{}", of(&image().digest.to_string()));
    let page = world.get(&own).await.body;
    for text in [
        "1 critical",
        "1 high",
        "200 medium",
        "atcr-scanner &#60;script&#62;",
        "did:web:hold.example",
        "https://pds.example/xrpc/com.atproto.sync.getBlob?did=did%3Aweb%3Ahold.example&#38;cid=",
        "Bill of materials",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(!page.contains("0 low") && !page.contains(SCRIPT), "{page}");
    let api = format!("owner=alice.example&repository=tools/app&digest={}", image().digest);
    let scan = &world.json(&format!("/api/v1/manifest?{api}")).await["scans"][0];
    assert_eq!((&scan["status"], &scan["counts"]["medium"]), (&"ok".into(), &200.into()));
    // Numbers of a scan that failed mean nothing; why it failed does.
    let failed = scanned(json!({ "status": "failed", "reason": format!("no such layer {SCRIPT}") }));
    world.index.apply(&[commit(hold(), 2, Since::Unknown, vec![failed])], None).await.unwrap();
    let page = world.get(&own).await.body;
    assert!(page.contains("failed") && page.contains("no such layer &#60;script&#62;"), "{page}");
    assert!(!page.contains("1 critical") && !page.contains("Bill of materials"), "{page}");
    let clean = scanned(json!({ "critical": 0, "high": 0, "medium": 0, "total": 0 }));
    world.index.apply(&[commit(hold(), 3, Since::Unknown, vec![clean])], None).await.unwrap();
    assert!(world.get(&own).await.body.contains("none found"));
    let other = world.get(&format!("/r/{}", of(&sbom().digest.to_string()))).await.body;
    assert!(!other.contains("Vulnerabilities"), "{other}");
}

#[tokio::test]
async fn a_list_of_vulnerabilities_is_read_in_parts_and_is_harmless() {
    let world = World::new().await;
    let list = format!("/vulnerabilities/{}", of(&image().digest.to_string()));
    let page = world.get(&list).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let [first, hostile] = ["CVE-2026-9999</a>", "&#60;script&#62;"]
        .map(|text| page.body.split("<tbody>").nth(1).unwrap().find(text).unwrap());
    assert!(first < hostile, "the worst comes first: {}", page.body);
    assert!(page.body.contains("https://nvd.nist.gov/vuln/detail/CVE-2026-9999"), "{}", page.body);
    assert!(!page.body.contains(SCRIPT) && !page.body.contains("javascript:"), "{}", page.body);
    let mut rows = 0;
    let mut next = Some(list.clone());
    while let Some(path) = next {
        let page = world.get(&path).await.body;
        assert!(page.len() < 100_000, "{path} has {} bytes", page.len());
        rows += page.split("<tbody>").nth(1).unwrap().matches("<tr>").count();
        let link = page.split("rel=\"next\" href=\"").nth(1);
        next = link.map(|rest| rest.split('"').next().unwrap().replace("&#38;", "&"));
    }
    assert_eq!(rows, 202);
    let api = format!("owner=alice.example&repository=tools/app&digest={}", image().digest);
    let found = world.json(&format!("/api/v1/vulnerabilities?{api}&limit=2")).await;
    assert_eq!((&found["total"], &found["cursor"]), (&202.into(), &"2".into()));
    assert_eq!(found["items"][0]["severity"], "critical");
    let rest = world.json(&format!("/api/v1/vulnerabilities?{api}&limit=1000&cursor=2")).await;
    assert_eq!((rest["items"].as_array().unwrap().len(), rest["cursor"].is_null()), (200, true));
    for path in [
        format!("/vulnerabilities/{}", of(&sbom().digest.to_string())),
        format!("{list}?hold=did:web:other.example"),
        "/vulnerabilities/alice.example/tools/app".to_owned(),
        format!("/api/v1/vulnerabilities?{api}&hold=did:web:other.example"),
    ] {
        assert_eq!(world.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in [format!("{list}?hold=nonsense"), format!("/api/v1/vulnerabilities?{api}&cursor=x")] {
        assert_eq!(world.get(&path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn a_report_that_is_another_or_of_another_form_is_not_shown() {
    let world = World::new().await;
    let list = format!("/vulnerabilities/{}", of(&image().digest.to_string()));
    // Whatever the hold gives for this CID, it is not what the record names.
    let another = blob_ref(&Bytes::from_static(b"{\"matches\":[]}"), "application/json");
    let op = scanned(json!({ "vulnReportBlob": another }));
    world.index.apply(&[commit(hold(), 2, Since::Unknown, vec![op])], None).await.unwrap();
    for _ in 0..2 {
        let page = world.get(&list).await;
        assert_eq!(page.status, StatusCode::BAD_GATEWAY, "{}", page.body);
    }
    // The picture that the world has for every CID that it does not know is no report.
    let picture = blob_ref(&Bytes::from_static(crate::people::PNG), "application/json");
    let op = scanned(json!({ "vulnReportBlob": picture }));
    world.index.apply(&[commit(hold(), 3, Since::Unknown, vec![op])], None).await.unwrap();
    let page = world.get(&list).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(
        page.body.contains("a form that is not known here") && page.body.contains(" download>"),
        "{}",
        page.body
    );
    // Nobody's word counts but that of holds that the owner uses.
    let stranger = "did:web:stranger.example".parse().unwrap();
    let op = scanned(json!({ "vulnReportBlob": blob_ref(&report(), "application/json"), "critical": 77 }));
    world.index.apply(&[commit(stranger, 1, Since::Nothing, vec![op])], None).await.unwrap();
    assert!(
        !world.get(&format!("/r/{}", of(&image().digest.to_string()))).await.body.contains("77 critical")
    );
    assert!(world.index.scans(&alice(), &image().digest).await.unwrap().len() == 1);
}
