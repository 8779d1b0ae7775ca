use std::path::Path;

use crate::oauth_world::{Browser, Client, SCOPE, Tokens};
use crate::world::{ALICE, PASSWORD, World};

async fn world_in(dir: &Path) -> World {
    World::with(|config| config.data_dir = Some(dir.to_owned())).await
}

#[tokio::test]
async fn sessions_requests_and_browsers_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let world = world_in(dir.path()).await;
    let client = Client::loopback(&world, SCOPE);
    let tokens = client.sign_in().await;
    let uri = client.pushed(&[]).await;
    let browser = Browser::new(&world);
    let page = browser.log_in(&client.authorize_path(&uri), ALICE, PASSWORD).await;
    let (key, verifier, cookies) =
        (client.key.clone(), client.verifier.clone(), browser.cookies.lock().unwrap().clone());
    let proof = client.proof(&client.proof_claims("POST", "/oauth/token", None));
    drop(world);

    let world = world_in(dir.path()).await;
    let client = Client { key, verifier, ..Client::loopback(&world, SCOPE) };
    // Of before the restart, so its use would not be noticed.
    client.post_with("/oauth/token", &[], Some(&proof)).await.refused(400, "use_dpop_nonce");
    client.learn_nonce().await;
    client.session(&tokens.access).await.ok();
    let next = Tokens::of(&client.refresh(&tokens.refresh).await);
    let browser = Browser::new(&world);
    *browser.cookies.lock().unwrap() = cookies;
    let back = browser.allow(&page).await;
    let code = crate::oauth_world::param(&back, "code").unwrap();
    assert_eq!(client.redeem(&code, &[]).await.refused(400, "invalid_grant"), "Code challenge already used");
    client.session(&next.access).await.ok();
}

#[tokio::test]
async fn the_database_holds_no_secret_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let world = world_in(dir.path()).await;
    let client = Client::loopback(&world, SCOPE);
    let uri = client.pushed(&[]).await;
    let browser = Browser::new(&world);
    let page = browser.log_in(&client.authorize_path(&uri), ALICE, PASSWORD).await;
    let code = crate::oauth_world::param(&browser.allow(&page).await, "code").unwrap();
    let tokens = Tokens::of(&client.redeem(&code, &[]).await);
    let cookie = browser.cookie().split_once('=').unwrap().1.to_owned();
    let mut read = Vec::new();
    for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("accounts.sqlite") {
            read.extend(std::fs::read(entry.path()).unwrap());
        }
    }
    let holds = |text: &str| read.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&client.key.thumbprint()));
    for secret in [uri.rsplit('-').next().unwrap(), &code[4..], &tokens.refresh[4..], &tokens.access, &cookie]
    {
        assert!(!holds(secret), "{secret}");
    }
}
