use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: `1500`, `5 GB`, `2.5GiB`. `KB` to `PB` are powers of 1,000, `KiB` to `PiB` of 1,024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 11] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
];

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size such as 500 MB, 5 GB or 1.5 TiB");
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..end], text[end..].trim().to_ascii_lowercase());
        let unit = if unit.is_empty() { "b" } else { &unit };
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let whole = digits(whole)?.checked_mul(*scale).ok_or_else(wrong)?;
        let rest = match fraction {
            "" if number.ends_with('.') => return Err(wrong()),
            "" => 0,
            fraction if fraction.len() > 9 => return Err(wrong()),
            fraction => {
                let parts = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or_default());
                let rest = u128::from(digits(fraction)?) * u128::from(*scale) / parts;
                u64::try_from(rest).map_err(|_| wrong())?
            }
        };
        whole.checked_add(rest).map(Self).ok_or_else(wrong)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Bytes(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Bytes(bytes) => Ok(Self(bytes)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("5GB", 5_000_000_000),
            ("5 gb", 5_000_000_000),
            ("2.5GiB", 5 << 29),
            ("0.25 kb", 250),
            ("1PB", 1_000_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "GB", "-1", "1.", ".5 GB", "5 XB", "1e9", "99999999 PB", "1.0000000001 GB", "5 GB!"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
