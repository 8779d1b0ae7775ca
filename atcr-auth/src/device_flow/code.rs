use std::fmt;

use crate::browser::{RowName, Secret};

/// By this a device's secret is told from a password, also by programs that look for secrets in sources.
const PREFIX: &str = "atcr_device_";
/// Letters that are not mistaken for each other, and make no words.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS: usize = 8;

/// What a person compares, or types: eight letters, written `BCDF-GHJK`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserCode(String);

impl UserCode {
    /// A new one.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut letters = String::with_capacity(LETTERS);
        while letters.len() < LETTERS {
            let mut byte = [0];
            getrandom::fill(&mut byte)?;
            // 240 is the largest multiple of 20 in a byte: every letter is as likely.
            if byte[0] < 240 {
                letters.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
            }
        }
        Ok(Self(letters))
    }

    /// Reads what somebody typed, in whatever case and however divided.
    pub fn parse(text: &str) -> Option<Self> {
        let letters: String = text
            .chars()
            .take(64)
            .filter(|c| !c.is_whitespace() && *c != '-')
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let good = letters.len() == LETTERS && letters.bytes().all(|letter| ALPHABET.contains(&letter));
        good.then_some(Self(letters))
    }

    /// The letters alone, as stores keep them.
    pub fn letters(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.0.split_at(LETTERS / 2);
        write!(f, "{first}-{last}")
    }
}

/// What a device signs in with.
#[derive(Debug, Clone)]
pub(crate) struct DeviceSecret(Secret);

impl DeviceSecret {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        Secret::random().map(Self)
    }

    /// Reads a password that is the secret of a device.
    pub(crate) fn read(text: &str) -> Option<Self> {
        Secret::read(text.strip_prefix(PREFIX)?).map(Self)
    }

    pub(crate) fn text(&self) -> String {
        format!("{PREFIX}{}", self.0.text())
    }

    /// Its hash, which is all that is kept of it.
    pub(crate) fn row(&self) -> RowName {
        self.0.row("device")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        let code = UserCode::random().unwrap();
        let text = code.to_string();
        for typed in [
            text.clone(),
            text.to_lowercase(),
            text.replace('-', ""),
            format!(" {} ", text.replace('-', " ")),
        ] {
            assert_eq!(UserCode::parse(&typed).as_ref(), Some(&code), "{typed:?}");
        }
        for bad in ["", "BCDF-GHJ", "BCDF-GHJKL", "BCDF-GHJA", "ABCD-EFGH", "BCDF-GHJÉ", "'; --BCDFG"] {
            assert_eq!(UserCode::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_told_from_a_password() {
        let secret = DeviceSecret::random().unwrap();
        assert_eq!(DeviceSecret::read(&secret.text()).unwrap().row(), secret.row());
        for other in
            ["abcd-efgh-ijkl-mnop", "atcr_device_", "atcr_device_short", "eyJhbGciOiJFUzI1NiJ9.e30.x"]
        {
            assert!(DeviceSecret::read(other).is_none(), "{other}");
        }
        assert!(!format!("{secret:?}").contains(&secret.text()));
    }
}
