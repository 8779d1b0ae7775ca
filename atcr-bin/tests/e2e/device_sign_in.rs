//! The whole way from `login` to a push, and back out.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use oci_distribution::secrets::RegistryAuth;
use serde_json::Value;
use url::Url;

use crate::credential_helper::Home;
use crate::sign_in::{Browser, location};
use crate::support::{Account, Dev, client, image, pull, reference};

/// `login`, waiting for its approval; gives the page to open too.
pub(crate) fn begin_login(home: &Home, args: &[&str]) -> (Child, Url) {
    let mut command = home.command(&[&["login", "--no-browser"], args].concat());
    let mut login = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(login.stderr.as_mut().unwrap()).lines().map(Result::unwrap);
    let link = said.find(|line| line.trim().starts_with("http")).unwrap();
    (login, link.trim().parse().unwrap())
}

/// Approves a device, signing in on the way there.
pub(crate) async fn approve(browser: &mut Browser, dev: &Dev, account: &Account, link: &Url) -> String {
    let sent = location(&browser.open(link).await);
    assert_eq!(sent.path(), "/auth/oauth/login", "nobody is signed in yet");
    let (_, return_to) = sent.query_pairs().find(|(name, _)| name == "return_to").unwrap();
    let back = location(&browser.sign_in(dev, account, &return_to).await);
    assert_eq!(&back, link, "where it was going");
    let page = browser.open(&back).await.text().await.unwrap();
    let done = browser.submit(&page, &link.join("/device").unwrap(), &[("decision", "allow")]).await;
    assert!(done.text().await.unwrap().contains("Device allowed"));
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn login_approval_push_and_logout() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let (registry, alice, home) = (dev.text("registry"), dev.account(0), Home::new());

    // The helper waits in its terminal, while its user approves it in a browser.
    let (login, link) = begin_login(&home, &[registry, "--device-name", "test bench"]);
    let mut browser = Browser::new();
    let page = approve(&mut browser, &dev, &alice, &link).await;
    assert!(page.contains("test bench") && page.contains("127.0.0.1"), "{page}");
    let output = login.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(printed.contains(&format!("Signed in at {registry} as {}", alice.handle)), "{printed}");

    // What `get` gives is good for a push, which is anybody's to pull.
    let got: Value = serde_json::from_slice(&home.run(&["get"], registry).stdout).unwrap();
    assert_eq!(got["Username"], alice.handle.as_str());
    let secret = got["Secret"].as_str().unwrap();
    let auth = RegistryAuth::Basic(alice.handle.clone(), secret.to_owned());
    let name = format!("{}/app:1", alice.handle);
    let (layers, config) = image(b"pushed by a device");
    client().push(&reference(registry, &name), &layers, config, &auth, None).await.unwrap();
    assert_eq!(pull(registry, &name).await, b"pushed by a device");

    // Nothing that is kept at the registry is the secret.
    for entry in std::fs::read_dir(dir.path().join("appview")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
    }
    let list = link.join("/auth/devices").unwrap();
    let devices = browser.open(&list).await.text().await.unwrap();
    assert!(devices.contains("test bench"), "{devices}");

    let logout = home.run(&["logout", registry], "");
    assert!(logout.status.success() && logout.stderr.is_empty(), "{logout:?}");
    let (layers, config) = image(b"too late");
    let refused = client().push(&reference(registry, &name), &layers, config, &auth, None).await;
    assert!(refused.is_err(), "the device is no more");
    let devices = browser.open(&list).await.text().await.unwrap();
    assert!(!devices.contains("test bench"), "{devices}");
    assert_eq!(home.run(&["get"], registry).stdout, b"credentials not found in native keychain\n");
    assert_eq!(pull(registry, &name).await, b"pushed by a device");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_survives_a_restart_of_everything_and_dies_with_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path());
    let (alice, home) = (dev.account(0), Home::new());
    // The port of a registry is part of its name, so it comes back at the same one.
    let registry = dev.text("registry").to_owned();
    let port = registry.rsplit_once(':').unwrap().1.to_owned();
    let (login, link) = begin_login(&home, &[&registry]);
    let mut browser = Browser::new();
    approve(&mut browser, &dev, &alice, &link).await;
    assert!(login.wait_with_output().unwrap().status.success());

    assert_eq!(dev.process.stop("KILL"), None);
    let _dev = Dev::start_with(dir.path(), &["--port", &port]);
    let status = home.run(&["status"], "");
    let line = format!("* {} (device): signed in", alice.handle);
    assert!(String::from_utf8_lossy(&status.stdout).contains(&line), "{status:?}");

    let account = browser.open(&link.join("/auth/account").unwrap()).await.text().await.unwrap();
    assert_eq!(browser.submit(&account, &link.join("/auth/logout").unwrap(), &[]).await.status(), 200);
    let status = home.run(&["status"], "");
    assert!(String::from_utf8_lossy(&status.stdout).contains("sign in again"), "{status:?}");
}
