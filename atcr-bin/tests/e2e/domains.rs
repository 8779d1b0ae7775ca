//! A registry that has two names.

use crate::outage::appview;
use crate::support::{Dev, http, pull, push_and_pull, token};

#[tokio::test]
async fn images_are_pushed_and_pulled_under_each_name() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("dev"));
    let settings = [("ATCR_SERVER_REGISTRY_DOMAINS", "localhost:{port}")];
    let (_process, first) = appview(&dev, &dir.path().join("appview"), &settings).await;
    let second = first.replace("127.0.0.1", "localhost");
    let alice = dev.account(0);

    // The token of either name is one of the registry, wherever it was fetched.
    assert_eq!(push_and_pull(&second, "alice.test/app:1", &alice, b"content").await, b"content");
    assert_eq!(pull(&first, "alice.test/app:1").await, b"content");
    let answer = http().get(format!("http://{second}/v2/")).send().await.unwrap();
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert_eq!(challenge, format!("Bearer realm=\"http://{first}/auth/token\",service=\"{first}\""));
    for (from, at) in [(&first, &second), (&second, &first)] {
        let bearer = token(from, Some(&alice), "repository:alice.test/app:pull,push").await.unwrap();
        let manifest = format!("http://{at}/v2/alice.test/app/manifests/1");
        let answer = http().get(manifest).bearer_auth(&bearer).send().await.unwrap();
        assert_eq!(answer.status(), 200, "a token of {from} at {at}");
        let upload = format!("http://{at}/v2/alice.test/app/blobs/uploads/");
        let answer = http().post(upload).bearer_auth(&bearer).send().await.unwrap();
        assert_eq!(answer.status(), 202, "a token of {from} at {at}");
    }

    // Pages are at one place, and show the name that images have.
    let page = http().get(format!("http://{second}/r/alice.test/app")).send().await.unwrap();
    assert_eq!(page.url().as_str(), format!("http://{first}/r/alice.test/app"));
    let page = page.text().await.unwrap();
    assert!(page.contains(&format!("docker pull {second}/alice.test/app:1")), "{page}");
}
