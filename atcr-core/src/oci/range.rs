/// The bytes of a content that were asked for, before its size is known (RFC 9110 §14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeRequest {
    /// `a-`: from an offset to the end.
    From(u64),
    /// `a-b`: from an offset to another, both included; past the end it is clipped.
    FromTo(u64, u64),
    /// `-n`: the last n bytes.
    Last(u64),
}

impl RangeRequest {
    /// The ranges of a `Range` header (RFC 9110 §14.2). `None` when it is to be ignored: another unit, or not a range at
    /// all.
    pub fn parse_header(value: &str) -> Option<Vec<Self>> {
        let (unit, set) = value.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
        let ranges: Option<Vec<_>> = specs.map(Self::parse_spec).collect();
        ranges.filter(|ranges| !ranges.is_empty())
    }

    fn parse_spec(spec: &str) -> Option<Self> {
        let (first, last) = spec.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => Some(Self::FromTo(number(first)?, number(last)?)),
        }
    }

    /// The bytes this means in a content of `size` bytes; `None` when it has none of them (416).
    pub fn resolve(self, size: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::From(start) => (start, size),
            Self::FromTo(start, last) if last >= start => (start, last.saturating_add(1).min(size)),
            Self::FromTo(..) => return None,
            Self::Last(n) => (size.saturating_sub(n), size),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

/// Digits only; what is too large for the type is past the end of any content.
fn number(digits: &str) -> Option<u64> {
    let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// A non-empty range of bytes inside a content: `start` included, `end` excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// Where a chunk of an upload belongs, from its `Content-Range` (distribution specification, Pushing a blob in
    /// chunks). The specification writes `a-b`; clients also write `bytes a-b/total` and `a-b/*`.
    pub fn parse_content_range(value: &str) -> Option<Self> {
        let value = value.trim();
        let value = value.strip_prefix("bytes").map_or(value, |rest| rest.trim_start_matches([' ', '=']));
        let (range, total) = value.split_once('/').unwrap_or((value, "*"));
        if total != "*" {
            number(total)?;
        }
        let (first, last) = range.split_once('-')?;
        let (start, last) = (number(first)?, number(last)?);
        let end = last.checked_add(1)?;
        (start < end).then_some(Self { start, end })
    }

    /// How many bytes it has; never 0 when it came from [`RangeRequest::resolve`].
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.end == self.start
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_clipped_to_the_content_or_refused() {
        let bytes = |r: RangeRequest, size| r.resolve(size).map(|r| (r.start, r.end));
        assert_eq!(bytes(RangeRequest::FromTo(500, 1499), 5000), Some((500, 1500)));
        assert_eq!(bytes(RangeRequest::FromTo(2000, 9000), 5000), Some((2000, 5000)));
        assert_eq!(bytes(RangeRequest::FromTo(0, u64::MAX), 5000), Some((0, 5000)));
        assert_eq!(bytes(RangeRequest::From(4999), 5000), Some((4999, 5000)));
        assert_eq!(bytes(RangeRequest::From(5000), 5000), None);
        assert_eq!(bytes(RangeRequest::FromTo(500, 0), 5000), None);
        assert_eq!(bytes(RangeRequest::Last(500), 5000), Some((4500, 5000)));
        assert_eq!(bytes(RangeRequest::Last(9000), 5000), Some((0, 5000)));
        assert_eq!(bytes(RangeRequest::Last(0), 5000), None);
        assert_eq!(bytes(RangeRequest::From(0), 0), None);
    }

    #[test]
    fn ranges_are_read_as_the_rfc_writes_them() {
        use RangeRequest::{From, FromTo, Last};
        assert_eq!(RangeRequest::parse_header("bytes=500-1499"), Some(vec![FromTo(500, 1499)]));
        assert_eq!(RangeRequest::parse_header("Bytes=0-"), Some(vec![From(0)]));
        assert_eq!(RangeRequest::parse_header("bytes=-500"), Some(vec![Last(500)]));
        assert_eq!(
            RangeRequest::parse_header("bytes=0-0, 5-6 ,,-1"),
            Some(vec![FromTo(0, 0), FromTo(5, 6), Last(1)])
        );
        assert_eq!(RangeRequest::parse_header("bytes=500-0"), Some(vec![FromTo(500, 0)]));
        assert_eq!(RangeRequest::parse_header("bytes=99999999999999999999999-"), Some(vec![From(u64::MAX)]));
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
            assert_eq!(RangeRequest::parse_header(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn a_content_range_is_read_with_and_without_unit_and_total() {
        let range = |text| ByteRange::parse_content_range(text).map(|r| (r.start, r.end));
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
            let _ = (RangeRequest::parse_header(&text), ByteRange::parse_content_range(&text), RangeRequest::parse_header(&set), ByteRange::parse_content_range(&set));
        }
    }
}
