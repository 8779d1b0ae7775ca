//! Numbers and times as people read them.

use std::fmt;

use jiff::Timestamp;

/// A time: `3 hours ago`, with the exact one for machines and for who points at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    at: Timestamp,
    now: Timestamp,
}

impl Moment {
    pub(super) fn new(at: Timestamp) -> Self {
        Self { at, now: Timestamp::now() }
    }

    /// RFC 3339, to the second.
    pub(super) fn exact(&self) -> String {
        self.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// The time of day where it is of today, and the date before it where it is not: `14:02 UTC`.
pub(super) fn clock(moment: &Moment) -> String {
    let day = |at: Timestamp| at.as_second().div_euclid(86_400);
    let format = if day(moment.at) == day(moment.now) { "%H:%M UTC" } else { "%-d %B, %H:%M UTC" };
    moment.at.strftime(format).to_string()
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.now.as_second().saturating_sub(self.at.as_second());
        let (count, unit) = match seconds {
            ..60 => return f.write_str("just now"),
            60..3600 => (seconds / 60, "minute"),
            3600..86_400 => (seconds / 3600, "hour"),
            86_400..2_592_000 => (seconds / 86_400, "day"),
            _ => return write!(f, "{}", self.at.strftime("%-d %B %Y")),
        };
        write!(f, "{count} {unit}{} ago", if count == 1 { "" } else { "s" })
    }
}

/// `12.3 MiB`
pub(super) fn bytes(count: u64) -> String {
    scaled(count, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], " ")
}

/// `1.2k`
pub(super) fn count(count: u64) -> String {
    scaled(count, 1000, &["", "k", "M", "G", "T", "P", "E"], "")
}

/// `1 star`, `1.2k stars`
pub(super) fn counted(number: u64, unit: &str) -> String {
    format!("{} {unit}{}", count(number), if number == 1 { "" } else { "s" })
}

fn scaled(count: u64, step: u64, units: &[&str], between: &str) -> String {
    let mut size = 1;
    let mut units = units.iter();
    let mut unit = units.next().unwrap_or(&"");
    while count / size >= step {
        let Some(larger) = units.next() else { break };
        (unit, size) = (larger, size * step);
    }
    let (whole, tenth) = (count / size, u128::from(count % size) * 10 / u128::from(size));
    if size > 1 && whole < 100 {
        format!("{whole}.{tenth}{between}{unit}")
    } else {
        format!("{whole}{between}{unit}")
    }
}

/// A digest by its first twelve digits.
pub(super) fn short(digest: &str) -> &str {
    let start = digest.find(':').map_or(0, |colon| colon + 1);
    digest.get(start..start + 12).unwrap_or(digest)
}

/// The first `width` characters of a text, without what controls a terminal.
pub(super) fn cut(text: &str, width: usize) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(width).collect();
    if text.chars().nth(width).is_some() {
        short.push('…');
    }
    short
}

/// The first line of a Markdown text that says something, without marks.
pub(super) fn first_line(markdown: &str) -> String {
    let line = markdown.lines().map(|line| line.trim_start_matches(['#', '>', '-', '*', ' ']).trim());
    let line = line.clone().find(|line| !line.is_empty()).unwrap_or_default();
    let mut short: String = line.chars().take(200).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_short() {
        for (size, said) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (13_000_000, "12.3 MiB"),
            (314_572_800, "300 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(size), said);
        }
        for (number, said) in [(7, "7"), (999, "999"), (1234, "1.2k"), (250_000, "250k"), (3_000_000, "3.0M")]
        {
            assert_eq!(count(number), said);
        }
        for (number, said) in [(0, "0 stars"), (1, "1 star"), (2, "2 stars"), (1001, "1.0k stars")] {
            assert_eq!(counted(number, "star"), said);
        }
    }

    #[test]
    fn times_are_told_from_now() {
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
        for (at, said) in [
            ("2026-06-15T12:04:00Z", "just now"),
            ("2026-06-15T11:59:30Z", "just now"),
            ("2026-06-15T11:59:00Z", "1 minute ago"),
            ("2026-06-15T09:30:00Z", "2 hours ago"),
            ("2026-06-13T12:00:00Z", "2 days ago"),
            ("2026-01-05T12:00:00Z", "5 January 2026"),
        ] {
            assert_eq!(Moment { at: at.parse().unwrap(), now }.to_string(), said);
        }
        for (at, said) in
            [("2026-06-15T00:04:59Z", "00:04 UTC"), ("2026-06-14T23:59:00Z", "14 June, 23:59 UTC")]
        {
            assert_eq!(clock(&Moment { at: at.parse().unwrap(), now }), said);
        }
    }

    #[test]
    fn a_description_begins_with_words() {
        assert_eq!(first_line("\n\n# A tool\nmore"), "A tool");
        assert_eq!(first_line(""), "");
        assert_eq!(first_line(&"ä".repeat(300)).chars().count(), 201);
    }
}
