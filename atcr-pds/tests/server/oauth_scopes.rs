use atcr_pds::accounts::PdsConfig;
use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::oauth_world::{Client, Tokens};
use crate::world::{Answer, World};

impl Client<'_> {
    async fn upload(&self, token: &str, mime_type: &str) -> Answer {
        let path = "/xrpc/com.atproto.repo.uploadBlob";
        let proof = self.proof(&self.proof_claims("POST", path, Some(token)));
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::AUTHORIZATION, format!("DPoP {token}"))
            .header("dpop", proof)
            .header(header::CONTENT_TYPE, mime_type)
            .body(Body::from("{}"));
        self.world.send(request.unwrap()).await
    }

    /// The statuses of the columns of the reference server's table.
    async fn row(&self, token: &str) -> Vec<u16> {
        let did = &self.world.alice.did;
        let record = |collection: &str, rkey: Option<&str>| {
            let mut input = json!({"repo": did, "collection": collection, "record": {"n": self.now()}, "validate": false});
            if let Some(rkey) = rkey {
                input["rkey"] = json!(rkey);
            }
            input
        };
        let put = "com.atproto.repo.putRecord";
        let service = "com.atproto.server.getServiceAuth?aud=did:web:hold.example.com";
        let lxm = "lxm=io.atcr.hold.uploadBlob";
        let delete = json!({"repo": did, "collection": "io.atcr.manifest", "rkey": "m"});
        let answers = [
            self.call(token, put, &record("io.atcr.manifest", Some("m"))).await,
            self.call(token, "com.atproto.repo.createRecord", &record("io.atcr.manifest", None)).await,
            self.call(token, put, &record("io.atcr.tag", Some("m"))).await,
            self.call(token, "com.atproto.repo.deleteRecord", &delete).await,
            self.upload(token, "application/vnd.oci.image.manifest.v1+json").await,
            self.get(token, &format!("{service}%23atcr_hold&{lxm}")).await,
            self.get(token, &format!("{service}&{lxm}")).await,
            self.get(token, &format!("{service}%23atcr_hold")).await,
            self.session(token).await,
        ];
        for answer in &answers {
            if answer.status.as_u16() == 403 {
                assert!(answer.fails(403, "ScopeMissingError").starts_with("Missing required scope \""));
            }
        }
        answers.iter().map(|answer| answer.status.as_u16()).collect()
    }
}

#[tokio::test]
async fn scopes_are_granted_and_enforced_as_the_reference_server_does() {
    const HOLD: &str = "did:web:hold.example.com%23atcr_hold";
    let world = World::new().await;
    for (asked, granted, statuses) in [
        ("atproto", "atproto", [403, 403, 403, 403, 403, 403, 403, 403, 200]),
        (
            "atproto transition:generic",
            "atproto transition:generic",
            [200, 200, 200, 200, 200, 200, 200, 200, 200],
        ),
        (
            "atproto repo:io.atcr.manifest",
            "atproto repo:io.atcr.manifest",
            [200, 200, 403, 200, 403, 403, 403, 403, 200],
        ),
        (
            "atproto repo:io.atcr.manifest?action=create",
            "atproto repo:io.atcr.manifest?action=create",
            [403, 200, 403, 403, 403, 403, 403, 403, 200],
        ),
        ("atproto repo:io.atcr.*", "atproto", [403, 403, 403, 403, 403, 403, 403, 403, 200]),
        ("atproto repo:*", "atproto repo:*", [200, 200, 200, 200, 403, 403, 403, 403, 200]),
        (
            "atproto blob:application/*",
            "atproto blob:application/*",
            [403, 403, 403, 403, 200, 403, 403, 403, 200],
        ),
        (
            &format!("atproto rpc:*?aud={HOLD}"),
            &format!("atproto rpc:*?aud={HOLD}"),
            [403, 403, 403, 403, 403, 200, 403, 200, 200],
        ),
        (
            "atproto rpc:io.atcr.hold.uploadBlob?aud=*",
            "atproto rpc:io.atcr.hold.uploadBlob?aud=*",
            [403, 403, 403, 403, 403, 200, 200, 403, 200],
        ),
        ("atproto rpc:*?aud=* bogus:thing", "atproto", [403, 403, 403, 403, 403, 403, 403, 403, 200]),
    ] {
        let client = Client::loopback(&world, asked);
        let tokens = client.sign_in().await;
        assert_eq!(tokens.answer["scope"], granted, "{asked}");
        assert_eq!(client.row(&tokens.access).await, statuses, "{asked}");
    }
}

#[tokio::test]
async fn the_address_handle_and_status_of_an_account_have_scopes_of_their_own() {
    let world = World::new().await;
    let signed_in = async |scope: &str| {
        let client = Client::loopback(&world, scope);
        let tokens = client.sign_in().await;
        (client, tokens.access)
    };
    for scope in ["atproto transition:email", "atproto account:email", "atproto account:email?action=manage"]
    {
        let (client, token) = signed_in(scope).await;
        assert_eq!(client.session(&token).await.ok()["email"], "alice@example.test", "{scope}");
    }
    let (client, token) = signed_in("atproto transition:generic").await;
    let rename = json!({"handle": "alicia.test"});
    client.call(&token, "com.atproto.identity.updateHandle", &rename).await.fails(403, "ScopeMissingError");
    client
        .call(&token, "com.atproto.server.deactivateAccount", &json!({}))
        .await
        .fails(403, "ScopeMissingError");
    for method in ["com.atproto.server.createAppPassword", "com.atproto.server.activateAccount"] {
        client.call(&token, method, &json!({"name": "x"})).await.fails(403, "Forbidden");
    }
    client
        .get(&token, "com.atproto.server.getServiceAuth?aud=did:web:x.example.com&lxm=com.atproto.server.createAppPassword")
        .await
        .fails(400, "InvalidRequest");
    let (client, token) = signed_in("atproto identity:handle account:status?action=manage").await;
    client.call(&token, "com.atproto.identity.updateHandle", &rename).await.ok();
    client.call(&token, "com.atproto.identity.updateHandle", &json!({"handle": "alice.test"})).await.ok();
    client.call(&token, "com.atproto.server.deactivateAccount", &json!({})).await.ok();
}

fn permission_set() -> Value {
    json!({"$type": "com.atproto.lexicon.schema", "lexicon": 1, "id": "io.atcr.authBasic", "defs": {"main": {
    "type": "permission-set", "title": "ATCR basic", "detail": "Push and pull images", "permissions": [
        {"type": "permission", "resource": "repo", "collection": ["io.atcr.manifest", "io.atcr.tag"]},
        {"type": "permission", "resource": "repo", "collection": ["io.atcr.sailor.profile"],
            "action": ["create", "update"]},
        {"type": "permission", "resource": "rpc", "lxm": ["io.atcr.hold.uploadBlob"], "inheritAud": true},
        {"type": "permission", "resource": "rpc", "lxm": ["io.atcr.hold.getStats"], "aud": "*"},
        {"type": "permission", "resource": "blob", "accept": ["*/*"]},
        {"type": "permission", "resource": "repo", "collection": ["app.bsky.feed.post"]},
        {"type": "permission", "resource": "repo", "collection": ["*"]},
    ]}}})
}

#[tokio::test]
async fn a_permission_set_becomes_what_it_gives() {
    // The authority is an account of the server itself, whose DID is known once it was made.
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(|config| config.data_dir = Some(dir.path().to_owned())).await;
    let publish = async |world: &World, set: &Value| {
        let input = json!({"repo": world.bob.did, "collection": "com.atproto.lexicon.schema",
            "rkey": "io.atcr.authBasic", "record": set});
        world.post_as(&world.bob.access, "com.atproto.repo.putRecord", &input).await.ok();
    };
    publish(&world, &permission_set()).await;
    let authority = world.bob.did.clone();
    drop(world);
    let change = |config: &mut PdsConfig| {
        config.data_dir = Some(dir.path().to_owned());
        config.lexicon_authority = Some(authority.clone());
    };
    let world = World::with(change).await;
    let sign_in = async |scope: &str| {
        let client = Client::loopback(&world, scope);
        let tokens = client.sign_in().await;
        (client, tokens)
    };
    let repo = "repo?collection=io.atcr.manifest&collection=io.atcr.tag \
                repo:io.atcr.sailor.profile?action=create&action=update";
    let stats = "rpc:io.atcr.hold.getStats?aud=*";
    let (client, tokens) = sign_in("atproto include:io.atcr.authBasic").await;
    assert_eq!(tokens.answer["scope"], format!("{repo} {stats} atproto"));
    assert_eq!(client.row(&tokens.access).await, [200, 200, 200, 200, 403, 403, 403, 403, 200]);
    let hold = "did:web:hold.example.com%23atcr_hold";
    let (client, tokens) = sign_in(&format!("atproto include:io.atcr.authBasic?aud={hold}")).await;
    let upload = format!("rpc:io.atcr.hold.uploadBlob?aud={hold}");
    assert_eq!(tokens.answer["scope"], format!("{repo} {upload} {stats} atproto"));
    assert_eq!(client.row(&tokens.access).await, [200, 200, 200, 200, 403, 200, 403, 403, 200]);

    let mut smaller = permission_set();
    smaller["defs"]["main"]["permissions"].as_array_mut().unwrap().truncate(1);
    publish(&world, &smaller).await;
    let next = Tokens::of(&client.refresh(&tokens.refresh).await);
    assert_eq!(next.answer["scope"], "repo?collection=io.atcr.manifest&collection=io.atcr.tag atproto");
}

#[tokio::test]
async fn the_permission_set_of_this_project_is_built_in() {
    let world = World::new().await;
    let client = Client::loopback(&world, "atproto include:io.atcr.authFullApp");
    let tokens = client.sign_in().await;
    assert!(tokens.answer["scope"].as_str().unwrap().contains("collection=io.atcr.manifest"));
    assert_eq!(client.row(&tokens.access).await[..3], [200, 200, 200]);
}
