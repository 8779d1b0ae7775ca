use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SyntaxError;

const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";

/// A timestamp identifier: 53 bits of microseconds since the Unix epoch and 10 bits of clock identifier, written
/// as 13 characters that sort as the number does (specification, TID). Commit revs are TIDs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(u64);

impl Tid {
    const FORMAT: &'static str = "TID";

    /// The TID of a moment. Only the low 53 bits of `micros` and the low 10 bits of `clock` are kept.
    pub fn new(micros: u64, clock: u16) -> Self {
        Self(((micros & ((1 << 53) - 1)) << 10) | u64::from(clock & 0x3ff))
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> u64 {
        self.0 >> 10
    }

    /// The clock identifier, 0 to 1,023.
    pub fn clock(self) -> u16 {
        u16::try_from(self.0 & 0x3ff).unwrap_or_default()
    }
}

impl FromStr for Tid {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let bytes = text.as_bytes();
        if bytes.len() != 13 {
            return Err(SyntaxError::new(Self::FORMAT, text, "a TID has 13 characters"));
        }
        let mut value: u64 = 0;
        for (i, b) in bytes.iter().enumerate() {
            let digit = match b {
                b'2'..=b'7' => b - b'2',
                b'a'..=b'z' => b - b'a' + 6,
                _ => return Err(SyntaxError::new(Self::FORMAT, text, "a character is outside 2-7 a-z")),
            };
            if i == 0 && digit > 15 {
                return Err(SyntaxError::new(
                    Self::FORMAT,
                    text,
                    "the first character is past 'j': the high bit is set",
                ));
            }
            value = (value << 5) | u64::from(digit);
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 13];
        for (i, slot) in text.iter_mut().enumerate() {
            *slot = ALPHABET[usize::try_from((self.0 >> (60 - 5 * i)) & 31).unwrap_or_default()];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl TryFrom<String> for Tid {
    type Error = SyntaxError;
    fn try_from(text: String) -> Result<Self, SyntaxError> {
        text.parse()
    }
}

impl serde::Serialize for Tid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Tid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Hands out TIDs that only ever grow, whatever the wall clock does.
#[derive(Debug)]
pub struct TidClock {
    last: AtomicU64,
    clock: u16,
}

impl TidClock {
    /// A clock that continues after `last` (the newest rev of a repo, say). `clock` tells apart several writers.
    pub fn after(last: Option<Tid>, clock: u16) -> Self {
        Self { last: AtomicU64::new(last.map_or(0, Tid::micros)), clock }
    }

    /// The next TID at wall-clock time `now_micros` (microseconds since the Unix epoch): that moment, or one
    /// microsecond after the last one given when the clock stands still or ran backwards.
    pub fn next(&self, now_micros: u64) -> Tid {
        let step = |last: u64| Some(now_micros.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap_or_default();
        Tid::new(now_micros.max(last + 1), self.clock)
    }

    /// [`TidClock::next`] at the system's time.
    pub fn now(&self) -> Tid {
        let micros = jiff::Timestamp::now().as_microsecond();
        self.next(u64::try_from(micros).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_number_agree_and_sort_alike(a in 0..(1u64 << 53), b in 0..(1u64 << 53), clock in 0u16..1024) {
            let (x, y) = (Tid::new(a, clock), Tid::new(b, clock));
            prop_assert_eq!(x.to_string().parse::<Tid>().unwrap(), x);
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
        }
    }

    #[test]
    fn the_clock_never_runs_backwards() {
        let clock = TidClock::after(Some(Tid::new(1000, 7)), 7);
        let given: Vec<Tid> = [5, 2000, 1999, 2000, 3000].map(|now| clock.next(now)).into();
        assert!(given.windows(2).all(|w| w[0] < w[1]), "{given:?}");
        assert_eq!(given[0].micros(), 1001);
        assert_eq!(given[4].micros(), 3000);
    }
}
