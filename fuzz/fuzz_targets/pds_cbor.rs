//! What decodes encodes to the same bytes, and survives the JSON form.
#![no_main]

use atcr_pds::cbor;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let scanned = cbor::scan(bytes);
    if let Ok(value) = cbor::decode(bytes) {
        assert_eq!(scanned, Ok(bytes.len()));
        assert_eq!(cbor::encode(&value).unwrap(), bytes);
        if cbor::json::check_value(&value).is_ok() {
            assert_eq!(cbor::json::from_json(&cbor::json::to_json(&value)).unwrap(), value);
        }
    }
    let _ = cbor::decode_record(bytes);
});
