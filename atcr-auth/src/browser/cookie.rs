use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::RowName;

/// 256 random bits that only a browser knows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }

    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is kept under this secret is found by its hash: who reads the store cannot make the cookie.
    pub(crate) fn row(&self, kind: &'static str) -> RowName {
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update([0]);
        hash.update(self.0);
        RowName(hash.finalize().into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A cookie that holds a [`Secret`]: for no script, and for no request that another site makes but a link.
#[derive(Debug, Clone)]
pub(crate) struct Cookie {
    name: String,
    secure: bool,
}

impl Cookie {
    /// The cookie of a registry at `base`; over https, no other host and no plain http can set it (`__Host-`).
    pub(crate) fn new(base: &Url, name: &str) -> Self {
        let secure = base.scheme() == "https";
        Self { name: if secure { format!("__Host-{name}") } else { name.to_owned() }, secure }
    }

    pub(crate) fn read(&self, headers: &HeaderMap) -> Option<Secret> {
        let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            values.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        Secret::read(pairs.find(|(name, _)| *name == self.name)?.1)
    }

    pub(crate) fn set(&self, secret: &Secret, seconds: i64) -> HeaderValue {
        self.value(&secret.text(), seconds)
    }

    pub(crate) fn clear(&self) -> HeaderValue {
        self.value("", 0)
    }

    fn value(&self, value: &str, seconds: i64) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let text =
            format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", self.name);
        let mut value = HeaderValue::try_from(text).expect("a name and base64url make a header's value");
        value.set_sensitive(true);
        value
    }
}
