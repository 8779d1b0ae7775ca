//! The storage in Google Cloud Storage: the protocol of S3 without what Google has not.

use std::sync::Mutex;

use atcr_core::egress::{Egress, EgressPolicy};
use atcr_hold::storage::doctor::{Verdict, examine};
use atcr_hold::storage::{Layout, S3Config, S3Storage, contract};
use strict_s3::{BUCKET, Rules, Server};

use crate::s3;

fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.google = true;
    rules
}

fn config(server: &Server) -> S3Config {
    let mut config = S3Config::google(BUCKET, s3::config(server).credentials);
    assert_eq!(config.endpoint.as_ref().map(url::Url::as_str), Some("https://storage.googleapis.com/"));
    config.endpoint = s3::config(server).endpoint;
    config.region = s3::config(server).region;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_in_both_layouts() {
    for layout in [Layout::Uploaded, Layout::Distribution] {
        let servers = Mutex::new(Vec::new());
        contract::check(|| async {
            let server = Server::start(rules()).await;
            let mut config = config(&server);
            config.layout = layout;
            servers.lock().unwrap().push(server);
            S3Storage::open(config).await
        })
        .await;
    }
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong() {
    let server = Server::start(rules()).await;
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let findings = examine(&S3Storage::open(config(&server)).await, &egress).await;
    assert!(findings.iter().all(|finding| finding.verdict != Verdict::Failed), "{findings:#?}");
}
