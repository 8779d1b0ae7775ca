//! What every [`DeviceStore`] must do, as a function that a test calls with an implementation.

use std::sync::Arc;

use atcr_core::syntax::Did;

use super::{DeviceId, DeviceRequest, DeviceStore, Kept, Polled, UserCode};
use crate::browser::RowName;

/// Whose device is left in the store when the suite has run.
pub const ALICE: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const BOB: &str = "did:web:bob.test";

fn request(n: u8, code: &str, address: &str, expires: i64) -> DeviceRequest {
    DeviceRequest {
        code: RowName([n; 32]),
        user_code: UserCode::parse(code).expect("a code"),
        name: format!("device {n}"),
        address: address.to_owned(),
        expires,
    }
}

/// Runs the suite. The stores are views of one and the same devices, as several processes have them.
pub async fn check(stores: &[Arc<dyn DeviceStore>]) {
    let (Some(first), Some(last)) = (stores.first(), stores.last()) else { panic!("a store to check") };
    let (alice, bob): (Did, Did) = (ALICE.parse().expect("a DID"), BOB.parse().expect("a DID"));
    let handle = "alice.test".parse().expect("a handle");
    let ask =
        async |request: &DeviceRequest, now| first.request(request, now, 300).await.expect("writing works");
    let poll = async |n: u8, secret: u8, now| {
        let id = DeviceId::new(format!("device-{secret}"));
        last.poll(RowName([n; 32]), &id, RowName([secret; 32]), now, 5).await.expect("polling works")
    };

    let one = request(1, "BCDFGHJK", "192.0.2.1", 700);
    let two = request(2, "BCDFGHJL", "192.0.2.1", 700);
    assert_eq!(ask(&one, 100).await, Kept::Kept);
    assert_eq!(ask(&request(3, "BCDFGHJK", "192.0.2.2", 700), 100).await, Kept::CodeTaken);
    assert_eq!(ask(&two, 100).await, Kept::Kept);
    assert_eq!(ask(&request(4, "BCDFGHJM", "192.0.2.1", 700), 100).await, Kept::Kept);
    assert_eq!(ask(&request(5, "BCDFGHJN", "192.0.2.1", 700), 100).await, Kept::TooMany, "from one address");
    assert_eq!(ask(&request(5, "BCDFGHJN", "192.0.2.2", 700), 100).await, Kept::Kept, "from another one");

    assert_eq!(last.find(&one.user_code, 699).await.expect("reading works"), Some(one.clone()));
    assert_eq!(
        last.find(&one.user_code, 700).await.expect("reading works"),
        None,
        "a request ends at its time"
    );
    assert_eq!(poll(9, 101, 200).await, Polled::Unknown);
    assert_eq!(poll(1, 101, 200).await, Polled::Pending);
    assert_eq!(poll(1, 101, 204).await, Polled::TooSoon);
    assert_eq!(poll(1, 101, 205).await, Polled::Pending, "a poll that is too soon does not count");

    // Many decide, one does.
    let mut deciding = tokio::task::JoinSet::new();
    for (n, store) in stores.iter().cycle().take(16).enumerate() {
        let (store, code, alice) = (Arc::clone(store), one.user_code.clone(), alice.clone());
        let handle: atcr_core::syntax::Handle = Clone::clone(&handle);
        deciding.spawn(async move {
            let account = (n % 2 == 0).then_some((&alice, Some(&handle)));
            (n, store.decide(&code, account, 300).await.expect("writing works"))
        });
    }
    let decided: Vec<_> = deciding.join_all().await.into_iter().filter(|(_, done)| *done).collect();
    assert_eq!(decided.len(), 1, "one of many decides");
    let (winner, _) = decided[0];
    assert_eq!(last.find(&one.user_code, 300).await.expect("reading works"), None, "it is decided");
    match poll(1, 101, 300).await {
        Polled::Granted(device) => {
            assert_eq!((winner % 2, &device.did), (0, &alice));
            assert!(first.revoke(&alice, &device.id).await.expect("writing works"));
        }
        Polled::Denied => assert_eq!(winner % 2, 1),
        other => panic!("decided, not {other:?}"),
    }
    assert_eq!(poll(1, 101, 400).await, Polled::Unknown, "a request is redeemed once");

    assert!(first.decide(&two.user_code, None, 300).await.expect("writing works"));
    assert_eq!(poll(2, 102, 300).await, Polled::Denied);
    assert_eq!(poll(2, 102, 400).await, Polled::Unknown);

    // Many redeem, one does.
    let four = UserCode::parse("BCDFGHJM").expect("a code");
    assert!(!last.decide(&four, Some((&alice, None)), 700).await.expect("writing works"), "it has ended");
    assert!(last.decide(&four, Some((&alice, Some(&handle))), 699).await.expect("writing works"));
    let mut redeeming = tokio::task::JoinSet::new();
    for (n, store) in (0u8..16).zip(stores.iter().cycle()) {
        let store = Arc::clone(store);
        redeeming.spawn(async move {
            let id = DeviceId::new(format!("one of {n}"));
            store.poll(RowName([4; 32]), &id, RowName([n; 32]), 699, 5).await.expect("polling works")
        });
    }
    let granted: Vec<_> = redeeming
        .join_all()
        .await
        .into_iter()
        .filter_map(|polled| match polled {
            Polled::Granted(device) => Some(device),
            _ => None,
        })
        .collect();
    assert_eq!(granted.len(), 1, "one of many redeems");
    let device = &granted[0];
    assert_eq!((&device.did, &device.handle, device.name.as_str()), (&alice, &Some(handle), "device 4"));
    assert_eq!(last.devices(&alice).await.expect("reading works"), granted);
    assert_eq!(last.devices(&bob).await.expect("reading works"), []);

    let secret = RowName([device.id.as_str()["one of ".len()..].parse().expect("a number"); 32]);
    let used = async |now| first.device(secret, now).await.expect("reading works").map(|device| device.used);
    assert_eq!(used(700).await, Some(699), "not every use is written");
    assert_eq!(used(699 + 3600).await, Some(699 + 3600));
    assert!(first.device(RowName([200; 32]), 700).await.expect("reading works").is_none());
    assert!(!first.revoke(&bob, &device.id).await.expect("writing works"), "not of another account");
    first.forget(RowName([200; 32])).await.expect("writing works");
    assert!(used(5000).await.is_some());
    first.forget(secret).await.expect("writing works");
    assert_eq!(used(5000).await, None, "a device that is no more");

    // What the suite leaves.
    let last_one = request(6, "BCDFGHJP", "192.0.2.1", 9000);
    assert_eq!(ask(&last_one, 8000).await, Kept::Kept, "those that have ended make room");
    assert!(first.decide(&last_one.user_code, Some((&alice, None)), 8000).await.expect("writing works"));
    assert!(matches!(poll(6, 106, 8000).await, Polled::Granted(_)));
}
