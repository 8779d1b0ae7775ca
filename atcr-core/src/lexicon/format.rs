//! The string formats of Lexicon (specification, Lexicon, "String Formats").

use std::str::FromStr;

use serde::Deserialize;

use crate::syntax::{AtIdentifier, AtUri, Datetime, Did, Handle, Nsid, RecordKey, Tid};

/// The `format` of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    AtIdentifier,
    AtUri,
    Cid,
    Datetime,
    Did,
    Handle,
    Language,
    Nsid,
    RecordKey,
    Tid,
    Uri,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AtIdentifier => "at-identifier",
            Self::AtUri => "at-uri",
            Self::Cid => "cid",
            Self::Datetime => "datetime",
            Self::Did => "did",
            Self::Handle => "handle",
            Self::Language => "language",
            Self::Nsid => "nsid",
            Self::RecordKey => "record-key",
            Self::Tid => "tid",
            Self::Uri => "uri",
        }
    }

    pub(super) fn accepts(self, text: &str) -> bool {
        fn parses<T: FromStr>(text: &str) -> bool {
            text.parse::<T>().is_ok()
        }
        match self {
            Self::AtIdentifier => parses::<AtIdentifier>(text),
            Self::AtUri => parses::<AtUri>(text),
            Self::Cid => is_cid(text),
            Self::Datetime => parses::<Datetime>(text),
            Self::Did => parses::<Did>(text),
            Self::Handle => parses::<Handle>(text),
            Self::Language => is_language(text),
            Self::Nsid => parses::<Nsid>(text),
            Self::RecordKey => parses::<RecordKey>(text),
            Self::Tid => parses::<Tid>(text),
            Self::Uri => is_uri(text),
        }
    }
}

/// A generic URI: a scheme and something after it, no white space, at most 8 KiB.
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b));
    let rest_ok = !rest.is_empty() && !rest.chars().any(|c| c.is_whitespace() || c.is_control());
    text.len() <= 8192 && scheme_ok && rest_ok
}

/// A CID in any base and of any hash, but not of version 0; its inside is not decoded.
fn is_cid(text: &str) -> bool {
    (8..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=/_-".contains(&b))
        && !text.starts_with("Qmb")
}

/// A language tag: a language of two or three letters, or one of the older registrations, and further subtags.
fn is_language(text: &str) -> bool {
    let mut subtags = text.split('-');
    let language = subtags.next().unwrap_or_default();
    let language_ok = matches!(language.len(), 2 | 3) && language.bytes().all(|b| b.is_ascii_lowercase());
    let mut rest = subtags.peekable();
    let private = matches!(language, "i" | "x" | "X") && rest.peek().is_some();
    text.len() <= 128
        && (language_ok || private)
        && rest.all(|tag| (1..=16).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_without_a_type_follow_the_published_vectors() {
        macro_rules! vectors {
            ($($format:ident: $file:literal),*) => {
                [$((
                    Format::$format,
                    include_str!(concat!("../../tests/vectors/syntax/", $file, "_syntax_valid.txt")),
                    include_str!(concat!("../../tests/vectors/syntax/", $file, "_syntax_invalid.txt")),
                )),*]
            };
        }
        let lines = |text: &'static str| text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
        for (format, valid, invalid) in vectors![Uri: "uri", Cid: "cid", Language: "language"] {
            assert!(lines(valid).count() > 0 && lines(invalid).count() > 0);
            for text in lines(valid) {
                assert!(format.accepts(text), "{}: valid, but refused: {text:?}", format.name());
            }
            for text in lines(invalid) {
                assert!(!format.accepts(text), "{}: invalid, but accepted: {text:?}", format.name());
            }
        }
        // Well-formed, which is all that the format asks, though no registry would know them.
        let repeated = include_str!("../../tests/vectors/syntax/language_parse_invalid.txt");
        assert_eq!(lines(repeated).count(), 4);
        assert!(lines(repeated).all(|text| Format::Language.accepts(text)));
    }
}
