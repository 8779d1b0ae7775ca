//! What people who are signed in do.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::people::PNG;
use crate::world::{Page, SCRIPT, World, alice, bob, config, image, index_manifest, sbom};

const REPOSITORY: &str = "/r/alice.example/tools/app";
const OF: [(&str, &str); 2] = [("owner", "alice.example"), ("repository", "tools/app")];

fn with<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    OF.iter().chain(fields).copied().collect()
}

fn location(page: &Page) -> &str {
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
    page.headers["location"].to_str().unwrap()
}

/// Every form that only an owner may send, with fields that would do something.
fn of_the_owner(digest: &str) -> Vec<(&'static str, Vec<(&str, &str)>)> {
    vec![
        ("/actions/delete-tag", with(&[("tag", "v1")])),
        ("/actions/move-tag", with(&[("tag", "v1"), ("digest", digest)])),
        ("/actions/delete-manifest", with(&[("digest", digest), ("with_tags", "on")])),
    ]
}

#[tokio::test]
async fn who_is_not_signed_in_is_sent_to_sign_in_and_back() {
    let world = World::new().await;
    let digest = image().digest.to_string();
    let mut forms = of_the_owner(&digest);
    forms.push(("/actions/star", with(&[("on", "1")])));
    for (path, fields) in forms {
        let page = world.post("", path, &fields).await;
        assert_eq!(location(&page), format!("/sign-in?return_to={REPOSITORY}"), "{path}");
    }
    for (path, back) in [
        ("/settings", "/settings"),
        ("/edit/alice.example/tools/app", "/edit/alice.example/tools/app"),
        ("/edit/did:plc:alice/tools/app", "/edit/alice.example/tools/app"),
    ] {
        assert_eq!(location(&world.get(path).await), format!("/sign-in?return_to={back}"));
    }
    assert_eq!(location(&world.post("", "/settings", &[]).await), "/sign-in?return_to=/settings");
    assert_eq!(location(&world.post_page("", &[("description", b"x")]).await), "/sign-in?return_to=/");
    let page = world.get(&format!("{REPOSITORY}?client=crane")).await;
    assert!(
        page.body.contains(&format!("href=\"/sign-in?return_to={REPOSITORY}?client=crane\"")),
        "{}",
        page.body
    );
    assert!(!page.body.contains("<form method=\"post\""), "{}", page.body);
    assert_eq!(
        world.json("/api/v1/tags?owner=alice.example&repository=tools/app").await["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn a_form_that_no_page_here_has_sent_does_nothing() {
    let world = World::new().await;
    let form = "content-type";
    let encoded = "application/x-www-form-urlencoded";
    let body = |token: &str| format!("csrf={token}&owner=alice.example&repository=tools/app&tag=v1");
    let good = "token+of+alice";
    for (headers, token) in [
        (vec![(form, encoded)], ""),
        (vec![(form, encoded)], "token+of+bob"),
        (vec![(form, encoded), ("origin", "https://evil.example")], good),
        (vec![(form, encoded), ("origin", "null")], good),
        (vec![(form, encoded), ("origin", "http://registry.example")], good),
        (vec![(form, encoded), ("sec-fetch-site", "cross-site")], good),
        (vec![(form, encoded), ("sec-fetch-site", "same-site")], good),
    ] {
        let page = world.send(Method::POST, "/actions/delete-tag", "alice", &headers, body(token)).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{headers:?} {token}");
        let page = world.send(Method::POST, "/settings/delete", "alice", &headers, body(token)).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{headers:?} {token}");
        let page = world.send(Method::POST, "/actions/star", "alice", &headers, body(token)).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{headers:?} {token}");
    }
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let star = "/api/v1/star?owner=alice.example&repository=tools/app";
        let page = world.send(Method::PUT, star, "alice", &[(name, value)], Body::empty()).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN);
    }
    // What changes something is no link.
    for path in ["/actions/star", "/actions/delete-tag", "/settings/delete"] {
        assert_eq!(world.get_as("alice", path).await.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let body =
        b"--line\r\ncontent-disposition: form-data; name=\"owner\"\r\n\r\nalice.example\r\n--line--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=line")];
    let page = world.send(Method::POST, "/actions/page", "alice", &headers, &body[..]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.body);
    assert!(world.people.of(&alice(), "io.atcr.sailor.star").is_empty());
    assert!(world.get(REPOSITORY).await.body.contains("Tools for gardeners"));
}

#[tokio::test]
async fn what_is_somebody_elses_is_refused() {
    let world = World::new().await;
    let digest = image().digest.to_string();
    for (path, fields) in of_the_owner(&digest) {
        let page = world.post("bob", path, &fields).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}: {}", page.body);
    }
    let page = world.post_page("bob", &[("description", b"mine now")]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.body);
    assert_eq!(world.get_as("bob", "/edit/alice.example/tools/app").await.status, StatusCode::FORBIDDEN);
    let of = "owner=alice.example&repository=tools/app";
    for (method, path) in [
        (Method::DELETE, format!("/api/v1/tag?{of}&tag=v1")),
        (Method::PUT, format!("/api/v1/tag?{of}&tag=v1&digest={digest}")),
        (Method::DELETE, format!("/api/v1/manifest?{of}&digest={digest}&withTags=true")),
        (Method::PUT, format!("/api/v1/repository?{of}")),
    ] {
        let headers = [("content-type", "application/json")];
        let page = world.send(method, &path, "bob", &headers, "{\"description\":\"\"}").await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}: {}", page.body);
    }
    let page = world.get_as("bob", REPOSITORY).await.body;
    assert!(page.contains("Tools for gardeners") && !page.contains("delete-tag"), "{page}");
    assert!(world.get_as("alice", REPOSITORY).await.body.contains("delete-tag"));
}

#[tokio::test]
async fn a_star_is_given_and_taken_back() {
    let world = World::new().await;
    let before = world.get_as("alice", REPOSITORY).await.body;
    assert!(before.contains("☆ Star") && before.contains("<span>1 star</span>"), "{before}");
    assert!(before.contains("Signed in as alice.example"), "{before}");
    for _ in 0..2 {
        let page = world.post("alice", "/actions/star", &with(&[("on", "1")])).await;
        assert_eq!(location(&page), REPOSITORY);
    }
    let stars = world.people.of(&alice(), "io.atcr.sailor.star");
    assert_eq!(stars.len(), 1);
    assert_eq!(stars[0]["subject"], "at://did:plc:alice/io.atcr.repo.page/tools~app");
    let starred = world.get_as("alice", REPOSITORY).await.body;
    assert!(starred.contains("★ Unstar") && starred.contains("<span>2 stars</span>"), "{starred}");
    world.post("alice", "/actions/star", &with(&[])).await;
    // The star that bob gave before is of another form, and under whatever key.
    world.post("bob", "/actions/star", &with(&[])).await;
    let page = world.get_as("alice", REPOSITORY).await.body;
    assert!(page.contains("☆ Star") && page.contains("<span>0 stars</span>"), "{page}");
    let page =
        world.post("bob", "/actions/star", &[("owner", "alice.example"), ("repository", "none")]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "there is nothing to take back");
    let none = [("owner", "alice.example"), ("repository", "none"), ("on", "1")];
    assert_eq!(world.post("bob", "/actions/star", &none).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_page_is_edited_and_stays_harmless() {
    let world = World::new().await;
    let form = world.get_as("alice", "/edit/alice.example/tools/app").await;
    assert_eq!(form.status, StatusCode::OK);
    assert!(form.body.contains("# Tools for gardeners") && !form.body.contains(SCRIPT), "{}", form.body);
    let hostile = format!("# New\r\n</textarea>{SCRIPT}![x](https://tracker.example/p.png)\r\n");
    let page = world.post_page("alice", &[("description", hostile.as_bytes()), ("avatar", PNG)]).await;
    assert_eq!(location(&page), REPOSITORY);

    let records = world.people.of(&alice(), "io.atcr.repo.page");
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(record["description"], hostile.replace("\r\n", "\n"));
    assert_eq!((&record["userEdited"], &record["avatar"]["mimeType"]), (&true.into(), &"image/png".into()));
    assert_eq!(record["createdAt"], "2026-06-01T00:00:00Z", "what was there stays");

    for path in [REPOSITORY, "/edit/alice.example/tools/app", "/", "/search?q=new"] {
        let page = world.get_as("alice", path).await.body;
        assert!(!page.contains(SCRIPT) && !page.contains("<img src=\"https"), "{path}: {page}");
        assert_eq!(page.matches("</textarea>").count(), usize::from(path.starts_with("/edit")), "{path}");
    }
    let page = world.get_as("alice", REPOSITORY).await.body;
    let picture = page.split("<img class=\"avatar\" src=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(
        page.contains(&format!("property=\"og:image\" content=\"https://registry.example{picture}\"")),
        "{page}"
    );
    let picture = world.get(picture).await;
    assert_eq!(picture.headers["content-type"], "image/png");
    assert_eq!(picture.headers["x-content-type-options"], "nosniff");
    assert!(picture.headers["content-security-policy"].to_str().unwrap().contains("sandbox"));

    // Without a new picture the old one stays, until it is to go.
    world.post_page("alice", &[("description", b""), ("avatar", b"")]).await;
    let record = world.people.of(&alice(), "io.atcr.repo.page").remove(0);
    assert!(record["avatar"].is_object() && record.get("description").is_none(), "{record}");
    world.post_page("alice", &[("description", b"x"), ("remove_avatar", b"on")]).await;
    assert!(world.people.of(&alice(), "io.atcr.repo.page").remove(0).get("avatar").is_none());
    assert_eq!(world.get("/avatar/alice.example/tools/app").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_page_that_is_too_large_or_no_picture_is_refused() {
    let world = World::new().await;
    let before = world.people.of(&alice(), "io.atcr.repo.page");
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>";
    for (field, value, status) in [
        ("avatar", svg.to_vec(), StatusCode::BAD_REQUEST),
        ("avatar", [PNG, &vec![0; 3_000_000]].concat(), StatusCode::PAYLOAD_TOO_LARGE),
        ("description", vec![b'x'; 100_001], StatusCode::BAD_REQUEST),
        ("description", vec![b'x'; 500_000], StatusCode::PAYLOAD_TOO_LARGE),
        ("other", vec![b'x'; 500_000], StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let page = world.post_page("alice", &[(field, &value)]).await;
        assert_eq!(page.status, status, "{field} of {}: {}", value.len(), page.body);
    }
    let page = world.post("alice", "/actions/page", &OF).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.body);
    let long = "x".repeat(70_000);
    let page = world.post("alice", "/actions/star", &with(&[("on", &long)])).await;
    assert_eq!(page.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(world.people.of(&alice(), "io.atcr.repo.page"), before);
}

#[tokio::test]
async fn a_tag_goes_back_to_where_it_was_and_away() {
    let world = World::new().await;
    let digest = index_manifest().digest.to_string();
    let page = world.post("alice", "/actions/move-tag", &with(&[("tag", "v1"), ("digest", &digest)])).await;
    assert_eq!(location(&page), format!("{REPOSITORY}?view=history"));
    let of = "owner=alice.example&repository=tools/app";
    let history = world.json(&format!("/api/v1/history?{of}&tag=v1")).await;
    assert_eq!(history["items"][0]["digest"], digest);
    let before = image().digest.to_string();
    let page = world.get_as("alice", &format!("{REPOSITORY}?view=history&tag=v1")).await.body;
    assert!(
        page.contains("action=\"/actions/move-tag\"") && page.contains(&format!("value=\"{before}\"")),
        "{page}"
    );
    world.post("alice", "/actions/move-tag", &with(&[("tag", "v1"), ("digest", &before)])).await;
    let history = world.json(&format!("/api/v1/history?{of}&tag=v1")).await;
    assert_eq!(history["items"][0]["digest"], before);

    assert_eq!(
        location(&world.post("alice", "/actions/delete-tag", &with(&[("tag", "v1")])).await),
        REPOSITORY
    );
    let tags = world.json(&format!("/api/v1/tags?{of}")).await;
    assert_eq!(tags["items"].as_array().unwrap().len(), 1);
    for (field, value, status) in
        [("tag", "<script>", StatusCode::BAD_REQUEST), ("tag", "../x", StatusCode::BAD_REQUEST)]
    {
        let page = world.post("alice", "/actions/delete-tag", &with(&[(field, value)])).await;
        assert_eq!(page.status, status, "{}", page.body);
        assert!(!page.body.contains("<script>"), "{}", page.body);
    }
    let elsewhere = format!("sha256:{}", "0".repeat(64));
    let page =
        world.post("alice", "/actions/move-tag", &with(&[("tag", "v1"), ("digest", &elsewhere)])).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND, "{}", page.body);
}

#[tokio::test]
async fn a_manifest_with_tags_is_deleted_only_when_told_so() {
    let world = World::new().await;
    let digest = image().digest.to_string();
    let own = format!("{REPOSITORY}@{digest}");
    assert!(world.get_as("alice", &own).await.body.contains("with the tags that point at it"));
    let page = world.post("alice", "/actions/delete-manifest", &with(&[("digest", &digest)])).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    assert!(page.body.contains("v1"), "{}", page.body);
    assert_eq!(world.get(&own).await.status, StatusCode::OK);
    let page = world
        .post("alice", "/actions/delete-manifest", &with(&[("digest", &digest), ("with_tags", "on")]))
        .await;
    assert_eq!(location(&page), format!("{REPOSITORY}?view=manifests"));
    assert_eq!(world.get(&own).await.status, StatusCode::NOT_FOUND);
    // What no tag points at goes at once; with the last one there is no page to go back to.
    let digest = sbom().digest.to_string();
    let page = world.post("alice", "/actions/delete-manifest", &with(&[("digest", &digest)])).await;
    assert_eq!(location(&page), format!("{REPOSITORY}?view=manifests"));
    let digest = index_manifest().digest.to_string();
    let page = world
        .post("alice", "/actions/delete-manifest", &with(&[("digest", &digest), ("with_tags", "on")]))
        .await;
    assert_eq!(location(&page), "/u/alice.example");
}

#[tokio::test]
async fn settings_are_kept_in_the_profile() {
    let world = World::new().await;
    let page = world.get_as("bob", "/settings").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(
        page.body.contains("https://pds.example/xrpc/com.atproto.sync.getRepo?did=did%3Aplc%3Abob"),
        "{}",
        page.body
    );
    let form = [("hold", ""), ("client", "podman"), ("auto_remove_untagged", "on")];
    let page = world.post("bob", "/settings", &form).await;
    assert_eq!(location(&page), "/settings?saved=1");
    assert!(page.headers["set-cookie"].to_str().unwrap().starts_with("client=podman;"));
    let profile = world.people.of(&bob(), "io.atcr.sailor.profile").remove(0);
    assert_eq!((&profile["ociClient"], &profile["autoRemoveUntagged"]), (&"podman".into(), &true.into()));
    assert!(profile.get("defaultHold").is_none(), "{profile}");
    let page = world.get_as("bob", "/settings?saved=1").await.body;
    assert!(page.contains("<option value=\"podman\" selected>") && page.contains(" checked>"), "{page}");
    assert!(world.get_as("bob", REPOSITORY).await.body.contains("podman pull "), "it is shown");
    for (field, value) in [
        ("hold", "nonsense"),
        ("hold", "did:web:elsewhere.example"),
        ("client", "<script>"),
        ("client", "rkt"),
    ] {
        let page = world.post("bob", "/settings", &[(field, value)]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{value}: {}", page.body);
        assert!(!page.body.contains("<script>"), "{}", page.body);
    }
    assert_eq!(world.people.of(&bob(), "io.atcr.sailor.profile"), [profile]);
}

#[tokio::test]
async fn everything_is_deleted_for_who_types_their_name() {
    let world = World::new().await;
    world.post("alice", "/actions/star", &with(&[("on", "1")])).await;
    world.post("bob", "/settings", &[("client", "podman")]).await;
    for confirm in ["", "yes", "bob.example"] {
        let page = world.post("alice", "/settings/delete", &[("confirm", confirm)]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{confirm}");
    }
    assert_eq!(world.people.of(&alice(), "io.atcr.sailor.star").len(), 1);
    let page = world.post("alice", "/settings/delete", &[("confirm", "@alice.example")]).await;
    assert_eq!(location(&page), "/");
    assert!(world.people.records.lock().unwrap().keys().all(|(did, ..)| *did == bob()));
    assert!(world.people.of(&alice(), "io.atcr.repo.page").is_empty());
    assert_eq!(world.people.of(&bob(), "io.atcr.sailor.profile").len(), 1);
}

#[tokio::test]
async fn a_manifest_shows_its_config_and_history_as_text() {
    let world = World::new().await;
    let page = world.get(&format!("{REPOSITORY}@{}", image().digest)).await.body;
    for text in ["How it was made", "RUN echo &#60;script&#62;", "linux/&#60;script&#62;"] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(!page.contains(SCRIPT) && !page.contains("<img"), "{page}");
    let of = "owner=alice.example&repository=tools/app";
    let manifest = world.json(&format!("/api/v1/manifest?{of}&digest={}", image().digest)).await;
    assert_eq!(manifest["config"]["history"][0]["createdBy"], format!("RUN echo {SCRIPT}"));
    assert_eq!(manifest["config"]["platform"], format!("linux/{SCRIPT}"));
    assert!(config().len() < 1000);
}

#[tokio::test]
async fn a_feed_tells_where_tags_went() {
    let world = World::new().await;
    let page = world.get("/feed/alice.example/tools/app").await;
    assert_eq!(page.headers["content-type"], "application/atom+xml; charset=utf-8");
    assert!(page.body.starts_with("<?xml") && page.body.trim_end().ends_with("</feed>"), "{}", page.body);
    assert_eq!(page.body.matches("<entry>").count(), 2);
    assert!(page.body.contains("<title>alice.example/tools/app:v1</title>"), "{}", page.body);
    assert!(page.body.contains(&format!("href=\"https://registry.example{REPOSITORY}@{}\"", image().digest)));
    let html = world.get(REPOSITORY).await.body;
    assert!(
        html.contains("type=\"application/atom+xml\"")
            && html.contains("href=\"/feed/alice.example/tools/app\"")
    );
    assert!(html.contains("property=\"og:title\" content=\"alice.example/tools/app\""), "{html}");
    assert!(html.contains("property=\"og:description\" content=\"Tools for gardeners\""), "{html}");
    assert_eq!(world.get("/feed/alice.example/none").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_scripts_name_the_registry_and_nothing_else() {
    let world = World::new().await;
    for path in ["/install.sh", "/install.ps1"] {
        let page = world.get(path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(page.headers["content-type"], "text/plain; charset=utf-8");
        assert!(
            page.body.contains("'registry.example'") && !page.body.contains("REGISTRY_HOST"),
            "{}",
            page.body
        );
        assert!(world.get("/install").await.body.contains(&format!("https://registry.example{path}")));
    }
}

async fn call(world: &World, who: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let headers = [("content-type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let page = world.send(method, path, who, &headers, body).await;
    let value = serde_json::from_str(&page.body).unwrap_or_else(|_| panic!("{path}: {}", page.body));
    (page.status, value)
}

#[tokio::test]
async fn the_api_does_what_the_forms_do() {
    let world = World::new().await;
    let of = "owner=alice.example&repository=tools/app";
    let star = format!("/api/v1/star?{of}");
    let done = async |who: &str, method, path: &str, body| {
        let (status, value) = call(&world, who, method, path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    };
    let (put, delete) = (Method::PUT, Method::DELETE);
    assert_eq!(done("alice", put.clone(), &star, Value::Null).await, json!({ "starred": true }));
    assert_eq!(done("alice", Method::GET, &star, Value::Null).await, json!({ "starred": true }));
    assert_eq!(done("alice", delete.clone(), &star, Value::Null).await, json!({ "starred": false }));
    assert_eq!(done("alice", Method::GET, &star, Value::Null).await, json!({ "starred": false }));

    let page = json!({ "description": "by the API" });
    done("alice", put.clone(), &format!("/api/v1/repository?{of}"), page).await;
    let repository = world.json(&format!("/api/v1/repository?{of}")).await;
    assert_eq!(repository["description"], "by the API");

    let avatar = format!("/api/v1/repository/avatar?{of}");
    let set = async |who: &str, picture: &[u8]| {
        let page = world.send(Method::PUT, &avatar, who, &[], picture.to_vec()).await;
        page.status
    };
    assert_eq!(set("alice", PNG).await, StatusCode::OK);
    let record = world.people.of(&alice(), "io.atcr.repo.page").remove(0);
    assert_eq!(record["description"], "by the API", "what was there stays");
    assert_eq!(record["avatar"]["mimeType"], "image/png");
    assert_eq!(set("alice", b"<svg onload=alert(1)>").await, StatusCode::BAD_REQUEST);
    assert_eq!(set("alice", &[PNG, &vec![0; 3_000_000]].concat()).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(set("bob", PNG).await, StatusCode::FORBIDDEN);
    assert_eq!(world.people.of(&alice(), "io.atcr.repo.page"), [record]);
    done("alice", delete.clone(), &avatar, Value::Null).await;
    let record = world.people.of(&alice(), "io.atcr.repo.page").remove(0);
    assert!(record.get("avatar").is_none() && record["description"] == "by the API", "{record}");

    let settings = json!({ "ociClient": "crane", "autoRemoveUntagged": true });
    done("alice", put.clone(), "/api/v1/settings", settings).await;
    let settings = done("alice", Method::GET, "/api/v1/settings", Value::Null).await;
    assert_eq!((&settings["ociClient"], &settings["autoRemoveUntagged"]), (&"crane".into(), &true.into()));

    let digest = index_manifest().digest;
    done("alice", put.clone(), &format!("/api/v1/tag?{of}&tag=v1&digest={digest}"), Value::Null).await;
    done("alice", delete.clone(), &format!("/api/v1/tag?{of}&tag=latest"), Value::Null).await;
    let own = format!("/api/v1/manifest?{of}&digest={digest}");
    let (status, error) = call(&world, "alice", delete.clone(), &own, Value::Null).await;
    assert_eq!((status, &error["error"]), (StatusCode::CONFLICT, &"Conflict".into()));
    done("alice", delete.clone(), &format!("{own}&withTags=true"), Value::Null).await;
    assert_eq!(world.get(&own).await.status, StatusCode::NOT_FOUND);
    let all = "/api/v1/records?confirm=did:plc:bob";
    assert_eq!(call(&world, "alice", delete.clone(), all, Value::Null).await.0, StatusCode::BAD_REQUEST);
    let all = "/api/v1/records?confirm=did:plc:alice";
    assert_eq!(done("alice", delete.clone(), all, Value::Null).await, json!({ "deleted": 2 }));

    for (method, path) in [(put, star.as_str()), (delete, all), (Method::GET, "/api/v1/settings")] {
        let (status, error) = call(&world, "", method, path, Value::Null).await;
        assert_eq!((status, &error["error"]), (StatusCode::UNAUTHORIZED, &"AuthenticationRequired".into()));
    }
}
