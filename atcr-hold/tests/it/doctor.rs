//! The doctor on a storage with one defect at a time.

use atcr_core::egress::{Egress, EgressPolicy};
use atcr_hold::storage::doctor::{Finding, Verdict, examine};
use atcr_hold::storage::{AzureStorage, MemoryStorage, S3Credentials, S3Storage};
use strict_s3::{ACCESS_KEY, Fault, Operation, Rules, Server};

use crate::azure;
use crate::s3::config;

async fn findings(server: &Server) -> Vec<Finding> {
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    examine(&S3Storage::open(config(server)).await, &egress).await
}

fn failed(findings: &[Finding]) -> Vec<&str> {
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed);
    failed.map(|finding| finding.check).collect()
}

/// The checks that fail under these rules.
async fn fails_under(change: impl FnOnce(&mut Rules)) -> Vec<Finding> {
    let mut rules = Rules::default();
    change(&mut rules);
    let server = Server::start(rules).await;
    let findings = findings(&server).await;
    assert_eq!((server.open_uploads(), server.objects()), (0, Vec::new()), "nothing is left: {findings:#?}");
    findings
}

#[tokio::test]
async fn a_healthy_storage_passes_and_is_left_as_it_was() {
    let findings = fails_under(|rules| rules.cors = true).await;
    assert_eq!(failed(&findings), [""; 0], "{findings:#?}");
    let advice: Vec<_> = findings.iter().filter(|f| f.verdict == Verdict::Advice).map(|f| f.check).collect();
    assert_eq!(advice, ["address"], "the server of a test is on a private address");
    for check in [
        "access",
        "signatures",
        "signed part",
        "clock",
        "expiry",
        "completion",
        "signed read",
        "ranges",
        "cors",
        "payload hash",
    ] {
        assert!(findings.iter().any(|finding| finding.check == check), "{check}: {findings:#?}");
    }
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let findings = examine(&MemoryStorage::new(), &egress).await;
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:#?}");
}

#[tokio::test]
async fn a_container_of_azure_passes_and_urls_that_never_expire_are_found() {
    for (expires, bad) in [(true, &[][..]), (false, &["expiry"])] {
        let mut rules = strict_azure::Rules::default();
        rules.ignores_expiry = !expires;
        rules.cors = true;
        let server = strict_azure::Server::start(rules).await;
        let storage = AzureStorage::open(azure::config(&server)).await.unwrap();
        let findings = examine(&storage, &Egress::new(EgressPolicy::development()).unwrap()).await;
        assert_eq!(failed(&findings), bad, "{findings:#?}");
        assert!(findings.iter().any(|finding| finding.check == "signed read"));
        assert_eq!(server.blobs(), [""; 0], "nothing is left");
    }
}

#[tokio::test]
async fn each_defect_is_found_with_its_remedy() {
    let findings = fails_under(|rules| rules.max_put = 8 << 20).await;
    assert_eq!(failed(&findings), ["signed part"]);
    let remedy =
        findings.iter().find_map(|finding| (finding.check == "signed part").then_some(finding.remedy));
    assert!(remedy.unwrap().unwrap().contains("storage.part_size"));
    let findings = fails_under(|rules| rules.ignores_ranges = true).await;
    assert_eq!(failed(&findings), ["read"]);
    let findings = fails_under(|rules| rules.clock_ahead = 600).await;
    assert_eq!(failed(&findings), ["clock"]);
    let findings = fails_under(|rules| rules.clock_ahead = -100).await;
    assert!(findings.iter().any(|finding| finding.check == "clock" && finding.verdict == Verdict::Advice));
    let findings = fails_under(|rules| rules.min_part = 64 << 20).await;
    assert_eq!(failed(&findings), ["completion"]);
}

#[tokio::test]
async fn what_the_access_key_may_not_do_is_named() {
    let server = Server::start(Rules::default()).await;
    let mut wrong = config(&server);
    wrong.credentials = S3Credentials::Static {
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: "another".to_owned(),
        session_token: None,
    };
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let found = examine(&S3Storage::open(wrong).await, &egress).await;
    assert_eq!(failed(&found), ["access"]);
    for (operation, check) in [
        (Operation::ListMultipartUploads, "uploads"),
        (Operation::ListParts, "parts"),
        (Operation::DeleteObject, "deletion"),
    ] {
        for nth in 1..=3 {
            server.fail(operation, nth, Fault::Unavailable);
        }
        assert_eq!(failed(&findings(&server).await), [check]);
    }
}
