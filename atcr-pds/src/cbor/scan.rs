use ipld_core::cid::Cid;

use super::{CborError, check_cid};

/// How deep lists and maps may be nested in a value; the value itself is level 1.
pub const MAX_DEPTH: usize = 32;

/// A list or map that is being read.
struct Open<'a> {
    /// Items still to come; a map entry counts once, when its key is read.
    left: u64,
    map: bool,
    /// The key read last, for the order check.
    last_key: Option<&'a [u8]>,
    /// In a map: the next item is a key.
    key_next: bool,
}

/// Checks one item of canonical DAG-CBOR at the beginning of `bytes` and returns its length.
///
/// Needs no memory that the input decides and does not recurse, so it comes before any decoder that does. Refused
/// are: another than the shortest encoding of a number or length, indefinite lengths, floats, `undefined` and other
/// simple values, tags other than 42, map keys that are not strings, in another order than by length then bytes, or
/// twice, text that is not UTF-8, CIDs that the protocol does not use, integers outside 64-bit signed, and nesting
/// deeper than [`MAX_DEPTH`].
pub fn scan(bytes: &[u8]) -> Result<usize, CborError> {
    let mut at = 0;
    let mut open: Vec<Open<'_>> = Vec::new();
    loop {
        let begin = at;
        let is_key = open.last().is_some_and(|o| o.map && o.key_next);
        let (major, value) = head(bytes, &mut at)?;
        let bad = |what| CborError::NotCanonical { at: begin, what };
        if is_key && major != 3 {
            return Err(bad("a map key is not a string"));
        }
        let mut nested = None;
        match major {
            0 | 1 => {
                if i64::try_from(value).is_err() {
                    return Err(bad("an integer outside 64-bit signed"));
                }
            }
            2 => {
                take(bytes, &mut at, value, begin)?;
            }
            3 => {
                let text = take(bytes, &mut at, value, begin)?;
                if std::str::from_utf8(text).is_err() {
                    return Err(bad("text that is not UTF-8"));
                }
                if is_key && let Some(map) = open.last_mut() {
                    if let Some(last) = map.last_key
                        && (last.len(), last) >= (text.len(), text)
                    {
                        return Err(bad("map keys out of order, or one of them twice"));
                    }
                    map.last_key = Some(text);
                }
            }
            4 | 5 => {
                if open.len() + 1 > MAX_DEPTH {
                    return Err(CborError::TooDeep);
                }
                nested = Some(Open { left: value, map: major == 5, last_key: None, key_next: true });
            }
            6 => {
                if value != 42 {
                    return Err(bad("a tag other than 42"));
                }
                let (major, len) = head(bytes, &mut at)?;
                if major != 2 {
                    return Err(bad("tag 42 on something else than bytes"));
                }
                let link = take(bytes, &mut at, len, begin)?;
                let cid = link.strip_prefix(&[0]).ok_or(CborError::Cid)?;
                // A longer link cannot be one of the protocol's, and Cid::try_from ignores what follows.
                if cid.len() != 36 {
                    return Err(CborError::Cid);
                }
                check_cid(&Cid::try_from(cid).map_err(|_| CborError::Cid)?)?;
            }
            _ => match value {
                20..=22 => {}
                _ => return Err(bad("a float, or a simple value other than false, true and null")),
            },
        }
        if let Some(o) = nested {
            open.push(o);
        } else if is_key {
            if let Some(o) = open.last_mut() {
                o.key_next = false;
            }
            continue;
        } else if let Some(o) = open.last_mut() {
            o.left -= 1;
            o.key_next = true;
        }
        while open.last().is_some_and(|o| o.left == 0) {
            open.pop();
            if let Some(o) = open.last_mut() {
                o.left -= 1;
                o.key_next = true;
            }
        }
        if open.is_empty() {
            return Ok(at);
        }
    }
}

/// Reads the head of an item: its major type and its argument.
fn head(bytes: &[u8], at: &mut usize) -> Result<(u8, u64), CborError> {
    let begin = *at;
    let first = *bytes.get(begin).ok_or(CborError::Truncated { at: begin })?;
    *at += 1;
    let (major, info) = (first >> 5, first & 31);
    let width = match info {
        0..=23 => return Ok((major, u64::from(info))),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err(CborError::NotCanonical { at: begin, what: "an indefinite or reserved length" }),
    };
    if major == 7 {
        let what = "a float, or a simple value other than false, true and null";
        return Err(CborError::NotCanonical { at: begin, what });
    }
    let argument = bytes.get(*at..*at + width).ok_or(CborError::Truncated { at: begin })?;
    *at += width;
    let value = argument.iter().fold(0u64, |v, b| (v << 8) | u64::from(*b));
    let smallest = match width {
        1 => 24,
        2 => 1 << 8,
        4 => 1 << 16,
        _ => 1 << 32,
    };
    if value < smallest {
        return Err(CborError::NotCanonical {
            at: begin,
            what: "a number or length not in its shortest form",
        });
    }
    Ok((major, value))
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, len: u64, begin: usize) -> Result<&'a [u8], CborError> {
    let rest = &bytes[*at..];
    match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
        Some(taken) => {
            *at += taken.len();
            Ok(taken)
        }
        None => Err(CborError::Truncated { at: begin }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn refuses_every_second_encoding_of_a_value() {
        for (bytes, why) in [
            ("1801", "a number in two bytes"),
            ("190001", "a number in three bytes"),
            ("1b0000000000000001", "a number in nine bytes"),
            ("5801ff", "a length in two bytes"),
            ("9fff", "an indefinite list"),
            ("bfff", "an indefinite map"),
            ("7f6161ff", "indefinite text"),
            ("f7", "undefined"),
            ("f820", "a simple value"),
            ("f97e00", "a NaN"),
            ("fb3ff8000000000000", "a float"),
            ("c101", "another tag"),
            ("a10101", "a key that is a number"),
            ("a2616201616101", "keys out of order"),
            ("a2616101616102", "a key twice"),
            ("a262616101616201", "a longer key first"),
            ("61ff", "text that is not UTF-8"),
            ("1b8000000000000000", "an integer above i64"),
            ("3b8000000000000000", "an integer below i64"),
        ] {
            assert!(matches!(scan(&hex(bytes)), Err(CborError::NotCanonical { .. })), "{why}: {bytes}");
        }
    }

    #[test]
    fn a_promised_length_is_not_believed() {
        for bytes in
            ["5b7fffffffffffffff", "9b7fffffffffffffff", "bb7fffffffffffffff", "7affffffff", "d82a", "18"]
        {
            assert!(matches!(scan(&hex(bytes)), Err(CborError::Truncated { .. })), "{bytes}");
        }
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let lists = |n: usize| [vec![0x81; n], vec![0x80]].concat();
        assert_eq!(scan(&lists(MAX_DEPTH - 1)), Ok(MAX_DEPTH));
        assert_eq!(scan(&lists(MAX_DEPTH)), Err(CborError::TooDeep));
        assert_eq!(scan(&vec![0x81; 1_000_000]), Err(CborError::TooDeep));
    }

    #[test]
    fn the_first_of_two_items_is_measured() {
        assert_eq!(scan(&hex("a261746523696e666f626f7001a0")), Ok(13));
        assert_eq!(scan(&hex("a08000")), Ok(1));
        assert_eq!(scan(&hex("a1616180f6")), Ok(4));
        assert_eq!(scan(&hex("82a0a0f6")), Ok(3));
    }

    #[test]
    fn links_must_be_cids_of_the_protocol() {
        let good = "d82a58250001711220".to_owned() + &"00".repeat(32);
        assert_eq!(scan(&hex(&good)), Ok(41));
        for bad in [
            good.replace("0001711220", "0101711220"),
            good.replace("0001711220", "0001701220"),
            good.replace("0001711220", "0001711120"),
            "d82a5826000171122000".to_owned() + &"00".repeat(32),
            "d82a41000".to_owned() + "0",
        ] {
            assert!(scan(&hex(&bad)).is_err(), "{bad}");
        }
    }
}
