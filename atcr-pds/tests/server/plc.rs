use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::Did;
use atcr_pds::Clock;
use atcr_pds::plc::directory::Directory;
use atcr_pds::plc::{
    HttpDirectory, LogEntry, Operation, PlcDirectory as _, PlcError, PlcService, PlcState, validate_log,
};
use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;

struct Plc {
    router: Router,
}

impl Plc {
    async fn new() -> Self {
        Self { router: Directory::open(None, Clock::system()).await.unwrap().router() }
    }

    async fn send(&self, request: Request<Body>) -> (u16, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn post(&self, did: &Did, operation: &Operation) -> (u16, String) {
        let body = Body::from(serde_json::to_string(operation).unwrap());
        let request = Request::post(format!("/{did}")).header("content-type", "application/json");
        let (status, text) = self.send(request.body(body).unwrap()).await;
        let message = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|json| Some(json["message"].as_str()?.to_owned()));
        (status, message.unwrap_or(text))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

fn keys() -> [SigningKey; 3] {
    [Curve::P256, Curve::K256, Curve::K256].map(|curve| SigningKey::generate(curve).unwrap())
}

fn state(rotation: &[&SigningKey], handle: &str) -> PlcState {
    let endpoint = "http://localhost:8080".to_owned();
    PlcState {
        rotation_keys: rotation.iter().map(|key| key.public_key().to_did_key()).collect(),
        verification_methods: [("atproto".to_owned(), rotation[0].public_key().to_did_key())].into(),
        also_known_as: vec![format!("at://{handle}")],
        services: [("atcr_hold".to_owned(), PlcService { kind: "AtcrHold".into(), endpoint })].into(),
    }
}

#[tokio::test]
async fn a_life_from_genesis_over_recovery_to_tombstone() {
    let plc = Plc::new().await;
    let [high, low, evil] = keys();
    let (did, genesis) = state(&[&high, &low], "hold.test").genesis(&low);
    let wrong: Did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
    assert_eq!(plc.post(&wrong, &genesis).await.0, 400);
    assert_eq!(plc.post(&did, &genesis).await, (200, "OK".into()));
    assert_eq!(plc.post(&did, &genesis).await, (400, "Operations not correctly ordered".into()));

    let by_nobody = state(&[&evil], "x.test").follow(&genesis, &evil);
    assert_eq!(plc.post(&did, &by_nobody).await, (400, "Invalid signature on op".into()));
    let (_, elsewhere) = state(&[&low], "z.test").genesis(&low);
    let wrong_prev = state(&[&low], "x.test").follow(&elsewhere, &low);
    assert_eq!(plc.post(&did, &wrong_prev).await, (400, "Operations not correctly ordered".into()));

    let update = state(&[&high, &low], "new.test").follow(&genesis, &low);
    assert_eq!(plc.post(&did, &update).await.0, 200);
    assert_eq!(plc.get(&format!("/{did}")).await.1["alsoKnownAs"], json!(["at://new.test"]));
    let Operation::Update(mut tampered) = state(&[&high, &low], "y.test").follow(&update, &low) else {
        panic!()
    };
    tampered.also_known_as = vec!["at://z.test".into()];
    assert_eq!(plc.post(&did, &Operation::Update(tampered)).await.0, 400);

    let usurped = state(&[&low], "usurped.test").follow(&genesis, &low);
    assert_eq!(
        plc.post(&did, &usurped).await,
        (400, "Invalid signature on op".into()),
        "a weaker or equal key cannot fork"
    );
    let recovered = state(&[&high], "recovered.test").follow(&genesis, &high);
    assert_eq!(plc.post(&did, &recovered).await.0, 200);
    let (_, audit) = plc.get(&format!("/{did}/log/audit")).await;
    let audit: Vec<LogEntry> = serde_json::from_value(audit).unwrap();
    assert_eq!(audit.iter().map(|entry| entry.nullified).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(validate_log(&did, &audit).unwrap().unwrap().also_known_as, ["at://recovered.test"]);
    assert_eq!(plc.get(&format!("/{did}/log")).await.1.as_array().unwrap().len(), 2);
    assert_eq!(plc.get(&format!("/{did}/log/last")).await.1, serde_json::to_value(&recovered).unwrap());
    let (_, data) = plc.get(&format!("/{did}/data")).await;
    assert_eq!(data["did"], json!(did));
    assert_eq!(data["services"]["atcr_hold"]["type"], "AtcrHold");

    let tombstone = Operation::tombstone(&recovered, &high);
    assert_eq!(plc.post(&did, &tombstone).await.0, 200);
    assert_eq!(
        plc.get(&format!("/{did}")).await,
        (404, json!({"message": format!("DID not available: {did}")}))
    );
    assert_eq!(
        plc.get(&format!("/{wrong}")).await,
        (404, json!({"message": format!("DID not registered: {wrong}")}))
    );
    let after = state(&[&high], "ghost.test").follow(&tombstone, &high);
    assert_eq!(plc.post(&did, &after).await.0, 400);
    let (_, export) = plc.send(Request::get("/export?count=3").body(Body::empty()).unwrap()).await;
    let lines: Vec<LogEntry> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(plc.get("/_health").await.0, 200);
}

#[tokio::test]
async fn what_the_reference_server_limits_is_limited() {
    let plc = Plc::new().await;
    let [high, low, _] = keys();
    let base = || state(&[&high, &low], "hold.test");
    let cases = [
        PlcState { also_known_as: (0..400).map(|n| format!("at://a{n}.example.test")).collect(), ..base() },
        PlcState { also_known_as: vec!["at://a.test".into(); 2], ..base() },
        PlcState { rotation_keys: vec![high.public_key().to_did_key(); 11], ..base() },
        PlcState {
            rotation_keys: vec![high.public_key().to_did_key(), "did:key:zNonsense".into()],
            ..base()
        },
        PlcState { verification_methods: [("x".repeat(33), low.public_key().to_did_key())].into(), ..base() },
        PlcState { verification_methods: [("atproto".into(), "did:web:x.test".into())].into(), ..base() },
        PlcState {
            services: [("s".into(), PlcService { kind: "T".into(), endpoint: "x".repeat(513) })].into(),
            ..base()
        },
    ];
    for case in cases {
        let (did, operation) = case.genesis(&high);
        assert_eq!(plc.post(&did, &operation).await.0, 400);
        assert_eq!(plc.get(&format!("/{did}")).await.0, 404);
    }
    let did: Did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
    for body in ["", "{}", "{\"type\":\"plc_operation\"}", "[1]"] {
        let request = Request::post(format!("/{did}")).body(Body::from(body)).unwrap();
        assert_eq!(plc.send(request).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn of_many_operations_at_once_one_follows() {
    let directory = Directory::open(None, Clock::system()).await.unwrap();
    let [high, low, _] = keys();
    let (did, genesis) = state(&[&high, &low], "hold.test").genesis(&low);
    directory.submit(&did, &genesis).await.unwrap();
    let updates: Vec<Operation> =
        (0..8).map(|n| state(&[&high, &low], &format!("h{n}.test")).follow(&genesis, &low)).collect();
    let tries = updates.iter().map(|update| directory.submit(&did, update));
    let won = futures_util::future::join_all(tries).await.into_iter().flatten().count();
    assert_eq!(won, 1);
    validate_log(&did, &directory.audit_log(&did).await.unwrap()).unwrap();
}

#[tokio::test]
async fn a_directory_over_http_answers_as_the_one_in_process() {
    use atcr_core::egress::{Egress, EgressPolicy};
    let local = Directory::open(None, Clock::system()).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let served = local.router();
    tokio::spawn(async move { axum::serve(listener, served).await });
    let remote = HttpDirectory::new(Egress::new(EgressPolicy::development()).unwrap(), base);

    let [high, low, evil] = keys();
    let (did, genesis) = state(&[&high, &low], "hold.test").genesis(&low);
    assert!(matches!(remote.last(&did).await, Err(PlcError::NotRegistered(_))));
    remote.submit(&did, &genesis).await.unwrap();
    assert!(matches!(remote.submit(&did, &genesis).await, Err(PlcError::Misordered)));
    let bad = state(&[&evil], "x.test").follow(&genesis, &evil);
    assert!(matches!(remote.submit(&did, &bad).await, Err(PlcError::InvalidSignature)));
    assert_eq!(remote.last(&did).await.unwrap(), genesis);
    assert_eq!(remote.audit_log(&did).await.unwrap(), local.audit_log(&did).await.unwrap());
    assert_eq!(remote.document(&did).await.unwrap(), local.document(&did).await.unwrap());
    remote.submit(&did, &Operation::tombstone(&genesis, &high)).await.unwrap();
    assert!(matches!(remote.document(&did).await, Err(PlcError::Tombstoned(_))));
}

#[tokio::test]
async fn a_directory_that_is_silent_or_talks_nonsense_is_not_there() {
    use atcr_core::egress::{Egress, EgressPolicy};
    use axum::routing::any;
    let mut policy = EgressPolicy::development();
    policy.total_timeout = std::time::Duration::from_millis(200);
    let egress = Egress::new(policy).unwrap();
    let [high, low, _] = keys();
    let (did, genesis) = state(&[&high, &low], "hold.test").genesis(&low);
    let endless = || async {
        Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>("[".repeat(65536))))
    };
    for answer in [
        any(|| async { std::future::pending::<()>().await }),
        any(|| async { (http::StatusCode::BAD_GATEWAY, "<html>") }),
        any(endless),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/{*path}", answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let remote = HttpDirectory::new(egress.clone(), base);
        let log = remote.audit_log(&did).await;
        assert!(matches!(log, Err(PlcError::Unavailable(_))), "{log:?}");
        assert!(matches!(remote.document(&did).await, Err(PlcError::Unavailable(_))));
        // Whether it has taken an operation shows in the status alone.
        let _ = remote.submit(&did, &genesis).await;
    }
    let nobody = HttpDirectory::new(egress, "http://localhost:1".parse().unwrap());
    assert!(matches!(nobody.submit(&did, &genesis).await, Err(PlcError::Unavailable(_))));
}
