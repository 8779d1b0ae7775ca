use super::string_format;

/// A namespaced identifier, such as `io.atcr.manifest` (specification, NSID).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nsid(Box<str>);

impl Nsid {
    const FORMAT: &'static str = "NSID";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.len() > 317 {
            return Err("longer than 317 bytes");
        }
        let Some((authority, name)) = text.rsplit_once('.') else {
            return Err("fewer than three segments");
        };
        if name.is_empty() || name.len() > 63 {
            return Err("the name is empty or longer than 63 bytes");
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric()) || name.as_bytes()[0].is_ascii_digit() {
            return Err("the name is letters and digits, and begins with a letter");
        }
        let mut segments = 0;
        for segment in authority.split('.') {
            if segment.is_empty() || segment.len() > 63 {
                return Err("a segment is empty or longer than 63 bytes");
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err("a segment has a character outside A-Z a-z 0-9 -");
            }
            if segment.starts_with('-') || segment.ends_with('-') {
                return Err("a segment begins or ends with a hyphen");
            }
            segments += 1;
        }
        if segments < 2 {
            return Err("fewer than three segments");
        }
        if authority.as_bytes()[0].is_ascii_digit() {
            return Err("the first segment begins with a digit");
        }
        Ok(())
    }
}

string_format!(Nsid);
