use std::collections::HashMap;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::StatusCode;
use jiff::Timestamp;
use sha2::Sha256;

use crate::service::Refusal;
use crate::{ACCOUNT, CONTAINER, KEY};

/// Checks the signature in a query for the resource with this name (the container, when it is empty), and that it gives
/// this right, now where it `expires`.
pub(crate) fn check(
    query: &HashMap<String, String>,
    name: &str,
    right: char,
    expires: bool,
) -> Result<(), Refusal> {
    let field = |name: &str| query.get(name).map_or("", String::as_str);
    let forbidden = |code| Refusal(StatusCode::FORBIDDEN, code);
    if field("sig").is_empty() {
        return Err(forbidden("NoAuthenticationInformation"));
    }
    let resource = match (field("sr"), name) {
        ("b", name) if !name.is_empty() => format!("/blob/{ACCOUNT}/{CONTAINER}/{name}"),
        ("c", _) => format!("/blob/{ACCOUNT}/{CONTAINER}"),
        _ => return Err(forbidden("AuthenticationFailed")),
    };
    let mut text = String::new();
    for part in [field("sp"), field("st"), field("se"), &resource, field("si"), field("sip"), field("spr")] {
        text += part;
        text.push('\n');
    }
    text += &format!("{}\n{}\n", field("sv"), field("sr"));
    // Snapshot, encryption scope and five headers of the answer.
    text += "\n\n\n\n\n\n";
    let key = BASE64.decode(KEY.as_bytes()).expect("a constant");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length is good");
    mac.update(text.as_bytes());
    let given = BASE64.decode(field("sig").as_bytes()).unwrap_or_default();
    if mac.verify_slice(&given).is_err() {
        return Err(forbidden("AuthenticationFailed"));
    }
    let now = Timestamp::now();
    let expiry: Option<Timestamp> = field("se").parse().ok();
    let start: Option<Timestamp> = field("st").parse().ok();
    if expires && expiry.is_none_or(|expiry| expiry <= now) || start.is_some_and(|start| start > now) {
        return Err(forbidden("AuthenticationFailed"));
    }
    // Whoever may write may create.
    if field("sp").contains(right) { Ok(()) } else { Err(forbidden("AuthorizationPermissionMismatch")) }
}
