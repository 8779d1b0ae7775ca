//! What people do on the pages of a registry, and what is in their repos afterwards.

use oci_distribution::client::{Config, ImageLayer};
use serde_json::Value;
use url::Url;

use crate::sign_in::{Browser, location};
use crate::support::{Account, Dev, client, http, reference};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nnot much of a picture";

/// An image that runs `hello`.
async fn push(registry: &str, name: &str, account: &Account, content: &[u8]) {
    let layers = [ImageLayer::oci_v1(content.to_vec(), None)];
    let config = br#"{"os":"linux","architecture":"riscv64","config":{"Cmd":["hello"]},
        "history":[{"created_by":"COPY hello /"}]}"#;
    let config = Config::oci_v1(config.to_vec(), None);
    client().push(&reference(registry, name), &layers, config, &account.auth(), None).await.unwrap();
}

async fn records(dev: &Dev, repo: &str, collection: &str) -> Vec<Value> {
    let query = [("repo", repo), ("collection", collection)];
    let url = format!("{}/xrpc/com.atproto.repo.listRecords", dev.text("pds"));
    let answer: Value = http().get(url).query(&query).send().await.unwrap().json().await.unwrap();
    answer["records"].as_array().unwrap().iter().map(|record| record["value"].clone()).collect()
}

async fn tags(dev: &Dev, repo: &str) -> Vec<(String, String)> {
    let of = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    let all = records(dev, repo, "io.atcr.tag").await;
    all.iter().map(|record| (of(record, "tag"), of(record, "manifestDigest"))).collect()
}

fn multipart(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let file = if *name == "avatar" { "; filename=\"a.png\"" } else { "" };
        let head = format!("--line\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--line--\r\n");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn people_star_edit_move_and_delete_in_their_own_repos() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let (registry, alice, bob) = (dev.text("registry"), dev.account(0), dev.account(1));
    let appview: Url = dev.text("appview").parse().unwrap();
    let at = |path: &str| appview.join(path).unwrap();
    push(registry, &format!("{}/app:1", alice.handle), &alice, b"first").await;
    let first = tags(&dev, &alice.did).await.remove(0).1;
    push(registry, &format!("{}/app:1", alice.handle), &alice, b"second").await;
    push(registry, &format!("{}/app:2", alice.handle), &alice, b"second").await;
    let second = tags(&dev, &alice.did).await.remove(0).1;
    assert_ne!(first, second);

    // Nobody is signed in: a star leads to the sign-in, and back.
    let page = at(&format!("/r/{}/app", alice.handle));
    let mut browser = Browser::new();
    let html = browser.open(&page).await.text().await.unwrap();
    let link = html.split("class=\"button plain\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let sign_in = at(&link.replace("&#38;", "&"));
    assert_eq!(sign_in.path(), "/auth/oauth/login");
    let (_, return_to) = sign_in.query_pairs().find(|(name, _)| name == "return_to").unwrap();
    assert_eq!(location(&browser.sign_in(&dev, &bob, &return_to).await), page);

    // Bob stars. The page after it shows the star, his repo has it.
    let html = browser.open(&page).await.text().await.unwrap();
    assert!(html.contains(&format!("Signed in as {}", bob.handle)), "{html}");
    let starred = browser.submit(&html, &at("/actions/star"), &[]).await;
    assert_eq!(location(&starred), page);
    let html = browser.open(&page).await.text().await.unwrap();
    assert!(html.contains("Unstar") && html.contains("<span>1 star</span>"), "{html}");
    let stars = records(&dev, &bob.did, "io.atcr.sailor.star").await;
    assert_eq!(stars[0]["subject"], format!("at://{}/io.atcr.repo.page/app", alice.did));
    // What is alice's is not his.
    let token = html.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let form = format!("csrf={token}&owner={}&repository=app&tag=1", alice.handle);
    let refused =
        browser.post(&at("/actions/delete-tag"), "application/x-www-form-urlencoded", form.into()).await;
    assert_eq!(refused.status(), 403);
    browser.submit(&html, &at("/actions/star"), &[]).await;
    assert!(records(&dev, &bob.did, "io.atcr.sailor.star").await.is_empty());

    // Alice writes a page, with a picture.
    let mut browser = Browser::new();
    let edit = at(&format!("/edit/{}/app", alice.handle));
    assert_eq!(location(&browser.open(&edit).await).path(), "/auth/oauth/login");
    assert_eq!(location(&browser.sign_in(&dev, &alice, edit.path()).await), edit);
    let html = browser.open(&edit).await.text().await.unwrap();
    let token = html.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let fields = [
        ("csrf", token.as_bytes()),
        ("owner", alice.handle.as_bytes()),
        ("repository", b"app"),
        ("description", b"# Says hello\r\n<script>alert(1)</script>"),
        ("avatar", PNG),
    ];
    let saved =
        browser.post(&at("/actions/page"), "multipart/form-data; boundary=line", multipart(&fields)).await;
    assert_eq!(location(&saved), page);
    let written = records(&dev, &alice.did, "io.atcr.repo.page").await.remove(0);
    assert_eq!(written["description"], "# Says hello\n<script>alert(1)</script>");
    assert_eq!(written["avatar"]["mimeType"], "image/png");
    let html = browser.open(&page).await.text().await.unwrap();
    assert!(html.contains("<h2>Says hello</h2>") && !html.contains("<script>alert"), "{html}");
    let picture = html.split("<img class=\"avatar\" src=\"").nth(1).unwrap().split('"').next().unwrap();
    let picture = browser.open(&at(picture)).await;
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert_eq!(picture.bytes().await.unwrap(), PNG);

    // What the image is made of comes from the hold.
    let manifest = at(&format!("/r/{}/app@{second}", alice.handle));
    let html = browser.open(&manifest).await.text().await.unwrap();
    assert!(html.contains("linux/riscv64") && html.contains("COPY hello /"), "{html}");

    // A tag goes back to where it was, and away.
    let token = token.to_owned();
    let form = |rest: &str| -> Vec<u8> {
        format!("csrf={token}&owner={}&repository=app&{rest}", alice.handle).into()
    };
    let encoded = "application/x-www-form-urlencoded";
    let moved = browser.post(&at("/actions/move-tag"), encoded, form(&format!("tag=1&digest={first}"))).await;
    assert_eq!(location(&moved).path(), page.path());
    let all = tags(&dev, &alice.did).await;
    assert!(all.contains(&("1".to_owned(), first.clone())), "{all:?}");
    let html = browser.open(&location(&moved)).await.text().await.unwrap();
    assert_eq!(html.matches(&format!("@{first}\"")).count(), 2, "it was there, and is again: {html}");
    browser.post(&at("/actions/delete-tag"), encoded, form("tag=1")).await;
    assert_eq!(tags(&dev, &alice.did).await, [("2".to_owned(), second.clone())]);

    // A manifest goes with its tags when told so.
    let delete = at("/actions/delete-manifest");
    let refused = browser.post(&delete, encoded, form(&format!("digest={second}"))).await;
    assert_eq!(refused.status(), 409);
    browser.post(&delete, encoded, form(&format!("digest={second}&with_tags=on"))).await;
    assert_eq!(browser.open(&manifest).await.status(), 404);
    assert!(tags(&dev, &alice.did).await.is_empty());
    let left = records(&dev, &alice.did, "io.atcr.manifest").await;
    assert_eq!(left.iter().map(|record| &record["digest"]).collect::<Vec<_>>(), [first.as_str()]);

    // Settings, the export, and the end of everything.
    let settings = at("/settings");
    let html = browser.open(&settings).await.text().await.unwrap();
    assert!(html.contains(dev.text("hold_did")), "{html}");
    let fields = [("hold", dev.text("hold_did")), ("client", "podman")];
    let saved = browser.submit(&html, &settings, &fields).await;
    assert_eq!(location(&saved).path(), "/settings");
    let profile = records(&dev, &alice.did, "io.atcr.sailor.profile").await.remove(0);
    assert_eq!(
        (&profile["defaultHold"], &profile["ociClient"]),
        (&dev.text("hold_did").into(), &"podman".into())
    );
    let export = html.split("com.atproto.sync.getRepo").next().unwrap().rsplit("href=\"").next().unwrap();
    let export = format!("{export}com.atproto.sync.getRepo?did={}", alice.did);
    assert_eq!(http().get(export).send().await.unwrap().status(), 200);
    let devices = browser.open(&at("/auth/devices")).await;
    assert_eq!(devices.status(), 200);
    let html = browser.open(&settings).await.text().await.unwrap();
    browser.submit(&html, &at("/settings/delete"), &[("confirm", &alice.handle)]).await;
    for collection in ["manifest", "tag", "repo.page", "sailor.star", "sailor.profile"] {
        let left = records(&dev, &alice.did, &format!("io.atcr.{collection}")).await;
        assert!(left.is_empty(), "{collection}: {left:?}");
    }
    assert_eq!(browser.open(&page).await.status(), 404);
    let html = browser.open(&at("/")).await.text().await.unwrap();
    browser.submit(&html, &at("/auth/logout"), &[]).await;
    assert!(browser.open(&at("/")).await.text().await.unwrap().contains("Sign in"));
}
