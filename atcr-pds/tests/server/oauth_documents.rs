use atcr_core::egress::{Egress, EgressPolicy};
use atcr_pds::accounts::{ClientDocuments as _, DocumentError, EgressDocuments};
use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use url::Url;

const ORIGIN: &str = "https://app.example.com";

/// Documents of an origin that is really this server on loopback.
async fn documents() -> EgressDocuments {
    let json = |body: String| async move { ([(CONTENT_TYPE, "application/json; charset=utf-8")], body) };
    let router = Router::new()
        .route("/client.json", get(move || json("{}".into())))
        .route("/large.json", get(move || json("x".repeat(64 * 1024 + 1))))
        .route("/page.html", get(|| async { ([(CONTENT_TYPE, "text/html")], "{}") }))
        .route("/moved.json", get(|| async { Redirect::temporary("/client.json") }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let gate = Egress::new(EgressPolicy::development()).unwrap();
    EgressDocuments::new(gate).with_origin(&ORIGIN.parse().unwrap(), here.parse().unwrap())
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_document_is_json_of_bounded_size_at_its_very_address() {
    let documents = documents().await;
    let fetch = async |path: &str| documents.fetch(&url(&format!("{ORIGIN}{path}"))).await;
    assert_eq!(&fetch("/client.json").await.unwrap()[..], b"{}");
    assert!(matches!(fetch("/large.json").await, Err(DocumentError::Egress(_))));
    assert!(matches!(fetch("/page.html").await, Err(DocumentError::ContentType(_))));
    for path in ["/moved.json", "/missing.json"] {
        assert!(matches!(fetch(path).await, Err(DocumentError::Status { .. })), "{path}");
    }
}

#[tokio::test]
async fn no_document_is_fetched_from_a_private_address() {
    let documents = documents().await;
    for address in
        ["https://10.0.0.1/client.json", "https://169.254.169.254/latest", "http://example.com/client.json"]
    {
        assert!(matches!(documents.fetch(&url(address)).await, Err(DocumentError::Egress(_))), "{address}");
    }
}
