//! Every value that is read from JSON has canonical bytes that read back as the same value.
#![no_main]

use atcr_pds::cbor;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    if let Ok(value) = cbor::json::from_json(&json) {
        let encoded = cbor::encode(&value).unwrap();
        assert_eq!(cbor::decode(&encoded).unwrap(), value);
    }
});
