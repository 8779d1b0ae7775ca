//! The headers that name a part of some bytes: `Range` of a blob GET (RFC 9110 §14.2) and `Content-Range` of a chunk
//! (distribution specification, Pushing a blob in chunks).

use atcr_core::oci::{ByteRange, RangeRequest};

/// The byte ranges of a `Range` header. `None` when it is to be ignored: another unit, or not a range at all.
pub(crate) fn parse(value: &str) -> Option<Vec<RangeRequest>> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let ranges: Option<Vec<_>> =
        set.split(',').map(str::trim).filter(|spec| !spec.is_empty()).map(range).collect();
    ranges.filter(|ranges| !ranges.is_empty())
}

fn range(spec: &str) -> Option<RangeRequest> {
    let (first, last) = spec.split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", last) => Some(RangeRequest::Last(number(last)?)),
        (first, "") => Some(RangeRequest::From(number(first)?)),
        (first, last) => Some(RangeRequest::FromTo(number(first)?, number(last)?)),
    }
}

/// Digits only; what is too large for the type is past the end of any content.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Where a chunk belongs. The specification writes `a-b`; clients also write `bytes a-b/total` and `a-b/*`.
pub(crate) fn parse_content_range(value: &str) -> Option<ByteRange> {
    let value = value.trim();
    let value = value.strip_prefix("bytes").map_or(value, |rest| rest.trim_start_matches([' ', '=']));
    let (range, total) = value.split_once('/').unwrap_or((value, "*"));
    if total != "*" {
        number(total)?;
    }
    let (first, last) = range.split_once('-')?;
    let (start, last) = (number(first)?, number(last)?);
    let end = last.checked_add(1)?;
    (start < end).then_some(ByteRange { start, end })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_writes_them() {
        use RangeRequest::{From, FromTo, Last};
        assert_eq!(parse("bytes=500-1499"), Some(vec![FromTo(500, 1499)]));
        assert_eq!(parse("Bytes=0-"), Some(vec![From(0)]));
        assert_eq!(parse("bytes=-500"), Some(vec![Last(500)]));
        assert_eq!(parse("bytes=0-0, 5-6 ,,-1"), Some(vec![FromTo(0, 0), FromTo(5, 6), Last(1)]));
        assert_eq!(parse("bytes=500-0"), Some(vec![FromTo(500, 0)]));
        assert_eq!(parse("bytes=99999999999999999999999-"), Some(vec![From(u64::MAX)]));
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "lines=1-2",
            "bytes=a-b",
            "bytes=-",
            "bytes=1",
            "bytes=1-2,x",
            "bytes=+1-2",
        ] {
            assert_eq!(parse(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn a_content_range_is_read_with_and_without_unit_and_total() {
        let range = |text| parse_content_range(text).map(|r| (r.start, r.end));
        for text in ["0-9", "bytes 0-9", "bytes 0-9/10", "0-9/*", "bytes 0-9/*", "bytes=0-9", " 0-9 "] {
            assert_eq!(range(text), Some((0, 10)), "{text}");
        }
        for bad in ["", "0", "9-0", "-9", "9-", "bytes */10", "0-9/x", "a-b", "0-18446744073709551615"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_harm(text in ".{0,60}", set in "bytes ?=?[0-9,/* -]{0,40}") {
            let _ = (parse(&text), parse_content_range(&text), parse(&set), parse_content_range(&set));
        }
    }
}
