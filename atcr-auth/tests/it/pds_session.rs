use std::sync::Arc;
use std::time::Duration;

use atcr_auth::pds_session::{MemorySessionStore, SessionStore};
use atcr_auth::{PdsSessions as _, SessionError, SignIn as _, SignInError};
use atcr_core::Proof;
use futures_util::future::join_all;
use serde_json::Value;

use crate::fake_pds::{FakePds, NOW, PASSWORD, did};

const CREATE: &str = "com.atproto.server.createSession";
const REFRESH: &str = "com.atproto.server.refreshSession";
const SERVICE_AUTH: &str = "com.atproto.server.getServiceAuth";
const METHOD: &str = "io.atcr.hold.initiateUpload";

fn memory() -> Arc<MemorySessionStore> {
    Arc::default()
}

#[tokio::test]
async fn signs_in_by_handle_and_by_did_as_people_type_them() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    for typed in ["alice.test", "@Alice.Test ", "did:plc:alice"] {
        let account = sessions.sign_in(typed, PASSWORD).await.unwrap();
        assert_eq!(account.did, did("did:plc:alice"), "{typed}");
        assert_eq!(account.handle.unwrap().as_str(), "alice.test");
        assert_eq!(account.proof, Proof::AppPassword);
    }
    assert_eq!(sessions.signed_in(&did("did:plc:alice")).await.unwrap().unwrap().did, did("did:plc:alice"));
    assert!(sessions.signed_in(&did("did:plc:bob")).await.unwrap().is_none());
}

#[tokio::test]
async fn asks_the_pds_once_for_sign_ins_with_the_same_password() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    for result in join_all((0..20).map(|_| sessions.sign_in("alice.test", PASSWORD))).await {
        result.unwrap();
    }
    pds.clock.advance(Duration::from_secs(599));
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    assert_eq!((pds.calls(CREATE), pds.total_calls()), (1, 1));
    pds.clock.advance(Duration::from_secs(1));
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    assert_eq!(pds.calls(CREATE), 2);
}

#[tokio::test]
async fn a_remembered_password_counts_only_while_the_session_is_there() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    sessions.sign_out(&did("did:plc:alice")).await.unwrap();
    assert_eq!(pds.calls("com.atproto.server.deleteSession"), 1);
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    assert_eq!((pds.calls(CREATE), pds.lock().unwanted_bodies), (2, 0));
}

#[tokio::test]
async fn a_wrong_password_is_neither_remembered_nor_taken_for_a_right_one() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    for _ in 0..2 {
        let error = sessions.sign_in("alice.test", "wrong").await.unwrap_err();
        assert!(matches!(error, SignInError::WrongPassword { .. }), "{error}");
        assert!(error.to_string().contains("app password"), "{error}");
    }
    assert_eq!(pds.calls(CREATE), 3);
    // Bob's name with Alice's fingerprint in the cache is still Bob's.
    assert_eq!(sessions.sign_in("bob.test", PASSWORD).await.unwrap().did, did("did:plc:bob"));
}

#[tokio::test]
async fn ten_wrong_passwords_close_the_door_for_five_minutes_without_asking_the_pds() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    sessions.sign_in("did:plc:alice", PASSWORD).await.unwrap();
    // Many at once, by both names of the account.
    let names = ["alice.test", "did:plc:alice"];
    let guesses: Vec<String> = (0..30).map(|n| format!("guess-{n}")).collect();
    let tries = guesses.iter().enumerate().map(|(n, guess)| sessions.sign_in(names[n % 2], guess));
    let refused = join_all(tries).await.into_iter().map(Result::unwrap_err);
    let too_many = refused.filter(|error| matches!(error, SignInError::TooManyAttempts { .. })).count();
    assert_eq!((too_many, pds.calls(CREATE)), (20, 11));

    pds.clock.advance(Duration::from_secs(100));
    let error = sessions.sign_in("alice.test", "another-guess").await.unwrap_err();
    let SignInError::TooManyAttempts { retry_after, .. } = error else { panic!("{error}") };
    assert_eq!(retry_after, Duration::from_secs(200));
    // Who has signed in before goes on, and so does everybody else.
    sessions.sign_in("did:plc:alice", PASSWORD).await.unwrap();
    sessions.sign_in("bob.test", PASSWORD).await.unwrap();
    pds.clock.advance(Duration::from_secs(200));
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn faults_of_the_pds_are_not_wrong_passwords_and_do_not_count_as_such() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    for _ in 0..11 {
        pds.script(CREATE, 502, "");
        let error = sessions.sign_in("alice.test", PASSWORD).await.unwrap_err();
        assert!(matches!(error, SignInError::PdsUnavailable { .. }), "{error}");
    }
    pds.lock().header = Some(("ratelimit-reset", (NOW + 42).to_string()));
    pds.script(CREATE, 429, "RateLimitExceeded");
    let error = sessions.sign_in("alice.test", PASSWORD).await.unwrap_err();
    let SignInError::PdsRateLimited { retry_after, .. } = error else { panic!("{error}") };
    assert_eq!(retry_after, Some(Duration::from_secs(42)));
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn each_reason_that_a_sign_in_fails_for_has_its_name() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let error = sessions.sign_in("alice@mail.example", PASSWORD).await.unwrap_err();
    assert!(matches!(&error, SignInError::InvalidIdentifier { .. }) && error.to_string().contains("handle"));
    let error = sessions.sign_in("", PASSWORD).await.unwrap_err();
    assert!(matches!(error, SignInError::InvalidIdentifier { .. }), "{error}");
    let error = sessions.sign_in("nobody.test", PASSWORD).await.unwrap_err();
    assert!(matches!(error, SignInError::UnknownIdentity { .. }), "{error}");
    assert_eq!(pds.total_calls(), 0);
    pds.script(CREATE, 401, "AuthFactorTokenRequired");
    let error = sessions.sign_in("alice.test", PASSWORD).await.unwrap_err();
    assert!(matches!(error, SignInError::SecondFactor { .. }), "{error}");
    pds.script(CREATE, 401, "AccountTakedown");
    let error = sessions.sign_in("alice.test", PASSWORD).await.unwrap_err();
    assert!(matches!(error, SignInError::AccountClosed { .. }), "{error}");
}

#[tokio::test]
async fn a_pds_that_answers_with_another_account_is_refused_and_nothing_is_kept() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    pds.lock().impostor = Some("did:plc:bob".to_owned());
    let error = sessions.sign_in("alice.test", PASSWORD).await.unwrap_err();
    assert!(matches!(error, SignInError::OtherAccount { .. }), "{error}");
    for name in ["did:plc:alice", "did:plc:bob"] {
        assert!(sessions.signed_in(&did(name)).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn calls_carry_the_account_and_come_back_with_what_the_pds_says() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let alice = did("did:plc:alice");
    let error = sessions.query(&alice, "x.y.z", &[]).await.unwrap_err();
    assert!(matches!(&error, SessionError::NoSession(who) if who == &alice), "{error}");
    assert!(error.to_string().contains("docker login"));
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    let output = sessions.query(&alice, "x.y.z", &[("a", "1 &?"), ("b", "")]).await.unwrap();
    assert_eq!((&output["did"], &output["params"]["a"]), (&"did:plc:alice".into(), &"1 &?".into()));
    let output = sessions.procedure(&alice, "x.y.z", serde_json::json!({ "k": 1 })).await.unwrap();
    assert_eq!(output["length"], 7);
    let output = sessions.procedure(&alice, "x.y.z", Value::Null).await.unwrap();
    assert_eq!(output["length"], 0);
    let output = sessions.upload(&alice, "x.y.z", "text/plain", "hello".into()).await.unwrap();
    assert_eq!(output["length"], 5);
    pds.script("x.y.z", 409, "InvalidSwap");
    let error = sessions.query(&alice, "x.y.z", &[]).await.unwrap_err();
    assert_eq!(error.xrpc().unwrap().name(), Some("InvalidSwap"));
}

#[tokio::test]
async fn an_access_token_is_refreshed_before_it_expires_once_for_all_who_need_it() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let alice = did("did:plc:alice");
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    pds.clock.advance(Duration::from_secs(7100));
    sessions.query(&alice, "x.y.z", &[]).await.unwrap();
    assert_eq!(pds.calls(REFRESH), 0);
    pds.clock.advance(Duration::from_secs(50));
    for result in join_all((0..50).map(|_| sessions.query(&alice, "x.y.z", &[]))).await {
        result.unwrap();
    }
    assert_eq!((pds.calls(REFRESH), pds.lock().unwanted_bodies), (1, 0));
}

#[tokio::test]
async fn an_access_token_that_is_refused_early_is_refreshed_and_the_call_repeated_once() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let alice = did("did:plc:alice");
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    pds.refuse_access_tokens();
    for result in join_all((0..20).map(|_| sessions.query(&alice, "x.y.z", &[]))).await {
        result.unwrap();
    }
    assert_eq!(pds.calls(REFRESH), 1);
    // A method that refuses whatever token it gets is not asked for ever.
    let before = pds.calls("x.y.z");
    pds.script("x.y.z", 401, "AuthMissing");
    pds.script("x.y.z", 401, "AuthMissing");
    assert!(sessions.query(&alice, "x.y.z", &[]).await.is_err());
    assert_eq!(pds.calls("x.y.z"), before + 2);
}

#[tokio::test]
async fn several_processes_that_share_a_store_redeem_each_refresh_token_once() {
    let pds = FakePds::start().await;
    let store: Arc<dyn SessionStore> = memory();
    let processes: Vec<_> = (0..4).map(|_| pds.sessions(Arc::clone(&store))).collect();
    let alice = did("did:plc:alice");
    processes[0].sign_in("alice.test", PASSWORD).await.unwrap();
    pds.lock().refresh_takes = Duration::from_millis(5);
    for round in 1..=20 {
        pds.clock.advance(Duration::from_secs(7199));
        let calls = processes.iter().flat_map(|process| (0..5).map(|_| process.query(&alice, "x.y.z", &[])));
        for result in join_all(calls).await {
            result.unwrap();
        }
        assert_eq!((pds.calls(REFRESH), pds.lock().double_redemptions), (round, 0));
    }
}

#[tokio::test]
async fn a_caller_that_stops_waiting_does_not_lose_the_redeemed_session() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let alice = did("did:plc:alice");
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    pds.clock.advance(Duration::from_secs(7199));
    pds.lock().refresh_takes = Duration::from_millis(50);
    let cut_off = tokio::time::timeout(Duration::from_millis(10), sessions.query(&alice, "x.y.z", &[])).await;
    assert!(cut_off.is_err());
    sessions.query(&alice, "x.y.z", &[]).await.unwrap();
    assert_eq!((pds.calls(REFRESH), pds.lock().double_redemptions), (1, 0));
}

#[tokio::test]
async fn a_process_that_died_while_it_refreshed_is_waited_for_no_longer_than_its_lease() {
    let pds = FakePds::start().await;
    let store = memory();
    let sessions = pds.sessions(store.clone());
    let alice = did("did:plc:alice");
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    pds.clock.advance(Duration::from_secs(7199));
    let (_, version) = store.get(&alice).await.unwrap().unwrap();
    assert!(store.lease(&alice, version, pds.clock.unix(), pds.clock.unix() + 30).await.unwrap());
    let waiting = tokio::spawn({
        let (sessions, alice) = (sessions.clone(), alice.clone());
        async move { sessions.query(&alice, "x.y.z", &[]).await }
    });
    // It looks at the store, and asks the PDS nothing while the lease lasts.
    let early = tokio::time::timeout(Duration::from_millis(300), sessions.query(&alice, "x.y.z", &[])).await;
    assert!(early.is_err() && pds.calls(REFRESH) == 0);
    pds.clock.advance(Duration::from_secs(30));
    waiting.await.unwrap().unwrap();
    assert_eq!(pds.calls(REFRESH), 1);
}

#[tokio::test]
async fn a_session_ends_when_its_refresh_is_refused_and_survives_a_fault() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let alice = did("did:plc:alice");
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    pds.clock.advance(Duration::from_secs(7199));
    for status in [429, 500, 503] {
        pds.script(REFRESH, status, "");
        let error = sessions.query(&alice, "x.y.z", &[]).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    sessions.query(&alice, "x.y.z", &[]).await.unwrap();

    pds.revoke_everything();
    let error = sessions.query(&alice, "x.y.z", &[]).await.unwrap_err();
    assert!(matches!(error, SessionError::NoSession(_)), "{error}");
    assert!(sessions.signed_in(&alice).await.unwrap().is_none());
    let before = pds.total_calls();
    assert!(sessions.query(&alice, "x.y.z", &[]).await.is_err());
    assert_eq!(pds.total_calls(), before);
}

#[tokio::test]
async fn tokens_never_reach_another_pds_than_the_one_that_issued_them() {
    let (old, new) = (FakePds::start().await, FakePds::start().await);
    let sessions = old.sessions(memory());
    let alice = did("did:plc:alice");
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    // The account moves.
    old.resolver.insert((*atcr_core::DidResolver::resolve(&*new.resolver, &alice).await.unwrap()).clone());
    let error = sessions.query(&alice, "x.y.z", &[]).await.unwrap_err();
    assert!(matches!(error, SessionError::NoSession(_)), "{error}");
    assert_eq!((new.total_calls(), old.calls("x.y.z")), (0, 0));
}

#[tokio::test]
async fn a_handle_that_has_gone_to_somebody_else_is_not_the_accounts_any_more() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let alice = did("did:plc:alice");
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    pds.add("did:plc:alice", "renamed.test");
    let account = sessions.signed_in(&alice).await.unwrap().unwrap();
    assert_eq!(account.handle.unwrap().as_str(), "renamed.test");
}

#[tokio::test]
async fn service_tokens_are_shared_until_shortly_before_they_expire() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let (alice, hold) = (did("did:plc:alice"), did("did:web:hold.example"));
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    let tokens = join_all((0..20).map(|_| sessions.service_token(&alice, &hold, METHOD))).await;
    let first = tokens.into_iter().map(Result::unwrap).reduce(|a, b| {
        assert_eq!(a, b);
        a
    });
    assert_eq!(pds.calls(SERVICE_AUTH), 1);
    sessions.service_token(&alice, &hold, "io.atcr.hold.completeUpload").await.unwrap();
    sessions.service_token(&alice, &did("did:web:other.example"), METHOD).await.unwrap();
    assert_eq!(pds.calls(SERVICE_AUTH), 3);
    pds.clock.advance(Duration::from_secs(289));
    assert_eq!(sessions.service_token(&alice, &hold, METHOD).await.ok(), first);
    pds.clock.advance(Duration::from_secs(1));
    assert_ne!(sessions.service_token(&alice, &hold, METHOD).await.ok(), first);
    assert_eq!(pds.calls(SERVICE_AUTH), 4);
}

#[tokio::test]
async fn a_pds_that_refuses_the_time_asked_for_chooses_its_own() {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(memory());
    let (alice, hold) = (did("did:plc:alice"), did("did:web:hold.example"));
    sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    pds.script(SERVICE_AUTH, 400, "BadExpiration");
    sessions.service_token(&alice, &hold, METHOD).await.unwrap();
    assert_eq!(pds.calls(SERVICE_AUTH), 2);
    pds.clock.advance(Duration::from_secs(50));
    sessions.service_token(&alice, &hold, METHOD).await.unwrap();
    assert_eq!(pds.calls(SERVICE_AUTH), 3);
}
