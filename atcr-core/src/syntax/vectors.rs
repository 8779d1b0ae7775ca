//! The published interoperability vectors of the string formats.

use std::str::FromStr;

use super::*;

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn check<T: FromStr + std::fmt::Debug>(valid: &str, invalid: &str) {
    assert!(lines(valid).count() > 0 && lines(invalid).count() > 0);
    for text in lines(valid) {
        assert!(text.parse::<T>().is_ok(), "valid, but refused: {text:?}");
    }
    for text in lines(invalid) {
        assert!(text.parse::<T>().is_err(), "invalid, but accepted: {text:?}");
    }
}

macro_rules! vectors {
    ($($test:ident: $type:ty, $file:literal;)*) => {$(
        #[test]
        fn $test() {
            check::<$type>(
                include_str!(concat!("../../tests/vectors/syntax/", $file, "_syntax_valid.txt")),
                include_str!(concat!("../../tests/vectors/syntax/", $file, "_syntax_invalid.txt")),
            );
        }
    )*};
}

vectors! {
    at_identifiers: AtIdentifier, "atidentifier";
    at_uris: AtUri, "aturi";
    datetimes: Datetime, "datetime";
    dids: Did, "did";
    handles: Handle, "handle";
    nsids: Nsid, "nsid";
    record_keys: RecordKey, "recordkey";
    tids: Tid, "tid";
}

#[test]
fn datetimes_that_name_no_moment_are_refused() {
    for text in lines(include_str!("../../tests/vectors/syntax/datetime_parse_invalid.txt")) {
        assert!(text.parse::<Datetime>().is_err(), "{text}");
    }
}
