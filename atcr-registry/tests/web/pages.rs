use std::collections::BTreeSet;
use std::time::Duration;

use atcr_core::records::manifest_rkey;
use atcr_core::syntax::Did;
use atcr_registry::index::{Collection, RecordOp, Since};
use futures_util::StreamExt as _;
use http::{Method, StatusCode};

use crate::world::{SCRIPT, World, alice, commit, config, image, index_manifest, pushed, sbom, tagged};

fn every_page() -> Vec<String> {
    let mut pages: Vec<String> = [
        "/",
        "/?sort=popular",
        "/search",
        "/search?q=gardeners",
        "/search?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "/install",
        "/u/alice.example",
        "/u/did:plc:alice",
        "/u/bob.example?show=stars",
        "/r/alice.example/tools/app",
        "/r/alice.example/tools/app?view=manifests",
        "/r/alice.example/tools/app?view=history",
        "/r/alice.example/tools/app?view=history&tag=v1",
        "/r/alice.example/tools/app?client=podman",
    ]
    .map(str::to_owned)
    .to_vec();
    for manifest in [image(), index_manifest(), sbom()] {
        pages.push(format!("/r/alice.example/tools/app@{}", manifest.digest));
    }
    pages.push(format!("/vulnerabilities/alice.example/tools/app@{}", image().digest));
    pages
}

#[tokio::test]
async fn every_page_loads_nothing_from_elsewhere_and_runs_nothing_of_strangers() {
    let world = World::new().await;
    let own = ["/settings", "/edit/alice.example/tools/app"].map(|path| ("alice", path.to_owned()));
    let pages = every_page().into_iter().flat_map(|path| [("", path.clone()), ("alice", path)]);
    for (who, path) in pages.chain(own) {
        let page = world.get_as(who, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        assert!(!page.body.contains(SCRIPT), "{path}");
        for tag in page.body.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            assert!(!tag.starts_with("img") && !tag.contains("javascript:"), "{path}: {tag}");
            if tag.starts_with("form") {
                assert!(tag.contains("action=\"/") && !tag.contains("action=\"//"), "{path}: {tag}");
            }
            let names_only = tag.contains("rel=\"canonical\"") || tag.contains("rel=\"alternate\"");
            if tag.contains(" src=") || tag.starts_with("link") && !names_only {
                assert!(tag.contains("=\"/assets/"), "{path}: {tag}");
            }
        }
        assert!(page.body.len() < 100_000, "{path} has {} bytes", page.body.len());
        assert!(page.body.contains("<html lang=\"en\">") && page.body.matches("<h1").count() == 1, "{path}");
    }
}

#[tokio::test]
async fn what_a_page_loads_is_there_under_a_name_that_lasts() {
    let world = World::new().await;
    let page = world.get("/").await.body;
    let mut loaded = 0;
    for piece in page.split("\"/assets/").skip(1) {
        let name = piece.split('"').next().unwrap();
        let asset = world.get(&format!("/assets/{name}")).await;
        assert_eq!(asset.status, StatusCode::OK, "{name}");
        assert!(asset.headers["cache-control"].to_str().unwrap().contains("immutable"));
        loaded += 1;
    }
    assert_eq!(loaded, 3);
    assert_eq!(world.get("/assets/other.css").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_repository_says_how_to_pull_it_and_what_its_tags_are() {
    let world = World::new().await;
    let page = world.get("/r/alice.example/tools/app").await.body;
    for text in [
        "docker pull registry.example/alice.example/tools/app:latest",
        "linux/arm64/v8",
        "Tools for gardeners",
        "<span>1 star</span>",
        "<td>4.7 MiB</td>",
        &format!("@{}", image().digest),
        "did:web:hold.example",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    let response = world.get("/r/alice.example/tools/app?client=podman").await;
    assert!(response.body.contains("podman pull registry.example"), "{}", response.body);
    assert!(response.headers["set-cookie"].to_str().unwrap().starts_with("client=podman;"));
}

#[tokio::test]
async fn a_manifest_shows_its_layers_platforms_referrers_and_record() {
    let world = World::new().await;
    let page = world.get(&format!("/r/alice.example/tools/app@{}", image().digest)).await.body;
    for text in
        ["4.7 MiB", "application/spdx+json", "at://did:plc:alice/io.atcr.manifest/", "&#60;script&#62;"]
    {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(page.contains("https://pds.example/xrpc/com.atproto.sync.getRecord?"), "{page}");
    let page = world.get(&format!("/r/did:plc:alice/tools/app@{}", index_manifest().digest)).await.body;
    assert!(page.contains("linux/arm64/v8"), "{page}");
    let page = world.get(&format!("/r/alice.example/tools/app@{}", sbom().digest)).await.body;
    assert!(page.contains("It says something of"), "{page}");
}

#[tokio::test]
async fn what_is_not_there_is_a_page_that_says_so() {
    let world = World::new().await;
    let missing = image().digest.to_string().replace("sha256:", "sha256:0000");
    for path in [
        "/u/nobody.example".to_owned(),
        "/u/did:plc:nobody".to_owned(),
        "/u/%3Cscript%3E".to_owned(),
        "/r/alice.example/none".to_owned(),
        "/r/alice.example/UPPER".to_owned(),
        "/r/nobody.example/app".to_owned(),
        format!("/r/alice.example/tools/app@{}", &missing[..71]),
        "/r/alice.example/tools/app@latest".to_owned(),
        "/live/nobody.example".to_owned(),
    ] {
        let page = world.get(&path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}: {}", page.body);
        assert!(
            page.body.contains("<h1>Not found</h1>") && !page.body.contains("<script>"),
            "{path}: {}",
            page.body
        );
    }
    assert_eq!(world.get("/?cursor=nonsense").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_failure_has_the_frame_of_every_page() {
    let world = World::new().await;
    for path in ["/u/nobody.example", "/r/alice.example/none?client=crane", "/?cursor=nonsense"] {
        let page = world.get(path).await.body;
        let sign_in = format!("href=\"/sign-in?return_to={path}\"");
        assert!(page.contains(">Registry of tests</a>") && page.contains("role=\"search\""), "{page}");
        assert!(page.contains(&sign_in), "{page}");
        let page = world.get_as("alice", path).await.body;
        assert!(page.contains("Signed in as alice.example") && page.contains("token of alice"), "{page}");
    }
    // A form that failed is no place to come back to.
    let page = world.post("", "/actions/star", &[("owner", "nobody.example"), ("repository", "x")]).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.body.contains("href=\"/sign-in?return_to=/\""), "{}", page.body);
    // What the framework refuses has it too, for people.
    for (method, path, status) in [
        (Method::GET, "/there/is/none", StatusCode::NOT_FOUND),
        (Method::GET, "/actions/star", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/actions/star", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let html = [("accept", "text/html,application/xhtml+xml")];
        let page = world.send(method.clone(), path, "alice", &html, "").await;
        assert_eq!(page.status, status, "{path}");
        assert!(page.body.contains("Signed in as alice.example"), "{path}: {}", page.body);
        let page = world.send(method, path, "alice", &[("accept", "*/*")], "").await;
        assert_eq!(page.status, status, "{path}");
        assert!(!page.body.contains("<html"), "{path}: {}", page.body);
    }
    let html = [("accept", "text/html")];
    let of = "owner=alice.example&repository=none";
    let page = world.send(Method::GET, &format!("/api/v1/repository?{of}"), "", &html, "").await;
    assert!(page.body.starts_with('{'), "programs are answered as such: {}", page.body);
}

#[tokio::test]
async fn a_name_with_a_port_leads_to_its_pages_and_back() {
    let world = World::new().await;
    let did: Did = "did:web:localhost%3A3000".parse().unwrap();
    let ops = vec![pushed(&image()), tagged("v1", &image())];
    world.index.apply(&[commit(did, 1, Since::Nothing, ops)], None).await.unwrap();
    let mut open = vec![
        "/u/did:web:localhost%253A3000".to_owned(),
        "/u/did:web:localhost%3A3000".to_owned(),
        "/u/did:web:localhost:3000".to_owned(),
    ];
    let mut seen = BTreeSet::new();
    while let Some(path) = open.pop() {
        if path.starts_with("/live/") || !seen.insert(path.clone()) {
            continue;
        }
        let page = world.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        let links = page.body.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let links = links.map(|link| link.replace("&#38;", "&").replace("&amp;", "&"));
        let here = |link: &String| {
            link.contains("localhost") && link.starts_with('/') && !link.starts_with("/sign-in")
        };
        open.extend(links.filter(here));
    }
    assert!(seen.len() > 10, "{seen:?}");
    assert!(
        seen.iter().any(|path| path.starts_with("/r/did:web:localhost%253A3000/tools/app@sha256:")),
        "{seen:?}"
    );
    let repository =
        world.json("/api/v1/repository?owner=did:web:localhost%253A3000&repository=tools/app").await;
    assert_eq!(repository["did"], "did:web:localhost%3A3000");
}

#[tokio::test]
async fn an_index_is_as_large_as_its_images() {
    let world = World::new().await;
    let index = index_manifest();
    let own = format!("/r/alice.example/tools/app@{}", index.digest);
    for path in ["/r/alice.example/tools/app", "/r/alice.example/tools/app?view=manifests", &own] {
        let page = world.get(path).await.body;
        assert!(page.contains("4.7 MiB") && !page.contains(">0 B<"), "{path}: {page}");
    }
    let of = format!("owner=alice.example&repository=tools/app&digest={}", index.digest);
    let size = world.json(&format!("/api/v1/manifest?{of}")).await["manifest"]["size"].as_u64();
    assert_eq!(size, Some(5_000_000 + config().len() as u64));
    // One whose image is not known says how many there are.
    let ops = vec![RecordOp::gone(Collection::Manifest, manifest_rkey(&image().digest))];
    world.index.apply(&[commit(alice(), 9, Since::Unknown, ops)], None).await.unwrap();
    let page = world.get(&own).await.body;
    assert!(page.contains("multi-platform, 1 platform<") && !page.contains("0 B"), "{page}");
}

#[tokio::test]
async fn an_open_page_hears_of_a_push_and_of_nobody_elses() {
    let world = World::new().await;
    let response = world.response("/live/alice.example").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    let bob = "did:plc:bob".parse().unwrap();
    world.index.apply(&[commit(bob, 2, Since::Unknown, Vec::new())], None).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), events.next()).await.is_err());
    let moved = vec![tagged("v1", &index_manifest())];
    world.index.apply(&[commit(alice(), 2, Since::Unknown, moved)], None).await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    assert!(event.starts_with(b"event: change"), "{event:?}");
}

#[tokio::test]
async fn the_api_says_what_the_pages_show() {
    let world = World::new().await;
    let of = "owner=alice.example&repository=tools/app";
    let repository = world.json(&format!("/api/v1/repository?{of}")).await;
    assert_eq!((&repository["did"], &repository["stars"]), (&"did:plc:alice".into(), &1.into()));
    for list in [
        "/api/v1/repositories",
        "/api/v1/repositories?sort=popular",
        "/api/v1/search?q=gardeners",
        "/api/v1/users/alice.example/repositories",
        "/api/v1/users/bob.example/stars",
    ] {
        assert_eq!(world.json(list).await["items"][0], repository, "{list}");
    }
    let tags = world.json(&format!("/api/v1/tags?{of}")).await;
    assert_eq!(tags["items"].as_array().unwrap().len(), 2);
    assert_eq!(world.json(&format!("/api/v1/history?{of}&tag=v1")).await["items"][0]["tag"], "v1");
    assert_eq!(world.json(&format!("/api/v1/manifests?{of}")).await["items"].as_array().unwrap().len(), 3);
    let manifest = world.json(&format!("/api/v1/manifest?{of}&digest={}", image().digest)).await;
    assert_eq!(manifest["tags"], serde_json::json!(["v1"]));
    assert_eq!(manifest["referrers"][0]["artifactType"], "application/spdx+json");
    let error = world.get("/api/v1/repository?owner=alice.example&repository=none").await;
    assert_eq!(error.status, StatusCode::NOT_FOUND);
    assert!(error.body.contains("\"error\":\"NotFound\""), "{}", error.body);
}

#[tokio::test]
async fn the_description_of_the_api_names_every_path_of_it() {
    let world = World::new().await;
    let described = world.json("/api/v1/openapi.json").await;
    for (path, methods) in described["paths"].as_object().unwrap() {
        // What needs somebody is called in `the_api_does_what_the_forms_do`; here it is refused, not unknown.
        for method in methods.as_object().unwrap().keys() {
            if methods[method]["security"].is_array() {
                let method = method.to_uppercase().parse().unwrap();
                let query = "owner=alice.example&repository=tools/app&confirm=did:plc:alice";
                let headers = [("content-type", "application/json")];
                let body = "{\"description\":\"\"}";
                let page = world.send(method, &format!("/api/v1{path}?{query}"), "", &headers, body).await;
                assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{path}: {}", page.body);
            }
        }
        if methods["get"].is_null() || methods["get"]["security"].is_array() {
            continue;
        }
        let filled = path.replace("{owner}", "alice.example");
        let mut query = Vec::new();
        for parameter in methods["get"]["parameters"].as_array().unwrap() {
            let name = parameter["name"].as_str().unwrap();
            match name {
                "owner" if parameter["in"] == "query" => query.push("owner=alice.example".to_owned()),
                "repository" => query.push("repository=tools/app".to_owned()),
                "digest" => query.push(format!("digest={}", image().digest)),
                "q" => query.push("q=app".to_owned()),
                _ => {}
            }
        }
        let page = world.get(&format!("/api/v1{filled}?{}", query.join("&"))).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
    }
    assert_eq!(described["paths"].as_object().unwrap().len(), 18);
}
