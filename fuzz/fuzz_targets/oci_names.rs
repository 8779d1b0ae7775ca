//! Names, tags, digests and references: what is read is written back as it was, and says the same again.
#![no_main]

use atcr_core::oci::{Digest, MediaType, Reference, RepositoryName, Tag};
use atcr_core::syntax::{AtUri, Datetime, Did, Handle, Nsid, RecordKey, Tid};
use libfuzzer_sys::fuzz_target;

fn round_trip<T: std::str::FromStr + std::fmt::Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().eq_ignore_ascii_case(text));
    }
}

fuzz_target!(|text: &str| {
    round_trip::<Digest>(text);
    round_trip::<MediaType>(text);
    round_trip::<Reference>(text);
    round_trip::<RepositoryName>(text);
    round_trip::<Tag>(text);
    round_trip::<AtUri>(text);
    round_trip::<Did>(text);
    round_trip::<Handle>(text);
    round_trip::<Nsid>(text);
    round_trip::<RecordKey>(text);
    round_trip::<Tid>(text);
    if let Ok(time) = text.parse::<Datetime>() {
        time.timestamp();
    }
    if let Ok(name) = text.parse::<RepositoryName>()
        && let Some((_, image)) = name.owner()
    {
        round_trip::<RepositoryName>(image.as_str());
    }
});
