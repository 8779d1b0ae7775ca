use super::string_format;

/// A moment as the specification's `datetime` format writes it: RFC 3339 with upper-case `T` and `Z`, seconds and a
/// time zone required. The text is kept as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Datetime(Box<str>);

impl Datetime {
    const FORMAT: &'static str = "datetime";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.len() > 64 {
            return Err("longer than 64 bytes");
        }
        let b = text.as_bytes();
        let digits =
            |range: std::ops::Range<usize>| b.get(range).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
        let is = |at: usize, c: u8| b.get(at) == Some(&c);
        if !(digits(0..4) && is(4, b'-') && digits(5..7) && is(7, b'-') && digits(8..10) && is(10, b'T')) {
            return Err("the date is not YYYY-MM-DD followed by 'T'");
        }
        if !(digits(11..13) && is(13, b':') && digits(14..16) && is(16, b':') && digits(17..19)) {
            return Err("the time is not hh:mm:ss");
        }
        let mut at = 19;
        if is(at, b'.') {
            let fraction = b[at + 1..].iter().take_while(|d| d.is_ascii_digit()).count();
            if !(1..=20).contains(&fraction) {
                return Err("the fraction of a second has 1 to 20 digits");
            }
            at += 1 + fraction;
        }
        let zone_ok = match b.get(at) {
            Some(b'Z') => at + 1 == b.len(),
            Some(b'+' | b'-') => {
                at + 6 == b.len() && digits(at + 1..at + 3) && is(at + 3, b':') && digits(at + 4..at + 6)
            }
            _ => false,
        };
        if !zone_ok {
            return Err("the time zone is not 'Z' or +hh:mm");
        }
        if text.ends_with("-00:00") {
            return Err("the zone -00:00 is not allowed; write Z");
        }
        // jiff takes at most nine digits of fraction; the calendar is checked without them.
        let without_fraction = format!("{}{}", &text[..19], &text[at..]);
        let at: jiff::Timestamp = without_fraction.parse().map_err(|_| "there is no such date or time")?;
        if at < jiff::Timestamp::constant(-62_167_219_200, 0) {
            return Err("the moment is before the year 0000");
        }
        Ok(())
    }

    /// The current time, to the millisecond, in UTC.
    pub fn now() -> Self {
        Self::from(jiff::Timestamp::now())
    }

    /// The moment it names, fractions beyond a nanosecond dropped.
    pub fn timestamp(&self) -> jiff::Timestamp {
        let (head, tail) = self.0.split_at(19);
        let zone = tail.find(['Z', '+', '-']).map_or("", |at| &tail[at..]);
        let fraction = &tail[..tail.len() - zone.len()];
        let fraction = &fraction[..fraction.len().min(10)];
        format!("{head}{fraction}{zone}").parse().unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

string_format!(Datetime);

impl From<jiff::Timestamp> for Datetime {
    fn from(at: jiff::Timestamp) -> Self {
        Self(format!("{at:.3}").into())
    }
}
