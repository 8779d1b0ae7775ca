use ipld_core::cid::Cid;
use sha2::{Digest as _, Sha256};

use super::MstError;
use super::node::Hash;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;

/// The layer of a key: the leading zero bits of its SHA-256, in pairs. At most 128.
pub fn height(key: &str) -> u8 {
    let digest = Sha256::digest(key.as_bytes());
    let mut zeros = 0;
    for byte in digest {
        zeros += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    u8::try_from(zeros / 2).expect("256 bits have at most 128 pairs")
}

/// Refuses what cannot be a key: two non-empty parts of `A-Z a-z 0-9 . - _ : ~` with one `/` between them, at most
/// [`MAX_KEY`] bytes.
///
/// Whether the parts are a collection and a record key is not the tree's business; see
/// [`RecordPath`](crate::repo::RecordPath).
pub fn check_key(key: &str) -> Result<(), MstError> {
    let part = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:~".contains(&b))
    };
    match key.split_once('/') {
        Some((a, b)) if key.len() <= MAX_KEY && part(a) && part(b) => Ok(()),
        _ => Err(MstError::InvalidKey(key.chars().take(128).collect())),
    }
}

/// The hash of a value; refuses what is not the CID of a record.
pub(super) fn check_value(value: &Cid) -> Result<Hash, MstError> {
    Hash::of(value).ok_or(MstError::InvalidValue(*value))
}

/// How many bytes two keys share at their beginning.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_key_heights() {
        let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!(
            "../../../tests/vectors/atproto-interop-tests/mst/key_heights.json"
        ))
        .unwrap();
        assert_eq!(cases.len(), 9);
        for case in cases {
            let key = case["key"].as_str().unwrap();
            assert_eq!(u64::from(height(key)), case["height"].as_u64().unwrap(), "{key:?}");
        }
    }

    #[test]
    fn published_common_prefixes() {
        let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!(
            "../../../tests/vectors/atproto-interop-tests/mst/common_prefix.json"
        ))
        .unwrap();
        assert_eq!(cases.len(), 13);
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap().as_bytes();
            let len = common_prefix(text("left"), text("right"));
            assert_eq!(len as u64, case["len"].as_u64().unwrap(), "{case}");
        }
    }

    #[test]
    fn only_two_parts_of_plain_characters_are_a_key() {
        for good in ["a/b", "com.example.note/3jui7kd54zh2y", "io.atcr.manifest/sha256:ab", "A/~_-.:"] {
            check_key(good).unwrap();
        }
        let long = format!("a/{}", "b".repeat(MAX_KEY));
        for bad in ["", "a", "/", "a/", "/b", "a/b/c", "a//b", "a/ü", "a/b c", "a/b\0", long.as_str()] {
            assert!(matches!(check_key(bad), Err(MstError::InvalidKey(_))), "{bad:?}");
        }
    }
}
