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

/// A non-empty range of bytes inside a content: `start` included, `end` excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
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
}
