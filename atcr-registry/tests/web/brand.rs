//! What a registry calls itself, looks like, and is reached by.

use atcr_registry::web::{Brand, Logo, RegistryDomain};
use http::{Method, StatusCode};
use serde_json::json;

use crate::world::{SCRIPT, World, image};

const REPOSITORY: &str = "/r/alice.example/tools/app";
const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";

async fn branded() -> World {
    let mut brand = Brand::new(format!("Registry {SCRIPT}"));
    brand.short_name = Some("R&D".to_owned());
    brand.accent = Some("#ff69b4".parse().unwrap());
    brand.logo = Some(Logo::read(SVG).unwrap());
    brand.company = Some("Example & Sons".to_owned());
    brand.terms = Some("https://example.com/terms".parse().unwrap());
    World::with(|ui, _| ui.with_brand(brand)).await
}

#[tokio::test]
async fn every_page_has_the_name_the_colour_the_logo_and_who_runs_it() {
    let world = branded().await;
    for path in ["/", REPOSITORY, "/install", "/u/nobody.example"] {
        let page = world.get(path).await.body;
        for text in ["R&#38;D</a>", "Example &#38; Sons", "href=\"https://example.com/terms\""] {
            assert!(page.contains(text), "{text} is not on {path}: {page}");
        }
        assert!(!page.contains(SCRIPT) && !page.contains("Privacy") && !page.contains("style="), "{page}");
    }
    let page = world.get("/").await.body;
    assert!(page.contains("<title>Registry &#60;script&#62;"), "{page}");
    let style = page.split("href=\"").map(|rest| rest.split('"').next().unwrap());
    let style = style.filter(|link| link.starts_with("/assets/brand-")).collect::<Vec<_>>();
    let style = world.get(style[0]).await;
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
    assert!(style.body.contains("--blue: #"), "{}", style.body);
    let logo = page.split("<img src=\"").nth(1).unwrap().split('"').next().unwrap();
    let logo = world.get(logo).await;
    assert_eq!((logo.status, logo.body.as_str()), (StatusCode::OK, SVG));
    assert_eq!(logo.headers["content-type"], "image/svg+xml");
    assert_eq!(logo.headers["x-content-type-options"], "nosniff");
    let policy = logo.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
    // Without a brand of its own a registry has no footer, and one stylesheet.
    let page = World::new().await.get("/").await.body;
    assert!(!page.contains("<footer>") && page.matches("rel=\"stylesheet\"").count() == 1, "{page}");
    assert_eq!(
        World::new().await.get("/assets/brand-0000000000000000.css").await.status,
        StatusCode::NOT_FOUND
    );
}

async fn of_many_names() -> World {
    let domains = ["images.example", "registry.example", "localhost:5000"];
    let domains = domains.map(|domain| domain.parse::<RegistryDomain>().unwrap()).to_vec();
    World::with(|ui, _| ui.with_domains(domains)).await
}

#[tokio::test]
async fn commands_have_the_name_that_somebody_has_chosen_or_the_first() {
    let world = of_many_names().await;
    let manifest = format!("{REPOSITORY}@{}", image().digest);
    let shows = async |who: &str, domain: &str| {
        for path in [REPOSITORY, &manifest, "/install"] {
            let page = world.get_as(who, path).await.body;
            assert!(page.contains(&format!("{domain}/")), "{who} {path}: {page}");
        }
        let page = world.get_as(who, REPOSITORY).await.body;
        assert!(page.contains(&format!("docker pull {domain}/alice.example/tools/app:latest")), "{page}");
        // What is elsewhere leads to one place.
        assert!(page.contains("rel=\"canonical\" href=\"https://registry.example/r/"), "{page}");
    };
    shows("", "images.example").await;
    shows("bob", "images.example").await;
    let page = world.get_as("bob", "/settings").await.body;
    assert!(page.contains("<option value=\"images.example\" selected>"), "{page}");
    let page = world.post("bob", "/settings", &[("domain", "LOCALHOST:5000"), ("client", "docker")]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
    let profile = world.people.of(&crate::world::bob(), "io.atcr.sailor.profile").remove(0);
    assert_eq!(profile["registryDomain"], "localhost:5000");
    shows("bob", "localhost:5000").await;
    shows("", "images.example").await;
    let page = world.get_as("bob", "/settings").await.body;
    assert!(page.contains("<option value=\"localhost:5000\" selected>"), "{page}");
    for other in ["elsewhere.example", "<script>", "registry.example:443"] {
        let page = world.post("bob", "/settings", &[("domain", other)]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{other}");
    }
    // Who sets something else keeps it; an empty one is the registry's choice.
    let put = async |body: serde_json::Value| {
        let headers = [("content-type", "application/json")];
        let page = world.send(Method::PUT, "/api/v1/settings", "bob", &headers, body.to_string()).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        let page = world.get_as("bob", "/api/v1/settings").await.body;
        serde_json::from_str::<serde_json::Value>(&page).unwrap()
    };
    let settings = put(json!({ "ociClient": "docker" })).await;
    assert_eq!(settings["registryDomain"], "localhost:5000");
    assert_eq!(settings["registryDomains"].as_array().unwrap().len(), 3);
    assert!(put(json!({ "registryDomain": "" })).await["registryDomain"].is_null());
    shows("bob", "images.example").await;
}

#[tokio::test]
async fn a_name_that_the_registry_does_not_have_is_shown_to_nobody() {
    let world = of_many_names().await;
    world.post("bob", "/settings", &[("domain", "images.example")]).await;
    let key = (crate::world::bob(), "io.atcr.sailor.profile".to_owned(), "self".to_owned());
    let mut profile = world.people.records.lock().unwrap()[&key].clone();
    profile["registryDomain"] = "evil.example".into();
    let rkey = "self".parse().unwrap();
    let op = crate::world::written(atcr_registry::index::Collection::Profile, rkey, profile);
    let event =
        crate::world::commit(crate::world::bob(), 900, atcr_registry::index::Since::Unknown, vec![op]);
    world.index.apply(&[event], None).await.unwrap();
    let page = world.get_as("bob", REPOSITORY).await.body;
    assert!(page.contains("docker pull images.example/") && !page.contains("evil.example"), "{page}");
    // A registry of one name lets nobody choose.
    let page = World::new().await.get_as("bob", "/settings").await.body;
    assert!(!page.contains("name=\"domain\""), "{page}");
}
