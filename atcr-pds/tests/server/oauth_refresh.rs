use serde_json::json;

use crate::oauth_world::{Client, Documents, Key, SCOPE, Tokens, world_with};
use crate::world::World;

#[tokio::test]
async fn a_refresh_gives_new_tokens_and_ends_the_old_ones() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let first = client.sign_in().await;
    let second = Tokens::of(&client.refresh(&first.refresh).await);
    assert_eq!(second.answer["scope"], SCOPE);
    assert_eq!(second.answer["sub"], json!(world.alice.did));
    assert_ne!(second.refresh, first.refresh);
    client.session(&second.access).await.ok();
    assert_eq!(client.session(&first.access).await.fails(401, "invalid_token"), "Invalid token");
}

#[tokio::test]
async fn a_replayed_refresh_token_ends_the_session() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let first = client.sign_in().await;
    let second = Tokens::of(&client.refresh(&first.refresh).await);
    let third = Tokens::of(&client.refresh(&second.refresh).await);
    let other = Client::loopback(&world, SCOPE);
    let others = other.sign_in().await;
    assert_eq!(client.refresh(&first.refresh).await.refused(400, "invalid_grant"), "Refresh token replayed");
    assert_eq!(client.session(&third.access).await.fails(401, "invalid_token"), "Invalid token");
    assert_eq!(client.refresh(&third.refresh).await.refused(400, "invalid_grant"), "Invalid refresh token");
    other.session(&others.access).await.ok();
    other.refresh(&others.refresh).await.ok();
}

#[tokio::test]
async fn of_many_who_refresh_at_once_at_most_one_gets_tokens() {
    // In files there are several connections to the database.
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(|config| config.data_dir = Some(dir.path().to_owned())).await;
    let client = Client::loopback(&world, SCOPE);
    let first = client.sign_in().await;
    let tries = (0..6).map(|_| client.refresh(&first.refresh));
    let answers = futures_util::future::join_all(tries).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status.is_success()).collect();
    assert_eq!(won.len(), 1);
    client.session(&Tokens::of(won[0]).access).await.fails(401, "invalid_token");
}

#[tokio::test]
async fn a_stolen_refresh_token_is_worth_nothing_without_the_key() {
    let world = World::new().await;
    let mut client = Client::loopback(&world, SCOPE);
    let tokens = client.sign_in().await;
    let key = std::mem::replace(&mut client.key, Key::new());
    client.refresh(&tokens.refresh).await.refused(400, "invalid_grant");
    client.key = key;
    client.refresh(&tokens.refresh).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn what_was_never_a_refresh_token_ends_nothing() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let tokens = client.sign_in().await;
    let cut = &tokens.refresh[..tokens.refresh.len() - 4];
    for token in ["", "ref-", "ref-x", "nonsense", cut, &tokens.access, &format!("ref-{}", "A".repeat(64))] {
        assert_eq!(
            client.refresh(token).await.refused(400, "invalid_grant"),
            "Invalid refresh token",
            "{token}"
        );
    }
    client.session(&tokens.access).await.ok();
}

#[tokio::test]
async fn a_refresh_asks_for_no_more_than_was_given() {
    let world = World::new().await;
    let client = Client::loopback(&world, "atproto repo:io.atcr.tag");
    let tokens = client.sign_in().await;
    let more = [
        ("grant_type", "refresh_token"),
        ("refresh_token", tokens.refresh.as_str()),
        ("scope", "atproto repo:* transition:generic"),
    ];
    let next = Tokens::of(&client.post("/oauth/token", &more).await);
    assert_eq!(next.answer["scope"], "atproto repo:io.atcr.tag");
    let record =
        json!({"repo": world.alice.did, "collection": "io.atcr.manifest", "rkey": "x", "record": {}});
    client.call(&next.access, "com.atproto.repo.putRecord", &record).await.fails(403, "ScopeMissingError");
}

#[tokio::test]
async fn a_revoked_session_is_over_whichever_token_named_it() {
    let world = World::new().await;
    for by_refresh in [true, false] {
        let client = Client::loopback(&world, SCOPE);
        let tokens = client.sign_in().await;
        let stranger = Client::loopback(&world, SCOPE);
        let token = if by_refresh { &tokens.refresh } else { &tokens.access };
        assert_eq!(stranger.post("/oauth/revoke", &[("token", token)]).await.ok(), json!({}));
        client.session(&tokens.access).await.ok();
        assert_eq!(client.post("/oauth/revoke", &[("token", token)]).await.ok(), json!({}));
        assert_eq!(client.session(&tokens.access).await.fails(401, "invalid_token"), "Invalid token");
        client.refresh(&tokens.refresh).await.refused(400, "invalid_grant");
        client.post("/oauth/revoke", &[("token", token)]).await.ok();
        client.post("/oauth/revoke", &[("token", "nonsense")]).await.ok();
        client.post("/oauth/revoke", &[]).await.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_confidential_session_is_refreshed_with_the_key_that_began_it() {
    let documents = Documents::default();
    let world = world_with(&documents).await;
    let mut client = Client::confidential(&world, &documents);
    let tokens = client.sign_in().await;
    world.advance(30 * 86400);
    client.learn_nonce().await;
    let tokens = Tokens::of(&client.refresh(&tokens.refresh).await);
    let proven = client.assertion_key.take();
    client.refresh(&tokens.refresh).await.refused(400, "invalid_request");
    client.assertion_key = proven;
    let tokens = Tokens::of(&client.refresh(&tokens.refresh).await);

    let other = Key::new();
    let mut jwk = other.jwk();
    jwk["kid"] = json!("two");
    let mut metadata = crate::oauth_world::web_metadata();
    metadata["token_endpoint_auth_method"] = json!("private_key_jwt");
    metadata["token_endpoint_auth_signing_alg"] = json!("ES256");
    metadata["jwks"] = json!({"keys": [jwk]});
    documents.publish(crate::oauth_world::WEB_CLIENT, metadata);
    world.advance(60);
    client.assertion_key = Some((other, "two".into()));
    client.refresh(&tokens.refresh).await.refused(400, "invalid_grant");
}
