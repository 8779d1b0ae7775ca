use std::sync::Arc;
use std::time::Duration;

use atcr_auth::oauth::{ClientKeys, Es256Key};
use atcr_auth::pds_session::{MemorySessionStore, SealingKey, SessionStore as _, SqliteSessionStore};
use atcr_auth::{PdsSessions as _, SessionError, SignIn as _};
use atcr_core::Proof;
use http::StatusCode;
use serde_json::json;

use super::world::*;

const HOLD: &str = "did:web:hold.example";

#[tokio::test]
async fn signs_in_writes_gets_service_tokens_and_signs_out() {
    let world = World::start().await;
    let registry = world.registry();
    let mut visitor = registry.visitor();
    let answer = registry.sign_in(&world, &mut visitor, ALICE).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/device"), "{}", answer.text());

    let signed_in = registry.browsers.signed_in(&visitor.headers()).await.unwrap().unwrap();
    assert_eq!((signed_in.did(), signed_in.name()), (&world.alice, ALICE));
    let account = registry.sessions.signed_in(&world.alice).await.unwrap().unwrap();
    assert_eq!(account.proof, Proof::OAuth);

    let sessions = &registry.sessions;
    let put = |collection: &str| json!({ "repo": world.alice, "collection": collection, "rkey": "self", "record": { "createdAt": "2026-11-21T00:00:00Z" }, "validate": false });
    let put_record = "com.atproto.repo.putRecord";
    sessions.procedure(&world.alice, put_record, put("io.atcr.sailor.profile")).await.unwrap();
    let blob = sessions
        .upload(
            &world.alice,
            "com.atproto.repo.uploadBlob",
            "application/vnd.oci.image.manifest.v1+json",
            "{}".into(),
        )
        .await
        .unwrap();
    assert_eq!(blob["blob"]["mimeType"], "application/vnd.oci.image.manifest.v1+json");
    let hold = HOLD.parse().unwrap();
    for method in ["io.atcr.hold.initiateUpload", "io.atcr.hold.deleteBlob", "com.atproto.sync.getBlob"] {
        sessions.service_token(&world.alice, &hold, method).await.unwrap();
    }
    // What was not asked for is not there.
    let error =
        sessions.procedure(&world.alice, put_record, put("app.bsky.actor.profile")).await.unwrap_err();
    assert_eq!(error.xrpc().unwrap().name(), Some("ScopeMissingError"), "{error}");
    sessions.service_token(&world.alice, &hold, "chat.bsky.convo.sendMessage").await.unwrap_err();

    let page = visitor.get("/auth/account").await;
    assert!(page.text().contains(ALICE), "{}", page.text());
    let kept = registry.store.get(&world.alice).await.unwrap().unwrap().0;
    let answer = visitor.submit(&page, "/auth/logout", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(registry.browsers.signed_in(&visitor.headers()).await.unwrap().is_none());
    // Whoever had copied the session gets nowhere with it.
    registry.store.put(&kept).await.unwrap();
    let error = sessions.query(&world.alice, "com.atproto.server.getSession", &[]).await.unwrap_err();
    assert!(matches!(error, SessionError::NoSession(_)), "{error}");
    assert!(error.to_string().contains(world.alice.as_str()), "{error}");
}

#[tokio::test]
async fn no_request_is_made_that_a_cache_could_have_saved() {
    let world = World::start().await;
    let registry = world.registry();
    let of = |calls: &[(&str, usize)]| {
        calls.iter().map(|(path, n)| ((*path).to_owned(), *n)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let document = format!("/{}", world.alice);
    world.wire.take_calls();
    let mut visitor = registry.visitor();
    let url = registry.begin(&mut visitor, ALICE).await;
    let begun = of(&[
        ("/xrpc/com.atproto.identity.resolveHandle", 1),
        (&format!("/{}/log/audit", world.alice), 0),
        (&document, 1),
        (RESOURCE, 1),
        (SERVER, 1),
        // The first one for the nonce.
        (PAR, 2),
    ]);
    let begun: std::collections::BTreeMap<_, _> = begun.into_iter().filter(|(_, n)| *n > 0).collect();
    assert_eq!(world.wire.take_calls(), begun);
    let back = world.approve(&url, ALICE, "allow").await;
    visitor.get(&path_of(&back)).await;
    assert_eq!(world.wire.take_calls(), of(&[(TOKEN, 1)]), "the browser's own requests go past the wire");

    // The next one asks for nothing twice, and the first call needs no nonce of its own.
    let mut visitor = registry.visitor();
    let url = registry.begin(&mut visitor, ALICE).await;
    let back = world.approve(&url, ALICE, "allow").await;
    visitor.get(&path_of(&back)).await;
    registry.sessions.query(&world.alice, "com.atproto.server.getSession", &[]).await.unwrap();
    let mut calls = world.wire.take_calls();
    // The session before it is ended, in the background.
    calls.remove("/oauth/revoke");
    assert_eq!(calls, of(&[(PAR, 1), (TOKEN, 1), ("/xrpc/com.atproto.server.getSession", 1)]));
    // Somebody else of the same server costs their own identity only.
    registry.begin(&mut registry.visitor(), BOB).await;
    let bobs = format!("/{}", world.bob);
    let mut calls = world.wire.take_calls();
    calls.remove("/oauth/revoke");
    assert_eq!(calls, of(&[("/xrpc/com.atproto.identity.resolveHandle", 1), (&bobs, 1), (PAR, 1)]));
}

#[tokio::test]
async fn a_confidential_client_proves_itself_and_goes_on_through_a_rotation_of_its_key() {
    let world = World::start().await;
    let (old, new) = (Es256Key::generate().unwrap(), Es256Key::generate().unwrap());
    let store: Arc<MemorySessionStore> = Arc::default();
    let registry = world.registry_with(WEB_REGISTRY, store.clone(), ClientKeys::new(old.clone()));
    let mut visitor = registry.visitor();
    let answer = registry.sign_in(&world, &mut visitor, ALICE).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    let set = answer.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("__Host-") && set.contains("; Secure"), "{set}");
    assert!(visitor.cookies.keys().all(|name| name.starts_with("__Host-")), "{:?}", visitor.cookies);

    let keys = ClientKeys::new(new.clone()).with_previous(old.clone());
    let registry = world.registry_with(WEB_REGISTRY, store.clone(), keys);
    let (mut session, _) = store.get(&world.alice).await.unwrap().unwrap();
    assert_eq!(session.oauth.as_ref().unwrap().client_key, Some(old.thumbprint()));
    session.oauth.as_mut().unwrap().expires_at = 0;
    store.put(&session).await.unwrap();
    registry.sessions.query(&world.alice, "com.atproto.server.getSession", &[]).await.unwrap();
    assert_eq!(world.wire.successes(TOKEN), 2, "the code, and one refresh");
    for path in ["/oauth-client-metadata.json", "/client-metadata.json"] {
        let metadata = registry.visitor().get(path).await;
        let metadata: serde_json::Value = serde_json::from_str(metadata.text()).unwrap();
        assert_eq!(metadata["client_id"], format!("{WEB_REGISTRY}{path}"));
        assert_eq!(metadata["dpop_bound_access_tokens"], true);
    }
    let jwks = registry.visitor().get("/auth/oauth/jwks.json").await;
    assert!(jwks.text().contains(&old.thumbprint()) && jwks.text().contains(&new.thumbprint()));
    assert!(!jwks.text().contains("\"d\""), "no secrets");
}

#[tokio::test]
async fn sessions_survive_a_restart_and_stand_encrypted_in_the_file() {
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions");
    let open = async |key: u8| {
        let store = SqliteSessionStore::open(&path, SealingKey::new(&[key; 32])).await.unwrap();
        world.registry_with(REGISTRY, Arc::new(store), ClientKeys::new(Es256Key::generate().unwrap()))
    };
    let mut visitor = {
        let registry = open(1).await;
        let mut visitor = registry.visitor();
        registry.sign_in(&world, &mut visitor, ALICE).await;
        visitor
    };
    let registry = open(1).await;
    assert!(registry.browsers.signed_in(&visitor.headers()).await.unwrap().is_some());
    registry.sessions.query(&world.alice, "com.atproto.server.getSession", &[]).await.unwrap();
    let (session, _) = registry.store.get(&world.alice).await.unwrap().unwrap();
    let secrets =
        [session.access.clone(), session.refresh.clone(), visitor.cookies.remove("atcr-session").unwrap()];
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    let registry = open(2).await;
    assert!(registry.sessions.signed_in(&world.alice).await.unwrap().is_none(), "another key opens nothing");
}

#[tokio::test]
async fn a_server_without_the_permission_set_is_asked_for_each_permission_and_remembered() {
    let world = World::start().await;
    let registry = world.registry();
    let unknown = br#"{"error":"invalid_scope","error_description":"Could not resolve Lexicon"}"#.to_vec();
    let headers =
        || [("dpop-nonce", "n")].into_iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
    registry.begin(&mut registry.visitor(), BOB).await;
    world.wire.take_calls();
    world.wire.lie_once(PAR, Lie::Instead(StatusCode::BAD_REQUEST, headers(), unknown));
    let mut visitor = registry.visitor();
    let answer = registry.sign_in(&world, &mut visitor, ALICE).await;
    assert_eq!(answer.location(), "/device", "{}", answer.text());
    let (session, _) = registry.store.get(&world.alice).await.unwrap().unwrap();
    assert!(session.oauth.unwrap().scope.contains("repo:io.atcr.manifest "), "each by itself");
    assert_eq!(world.wire.calls(PAR), 3, "refused, again for the nonce that the refusal has spoiled");
}

#[tokio::test]
async fn a_server_that_drops_what_it_does_not_know_is_asked_for_all_in_one_word() {
    let world = World::start().await;
    let registry = world.registry();
    let mut visitor = registry.visitor();
    world.wire.change(TOKEN, |answer| {
        if !answer["scope"].as_str().unwrap().contains("transition:generic") {
            answer["scope"] = json!("atproto");
        }
    });
    let mut url = registry.begin(&mut visitor, ALICE).await;
    let mut consents = 0;
    let answer = loop {
        let back = world.approve(&url, ALICE, "allow").await;
        consents += 1;
        let answer = visitor.get(&path_of(&back)).await;
        match answer.location().parse() {
            Ok(next) => url = next,
            Err(_) => break answer,
        }
    };
    assert_eq!((answer.location(), consents), ("/device", 3));
    let (session, _) = registry.store.get(&world.alice).await.unwrap().unwrap();
    assert_eq!(session.oauth.unwrap().scope, "atproto transition:generic");
    assert_eq!(world.wire.calls("/oauth/revoke"), 2, "what was of no use was given back");
}

#[tokio::test]
async fn whoever_permits_too_little_is_told_what_is_missing() {
    let world = World::start().await;
    let registry = world.registry();
    let mut visitor = registry.visitor();
    world.wire.change(TOKEN, |answer| {
        let scope = answer["scope"].as_str().unwrap().replace("rpc:io.atcr.hold.deleteBlob?aud=*", "");
        answer["scope"] = json!(scope);
    });
    let url = registry.begin(&mut visitor, ALICE).await;
    let back = world.approve(&url, ALICE, "allow").await;
    let again = visitor.get(&path_of(&back)).await;
    let back = world.approve(&again.location().parse().unwrap(), ALICE, "allow").await;
    let answer = visitor.get(&path_of(&back)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("rpc:io.atcr.hold.deleteBlob"), "{}", answer.text());
    assert!(registry.store.get(&world.alice).await.unwrap().is_none());
    assert_eq!(world.wire.calls("/oauth/revoke"), 2);
}

#[tokio::test]
async fn a_denial_is_said_and_nothing_is_kept() {
    let world = World::start().await;
    let registry = world.registry();
    let mut visitor = registry.visitor();
    let url = registry.begin(&mut visitor, ALICE).await;
    let back = world.approve(&url, ALICE, "deny").await;
    let answer = visitor.get(&path_of(&back)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("The user rejected the request"), "{}", answer.text());
    assert!(registry.browsers.signed_in(&visitor.headers()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_app_password_takes_the_place_of_an_oauth_session_which_is_ended() {
    let world = World::start().await;
    let registry = world.registry();
    registry.sign_in(&world, &mut registry.visitor(), ALICE).await;
    let (before, _) = registry.store.get(&world.alice).await.unwrap().unwrap();
    registry.sessions.sign_in(ALICE, PASSWORD).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        while world.wire.calls("/oauth/revoke") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the old session is ended");
    let account = registry.sessions.signed_in(&world.alice).await.unwrap().unwrap();
    assert_eq!(account.proof, Proof::AppPassword);
    registry.sessions.query(&world.alice, "com.atproto.server.getSession", &[]).await.unwrap();
    assert!(before.oauth.is_some());
}

#[tokio::test]
async fn pages_ask_for_a_handle_escape_what_was_typed_and_carry_a_strict_policy() {
    let world = World::start().await;
    let registry = world.registry();
    let mut visitor = registry.visitor();
    let page = visitor.get("/auth/oauth/login?return_to=/device?code=1").await;
    assert_eq!(page.status, StatusCode::OK);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !page.text().contains("<script"), "no script is needed");
    assert!(page.text().contains("<label for=\"handle\">"), "{}", page.text());
    let bad = visitor.get("/auth/oauth/login?handle=%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(!bad.text().contains("<script>alert"), "{}", bad.text());
    assert!(bad.text().contains("role=\"alert\""), "{}", bad.text());
    let nobody = visitor.get("/auth/oauth/login?handle=nobody.test").await;
    assert_eq!(nobody.status, StatusCode::BAD_REQUEST);
    assert!(nobody.text().contains("nobody.test"), "{}", nobody.text());
    // Nobody is signed in yet.
    let account = visitor.get("/auth/account").await;
    assert_eq!(account.location(), "/auth/oauth/login?return_to=%2Fauth%2Faccount");
}

#[tokio::test]
async fn a_session_that_permits_less_than_is_needed_today_counts_as_none() {
    let world = World::start().await;
    let registry = world.registry();
    let mut visitor = registry.visitor();
    registry.sign_in(&world, &mut visitor, ALICE).await;
    let (mut session, _) = registry.store.get(&world.alice).await.unwrap().unwrap();
    let grant = session.oauth.as_mut().unwrap();
    grant.scope = grant.scope.replace("rpc:io.atcr.hold.deleteBlob?aud=*", "");
    registry.store.put(&session).await.unwrap();
    assert!(registry.sessions.signed_in(&world.alice).await.unwrap().is_none());
    assert!(registry.browsers.signed_in(&visitor.headers()).await.unwrap().is_none());
}
