use crate::oauth_world::{Browser, Client, Key, LOOPBACK, SCOPE, Tokens, fresh, param};
use crate::world::{ALICE, PASSWORD, World};

#[tokio::test]
async fn a_replayed_code_ends_the_session_that_it_gave() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let code = client.code().await;
    let tokens = Tokens::of(&client.redeem(&code, &[]).await);
    client.session(&tokens.access).await.ok();
    assert_eq!(client.redeem(&code, &[]).await.refused(400, "invalid_grant"), "Invalid code");
    assert_eq!(client.session(&tokens.access).await.fails(401, "invalid_token"), "Invalid token");
    client.refresh(&tokens.refresh).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_code_is_burnt_by_a_wrong_try() {
    let world = World::new().await;
    let short = "x".repeat(42);
    let long = "x".repeat(129);
    let other = fresh("verifier");
    for (changed, description) in [
        (("code_verifier", other.as_str()), "Invalid code_verifier"),
        (("code_verifier", short.as_str()), "code_verifier too short"),
        (("code_verifier", long.as_str()), "Invalid code_verifier"),
        (("code_verifier", ""), "code_verifier is required"),
        (
            ("redirect_uri", "http://127.0.0.1:8999/other"),
            "The redirect_uri parameter must match the one used in the authorization request",
        ),
        (
            ("redirect_uri", ""),
            "The redirect_uri parameter must match the one used in the authorization request",
        ),
    ] {
        let client = Client::loopback(&world, SCOPE);
        let code = client.code().await;
        assert_eq!(client.redeem(&code, &[changed]).await.refused(400, "invalid_grant"), description);
        assert_eq!(client.redeem(&code, &[]).await.refused(400, "invalid_grant"), "Invalid code");
    }
}

#[tokio::test]
async fn a_code_is_bound_to_the_key_and_client_that_asked() {
    let world = World::new().await;
    let mut client = Client::loopback(&world, SCOPE);
    let code = client.code().await;
    let key = std::mem::replace(&mut client.key, Key::new());
    assert_eq!(
        client.redeem(&code, &[]).await.refused(400, "invalid_grant"),
        "DPoP proof does not match the expected JKT"
    );
    client.key = key;
    assert_eq!(client.redeem(&code, &[]).await.refused(400, "invalid_grant"), "Invalid code");

    let code = client.code().await;
    let id = std::mem::replace(&mut client.id, "http://localhost".into());
    assert_eq!(
        client.redeem(&code, &[]).await.refused(400, "invalid_grant"),
        "Token was not issued to this client"
    );
    client.id = id;
    assert_eq!(client.redeem(&code, &[]).await.refused(400, "invalid_grant"), "Invalid code");
}

#[tokio::test]
async fn a_code_ends_after_five_minutes_and_its_challenge_is_not_used_again() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let code = client.code().await;
    world.advance(300);
    client.learn_nonce().await;
    client.redeem(&code, &[]).await.refused(400, "invalid_grant");

    let code = client.code().await;
    Tokens::of(&client.redeem(&code, &[]).await);
    let code = client.code().await;
    assert_eq!(client.redeem(&code, &[]).await.refused(400, "invalid_grant"), "Code challenge already used");
}

#[tokio::test]
async fn of_many_who_redeem_one_code_at_most_one_gets_tokens() {
    // In files there are several connections to the database.
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(|config| config.data_dir = Some(dir.path().to_owned())).await;
    let client = Client::loopback(&world, SCOPE);
    let code = client.code().await;
    let tries = (0..6).map(|_| client.redeem(&code, &[]));
    let answers = futures_util::future::join_all(tries).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status.is_success()).collect();
    assert_eq!(won.len(), 1);
    // The others were replays, so nothing is left of what the first one got.
    client.session(&Tokens::of(won[0]).access).await.fails(401, "invalid_token");
}

#[tokio::test]
async fn the_key_may_be_shown_with_the_code_only() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let answer = client
        .post_with(
            "/oauth/par",
            &[
                ("response_type", "code"),
                ("code_challenge", &crate::oauth_world::sha256(&client.verifier)),
                ("code_challenge_method", "S256"),
                ("state", &client.state),
                ("redirect_uri", LOOPBACK),
                ("scope", SCOPE),
            ],
            None,
        )
        .await;
    assert_eq!(answer.status.as_u16(), 201);
    let uri = answer.json()["request_uri"].as_str().unwrap().to_owned();
    let back = Browser::new(&world).approve(&client.authorize_path(&uri), ALICE, PASSWORD).await;
    let tokens = Tokens::of(&client.redeem(&param(&back, "code").unwrap(), &[]).await);
    client.session(&tokens.access).await.ok();
    let stranger = Client { key: Key::new(), ..Client::loopback(&world, SCOPE) };
    stranger.learn_nonce().await;
    assert_eq!(
        stranger.session(&tokens.access).await.fails(401, "invalid_token"),
        "Invalid DPoP key binding"
    );
}
