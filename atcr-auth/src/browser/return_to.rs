use std::fmt;

use url::Url;

/// The longest that is remembered, in bytes.
const MAX: usize = 2048;

/// Where a browser goes after signing in: a path of this registry, with its query. Never anywhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// Reads what a link asked for; `None` when it is not a path of the registry at `base`.
    ///
    /// Browsers take a backslash for a slash, drop tabs and line ends, and read `//host` as another host; what they
    /// could read so is refused, not repaired.
    pub fn parse(text: &str, base: &Url) -> Option<Self> {
        let plain = text.len() <= MAX && text.bytes().all(|b| matches!(b, 0x21..=0x7e) && b != b'\\');
        if !plain || !text.starts_with('/') || text.starts_with("//") {
            return None;
        }
        let url = base.join(text).ok().filter(|url| url.origin() == base.origin())?;
        // Dot segments are gone now; what is left must not begin a host either.
        if url.path().starts_with("//") {
            return None;
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(Self(format!("{}{query}", url.path())))
    }

    /// A path of this registry that is known to be one.
    pub(crate) fn fixed(path: &'static str) -> Self {
        Self(path.to_owned())
    }

    /// The path and query.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_registry_are_returned_to() {
        let base = "https://registry.example".parse().unwrap();
        for good in ["/", "/device?user_code=AB-CD", "/a/b?c=/d//e", "/r/alice.test/app"] {
            assert_eq!(ReturnTo::parse(good, &base).unwrap().as_str(), good);
        }
        assert_eq!(ReturnTo::parse("/a/../b", &base).unwrap().as_str(), "/b");
        for bad in [
            "",
            "x",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            "https://evil.example/",
            "https:evil.example",
            "javascript:alert(1)",
            "/..//evil.example",
            "/./%2e/..//evil.example",
            "/é",
            " /",
            "@evil.example",
        ] {
            assert_eq!(ReturnTo::parse(bad, &base), None, "{bad:?}");
        }
        assert_eq!(ReturnTo::parse(&format!("/{}", "a".repeat(MAX)), &base), None);
    }
}
