use atcr_core::oci::RangeRequest;
use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};

/// The one range that a request asks for. `None`: the whole content, also when it asks for several ranges, in another
/// unit, in a way that cannot be read, or on a condition that does not hold (RFC 9110 §13.1.5, §14.2).
pub(super) fn requested(headers: &HeaderMap, etag: &HeaderValue) -> Option<RangeRequest> {
    if headers.get(IF_RANGE).is_some_and(|condition| condition != etag) {
        return None;
    }
    match *RangeRequest::parse_header(headers.get(RANGE)?.to_str().ok()?)? {
        [range] => Some(range),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_honoured_and_everything_else_is_the_whole() {
        let etag = HeaderValue::from_static("\"sha256:a\"");
        let range = |value: &'static str| {
            requested(&HeaderMap::from_iter([(RANGE, HeaderValue::from_static(value))]), &etag)
        };
        assert_eq!(range("bytes=0-4"), Some(RangeRequest::FromTo(0, 4)));
        assert_eq!(range("bytes=5-"), Some(RangeRequest::From(5)));
        // The registry's own blobs answer it with 416, as the conformance suite wants, and so do these.
        assert_eq!(range("bytes=4-2"), Some(RangeRequest::FromTo(4, 2)));
        assert_eq!(range("bytes=-5"), Some(RangeRequest::Last(5)));
        assert_eq!(range("bytes=0-99999999999999999999999"), Some(RangeRequest::FromTo(0, u64::MAX)));
        for whole in ["bytes=0-1,3-4", "items=0-1", "bytes=", "bytes=-", "bytes=a-b", "0-4"] {
            assert_eq!(range(whole), None, "{whole}");
        }
        let conditional = |condition| {
            let headers = [(RANGE, HeaderValue::from_static("bytes=1-2")), (IF_RANGE, condition)];
            requested(&HeaderMap::from_iter(headers), &etag)
        };
        assert!(conditional(etag.clone()).is_some());
        assert!(conditional(HeaderValue::from_static("\"other\"")).is_none());
    }
}
