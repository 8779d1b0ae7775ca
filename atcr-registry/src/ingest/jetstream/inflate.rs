use std::io::Read as _;

use ruzstd::decoding::{Dictionary, FrameDecoder, StreamingDecoder};

use super::super::IngestError;
use super::super::socket::MAX_MESSAGE;

/// What the servers compress with; see the README beside it.
const DICTIONARY: &[u8] = include_bytes!("zstd_dictionary");
/// What a frame may ask to be kept of what was read, for later parts to refer to: that of the encoder which the servers
/// use.
const WINDOW: u64 = 8 << 20;

/// Reads events that are compressed (RFC 8878), each a frame of its own. An event is no longer than a message that came
/// as it is, however short its frame.
pub(in crate::ingest) struct Inflater(FrameDecoder);

impl Inflater {
    pub(in crate::ingest) fn new() -> Result<Self, IngestError> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW);
        decoder.add_dict(Dictionary::decode_dict(DICTIONARY).map_err(refuse)?).map_err(refuse)?;
        Ok(Self(decoder))
    }

    /// The text of an event.
    pub(in crate::ingest) fn text(&mut self, mut frame: &[u8]) -> Result<String, IngestError> {
        let mut text = Vec::new();
        let reading = StreamingDecoder::new_with_decoder(&mut frame, &mut self.0).map_err(refuse)?;
        reading.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut text).map_err(refuse)?;
        if text.len() > MAX_MESSAGE {
            return Err(refuse(format!("it is longer than {MAX_MESSAGE} bytes")));
        }
        if !frame.is_empty() {
            return Err(refuse("something comes after it"));
        }
        String::from_utf8(text).map_err(refuse)
    }
}

fn refuse(why: impl std::fmt::Display) -> IngestError {
    IngestError::Compressed(why.to_string())
}

#[cfg(test)]
mod tests {
    use atcr_core::oci::Digest;

    use super::*;

    fn compress(text: &[u8], dictionary: &[u8]) -> Vec<u8> {
        zstd::bulk::Compressor::with_dictionary(3, dictionary).unwrap().compress(text).unwrap()
    }

    #[test]
    fn the_dictionary_is_the_published_one() {
        let digest = "sha256:b8d77b46933aceecbdd5275a01241efc985c970c78162b8150cf67a26522f70c";
        assert_eq!(Digest::sha256(DICTIONARY).to_string(), digest);
    }

    #[test]
    fn what_was_compressed_is_read_one_after_the_other() {
        let mut inflater = Inflater::new().unwrap();
        for n in [0, 1, 20, 3000, 1] {
            let text =
                r#"{"did":"did:plc:alice","time_us":1,"kind":"commit","commit":{"operation":"create"}}"#
                    .repeat(n);
            let frame = compress(text.as_bytes(), DICTIONARY);
            assert_eq!(inflater.text(&frame).unwrap(), text);
        }
        let once = r#"{"did":"did:plc:alice","kind":"commit","commit":{"operation":"create","collection":"app.bsky.feed.like"}}"#;
        let without = zstd::bulk::compress(once.as_bytes(), 3).unwrap();
        assert!(compress(once.as_bytes(), DICTIONARY).len() < without.len(), "the dictionary has its words");
    }

    #[test]
    fn a_frame_that_grows_beyond_the_longest_message_is_refused() {
        let mut inflater = Inflater::new().unwrap();
        let longest = "x".repeat(MAX_MESSAGE);
        assert_eq!(inflater.text(&compress(longest.as_bytes(), DICTIONARY)).unwrap().len(), MAX_MESSAGE);
        for length in [MAX_MESSAGE + 1, 64 << 20] {
            let frame = compress(&vec![b'x'; length], DICTIONARY);
            assert!(frame.len() < 10_000);
            assert!(matches!(inflater.text(&frame), Err(IngestError::Compressed(_))), "{length}");
        }
        assert_eq!(inflater.text(&compress(b"{}", DICTIONARY)).unwrap(), "{}", "and it goes on");
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let mut inflater = Inflater::new().unwrap();
        let frame = compress(br#"{"did":"did:plc:alice","time_us":1}"#, DICTIONARY);
        let mut other = DICTIONARY.to_vec();
        other[4] ^= 1;
        let not_text = compress(b"\xff\xfe\xfd", DICTIONARY);
        let followed = [&frame[..], b"x"].concat();
        let refused: [&[u8]; 7] = [
            b"",
            b"garbage",
            b"{\"did\":1}",
            &frame[..frame.len() - 1],
            &compress(b"{}", &other),
            &not_text,
            &followed,
        ];
        for frame in refused {
            assert!(matches!(inflater.text(frame), Err(IngestError::Compressed(_))), "{frame:?}");
        }
        // Whatever is broken in it: no panic, and nothing but a text or a refusal.
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut broken = frame.clone();
                broken[at] ^= 1 << bit;
                inflater.text(&broken).ok();
            }
        }
        assert!(inflater.text(&frame).is_ok());
    }
}
