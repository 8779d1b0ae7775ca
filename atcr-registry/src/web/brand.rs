//! What a registry calls itself and looks like.

use std::fmt::Write as _;
use std::str::FromStr;

use atcr_core::oci::Digest;
use bytes::Bytes;
use url::Url;

use super::avatar::picture_type;

/// The largest logo, in bytes.
const MAX_LOGO: usize = 256 * 1024;
/// The least contrast of a text (WCAG 2.2, 1.4.3).
const CONTRAST: f64 = 4.5;
/// What text lies on, as the stylesheet has it: pages, cards and code.
const LIGHT: [Rgb; 3] = [[0xf4, 0xf5, 0xf7], [0xff; 3], [0xec, 0xee, 0xf1]];
const DARK: [Rgb; 3] = [[0x14, 0x17, 0x1a], [0x1e, 0x22, 0x26], [0x26, 0x2b, 0x30]];

type Rgb = [u8; 3];

/// What the pages of a registry look like.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Brand {
    /// What the registry is called.
    pub name: String,
    /// What it is called where there is little room; `None` is the name.
    pub short_name: Option<String>,
    /// The colour of links and buttons.
    pub accent: Option<Color>,
    /// The picture before the name.
    pub logo: Option<Logo>,
    /// Who runs the registry.
    pub company: Option<String>,
    /// The terms of service.
    pub terms: Option<Url>,
    /// The privacy policy.
    pub privacy: Option<Url>,
}

/// Why something cannot be part of a brand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrandError {
    /// A colour is not written as one.
    #[error("{0:?} is no colour; write one such as #0b5cd5")]
    Color(String),
    /// A file is no picture that a page can show.
    #[error("the logo is no PNG, JPEG, WebP or SVG")]
    Logo,
    /// A file is too large.
    #[error("the logo has {0} bytes; {MAX_LOGO} are the most")]
    LogoSize(usize),
}

/// A colour: `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color(Rgb);

impl FromStr for Color {
    type Err = BrandError;

    fn from_str(text: &str) -> Result<Self, BrandError> {
        let bad = || BrandError::Color(text.chars().take(32).collect());
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6).ok_or_else(bad)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let number = u32::from_str_radix(digits, 16).map_err(|_| bad())?;
        let [_, red, green, blue] = number.to_be_bytes();
        Ok(Self([red, green, blue]))
    }
}

/// A picture that browsers show. One in SVG runs no script: it is shown as a picture only, and is served so that it can do
/// nothing when it is opened by itself.
#[derive(Debug, Clone)]
pub struct Logo {
    bytes: Bytes,
    media_type: &'static str,
    name: String,
}

impl Logo {
    /// A picture in PNG, JPEG, WebP or SVG, of at most 256 KiB.
    pub fn read(bytes: impl Into<Bytes>) -> Result<Self, BrandError> {
        let bytes = bytes.into();
        if bytes.len() > MAX_LOGO {
            return Err(BrandError::LogoSize(bytes.len()));
        }
        let (media_type, extension) = match picture_type(&bytes) {
            Some(media_type) => (media_type, media_type.trim_start_matches("image/")),
            None if is_svg(&bytes) => ("image/svg+xml", "svg"),
            None => return Err(BrandError::Logo),
        };
        let name = format!("logo-{:.16}.{extension}", Digest::sha256(&bytes).hex());
        Ok(Self { bytes, media_type, name })
    }
}

fn is_svg(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    (text.starts_with("<svg") || text.starts_with("<?xml") || text.starts_with("<!--"))
        && text.contains("<svg")
}

impl Brand {
    /// A registry that has a name, and looks as any.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            short_name: None,
            accent: None,
            logo: None,
            company: None,
            terms: None,
            privacy: None,
        }
    }

    /// What it is called where there is little room.
    pub(super) fn called(&self) -> &str {
        self.short_name.as_deref().unwrap_or(&self.name)
    }

    pub(super) fn has_footer(&self) -> bool {
        self.company.is_some() || self.terms.is_some() || self.privacy.is_some()
    }

    /// Where the picture is.
    pub(super) fn logo_path(&self) -> Option<String> {
        self.logo.as_ref().map(|logo| format!("/assets/{}", logo.name))
    }

    /// What the stylesheet gets over the usual one.
    pub(super) fn style(&self) -> Option<Style> {
        let Color(accent) = self.accent?;
        let css = format!(
            ":root {{ {} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {} }} }}\n",
            variables(accent, &LIGHT, 0),
            variables(accent, &DARK, 255)
        );
        Some(Style { name: format!("brand-{:.16}.css", Digest::sha256(css.as_bytes()).hex()), css })
    }

    /// A file of the brand, with its media type.
    pub(super) fn file(&self, name: &str) -> Option<(Bytes, &'static str)> {
        if let Some(logo) = self.logo.as_ref().filter(|logo| logo.name == name) {
            return Some((logo.bytes.clone(), logo.media_type));
        }
        let style = self.style().filter(|style| style.name == name)?;
        Some((style.css.into(), "text/css; charset=utf-8"))
    }
}

/// A stylesheet, and the name that changes with what is in it.
pub(super) struct Style {
    pub(super) name: String,
    css: String,
}

/// The colour so near to `accent` that it can be read on each of these.
fn variables(accent: Rgb, on: &[Rgb], toward: u8) -> String {
    let readable = |color: &Rgb| on.iter().all(|paper| contrast(*color, *paper) >= CONTRAST);
    let mixed = (0..=20).map(|step| accent.map(|part| mix(part, toward, step)));
    let color = mixed.into_iter().find(readable).unwrap_or([toward; 3]);
    let [white, black] = [[255; 3], [0; 3]];
    let text = if contrast(white, color) >= contrast(black, color) { white } else { black };
    format!("--blue: {}; --on-blue: {};", hex(color), hex(text))
}

/// `step` twentieths of the way.
fn mix(from: u8, to: u8, step: u16) -> u8 {
    let mixed = (u16::from(from) * (20 - step) + u16::from(to) * step) / 20;
    u8::try_from(mixed).unwrap_or(to)
}

fn hex(color: Rgb) -> String {
    color.iter().fold("#".to_owned(), |mut text, part| {
        let _ = write!(text, "{part:02x}");
        text
    })
}

/// The ratio of two colours' luminances (WCAG 2.2, contrast ratio).
fn contrast(one: Rgb, other: Rgb) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

fn luminance(color: Rgb) -> f64 {
    let [red, green, blue] = color.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_color_is_six_digits() {
        assert_eq!("#0B5cd5".parse(), Ok(Color([0x0b, 0x5c, 0xd5])));
        for bad in ["", "#fff", "0b5cd5", "red", "#0b5cd5;}", "#+b5cd5", "#0b5cd", "#0b5cd5 ", "#äöü"] {
            assert!(matches!(bad.parse::<Color>(), Err(BrandError::Color(_))), "{bad}");
        }
    }

    #[test]
    fn whatever_the_color_is_text_can_be_read() {
        for accent in ["#000000", "#ffffff", "#ffff00", "#0000ff", "#808080", "#ff69b4", "#0b5cd5"] {
            let mut brand = Brand::new("x");
            brand.accent = Some(accent.parse().unwrap());
            let css = brand.style().unwrap().css;
            let colors: Vec<Rgb> = css
                .split(": #")
                .skip(1)
                .map(|rest| format!("#{}", &rest[..6]).parse::<Color>().unwrap().0)
                .collect();
            let [light, on_light, dark, on_dark] = colors[..] else { panic!("{css}") };
            for paper in LIGHT {
                assert!(contrast(light, paper) >= CONTRAST, "{accent}: {css}");
            }
            for paper in DARK {
                assert!(contrast(dark, paper) >= CONTRAST, "{accent}: {css}");
            }
            assert!(contrast(light, on_light) >= CONTRAST && contrast(dark, on_dark) >= CONTRAST, "{css}");
        }
        // One that can be read is what it was.
        let mut brand = Brand::new("x");
        brand.accent = Some("#0b5cd5".parse().unwrap());
        assert!(brand.style().unwrap().css.contains("--blue: #0b5cd5; --on-blue: #ffffff;"));
    }

    #[test]
    fn a_logo_is_a_picture_of_some_size() {
        for (bytes, media_type) in [
            (&b"\x89PNG\r\n\x1a\n\0"[..], "image/png"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", "image/svg+xml"),
        ] {
            assert_eq!(Logo::read(bytes).unwrap().media_type, media_type);
        }
        for bad in
            [&b"<!doctype html><script>1</script>"[..], b"", b"GIF89a", b"<?xml version='1.0'?><html/>"]
        {
            assert_eq!(Logo::read(bad).unwrap_err(), BrandError::Logo);
        }
        let large = [b"<svg>".as_slice(), &vec![b' '; MAX_LOGO]].concat();
        assert_eq!(Logo::read(large).unwrap_err(), BrandError::LogoSize(MAX_LOGO + 5));
    }
}
