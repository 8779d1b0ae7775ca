//! What the audit log says of the whole way from a sign-in to a push and out again, and what it must not say.

use oci_distribution::secrets::RegistryAuth;
use reqwest::Method;
use serde_json::Value;

use crate::credential_helper::Home;
use crate::device_sign_in::{approve, begin_login};
use crate::sign_in::Browser;
use crate::support::{Account, Dev, client, http, image, reference, token};

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_says_who_did_what_from_where_and_holds_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let mut dev = Dev::start_with(dir.path(), &["--audit", path.to_str().unwrap()]);
    let (registry, bob, home) = (dev.text("registry").to_owned(), dev.account(1), Home::new());

    let (login, link) = begin_login(&home, &[&registry, "--device-name", "bench"]);
    let mut browser = Browser::new();
    approve(&mut browser, &dev, &bob, &link).await;
    assert!(login.wait_with_output().unwrap().status.success());
    let got: Value = serde_json::from_slice(&home.run(&["get"], &registry).stdout).unwrap();
    let secret = got["Secret"].as_str().unwrap().to_owned();
    let name = format!("{}/app", bob.handle);
    let auth = RegistryAuth::Basic(bob.handle.clone(), secret.clone());
    let (layers, config) = image(b"noted");
    client().push(&reference(&registry, &format!("{name}:1")), &layers, config, &auth, None).await.unwrap();
    let device = Account { password: secret.clone(), ..bob.clone() };
    let scope = format!("repository:{name}:pull,delete");
    let bearer = token(&registry, Some(&device), &scope).await.unwrap();
    let tag = format!("http://{registry}/v2/{name}/manifests/1");
    let deleted = http().request(Method::DELETE, tag).bearer_auth(&bearer).send().await.unwrap();
    assert_eq!(deleted.status(), 202);

    // Guesses, a password in the place of a name, and one that is right.
    let guess = Account { password: "gu3ss-gu3ss".to_owned(), ..bob.clone() };
    token(&registry, Some(&guess), &scope).await.unwrap_err();
    let swapped = Account { handle: "hunter2-secret".to_owned(), ..guess.clone() };
    token(&registry, Some(&swapped), &scope).await.unwrap_err();
    let invented = Account { password: format!("atcr_device_{}", "A".repeat(43)), ..bob.clone() };
    token(&registry, Some(&invented), &scope).await.unwrap_err();
    let cookies: Vec<String> = browser.secrets().map(str::to_owned).collect();
    assert!(cookies.len() >= 2, "{cookies:?}");
    assert!(home.run(&["logout", &registry], "").status.success());
    let account = browser.open(&link.join("/auth/account").unwrap()).await.text().await.unwrap();
    assert_eq!(browser.submit(&account, &link.join("/auth/logout").unwrap(), &[]).await.status(), 200);
    token(&registry, Some(&bob), &scope).await.unwrap();
    assert_eq!(dev.process.stop("TERM"), Some(0));

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |event: &str, fields: &[(&str, &str)]| {
        let found = lines.iter().filter(|line| line["event"] == event);
        let found = found.filter(|line| fields.iter().all(|(name, value)| line[*name] == *value)).count();
        assert_ne!(found, 0, "no {event} with {fields:?} in\n{text}");
    };
    let did = ("did", bob.did.as_str());
    let here = ("address", "127.0.0.1");
    said("signed_in", &[did, here, ("way", "oauth")]);
    said("device_approved", &[did, here]);
    said("device_added", &[did, here, ("name", "bench")]);
    said("manifest_written", &[did, here, ("repository", &name), ("tags", "1")]);
    said("manifest_deleted", &[did, here, ("repository", &name), ("reference", "1")]);
    said("crew_enrolled", &[did, here, ("role", "member")]);
    said(
        "sign_in_failed",
        &[("account", &bob.handle), here, ("way", "app_password"), ("reason", "wrong_password")],
    );
    said("sign_in_failed", &[here, ("way", "app_password"), ("reason", "invalid_identifier")]);
    said(
        "sign_in_failed",
        &[("account", &bob.handle), here, ("way", "device"), ("reason", "unknown_device")],
    );
    said("device_revoked", &[did, here]);
    said("signed_out", &[did, here]);
    said("signed_in", &[did, here, ("way", "app_password")]);

    let mut secrets = vec![secret, bearer, bob.password, guess.password, swapped.handle, invented.password];
    secrets.extend(cookies);
    for secret in secrets {
        assert!(!text.contains(&secret), "{secret} is in\n{text}");
    }
    // Nothing that looks like a token, a device's secret or a cookie of anybody.
    for sign in ["eyJ", "atcr_device_", "Bearer", "Basic", "csrf"] {
        assert!(!text.contains(sign), "{sign} is in\n{text}");
    }
}
