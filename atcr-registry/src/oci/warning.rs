//! `Warning` headers (distribution specification, Warnings).

use http::HeaderValue;

/// The specification's limit for all warnings of a response together, in bytes.
const MAX_TOTAL: usize = 4096;

/// The header values for these texts; what goes beyond the specification's limit is left out.
pub(crate) fn headers(texts: &[String]) -> Vec<HeaderValue> {
    let mut left = MAX_TOTAL;
    let mut values = Vec::with_capacity(texts.len());
    for text in texts {
        let value = format!("299 - \"{}\"", quotable(text));
        let Some(rest) = left.checked_sub(value.len()) else { break };
        left = rest;
        values.extend(HeaderValue::try_from(value));
    }
    values
}

/// The text as it can stand in a quoted string: visible ASCII, quotes and backslashes escaped.
fn quotable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ if c.is_whitespace() => out.push(' '),
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_a_quoted_string_without_a_date() {
        let values = headers(&["over \"quota\"\n\u{1F600}".to_owned()]);
        assert_eq!(values, ["299 - \"over \\\"quota\\\" ?\""]);
    }

    #[test]
    fn all_warnings_together_stay_within_the_limit() {
        let values = headers(&["x".repeat(3000), "y".repeat(3000)]);
        assert_eq!(values.len(), 1);
    }
}
