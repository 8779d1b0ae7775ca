//! The string formats that have no type of their own in [`crate::syntax`].

/// A generic URI: a scheme and something after it, no white space, at most 8 KiB (Lexicon, `uri`).
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b));
    text.len() <= 8192
        && scheme_ok
        && !rest.is_empty()
        && rest.chars().all(|c| !c.is_whitespace() && !c.is_control())
}
