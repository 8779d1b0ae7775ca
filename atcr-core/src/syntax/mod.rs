//! The AT Protocol's string formats, each a type that cannot hold an invalid value.
//!
//! Every type is parsed with [`str::parse`] or `TryFrom<String>`, compares and hashes as its text, and reads and
//! writes as that text in JSON. The grammar is the one of the specification page that the type names.

mod at_identifier;
mod at_uri;
mod datetime;
mod did;
mod handle;
mod nsid;
mod record_key;
mod tid;
#[cfg(test)]
mod vectors;

pub use at_identifier::AtIdentifier;
pub use at_uri::AtUri;
pub use datetime::Datetime;
pub use did::{Did, DidMethod};
pub use handle::Handle;
pub use nsid::Nsid;
pub use record_key::RecordKey;
pub use tid::{Tid, TidClock};

/// A text that does not fit the format it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {format}: {reason}")]
pub struct SyntaxError {
    /// The name of the format, as the specification spells it.
    pub format: &'static str,
    /// The text that was refused, cut to 128 characters.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl SyntaxError {
    pub(crate) fn new(format: &'static str, value: &str, reason: &'static str) -> Self {
        Self { format, value: value.chars().take(128).collect(), reason }
    }
}

/// Gives a newtype over `Box<str>` the conversions every string format has. The type brings
/// `fn check(&str) -> Result<(), &'static str>` and `const FORMAT: &'static str`; a second argument names the
/// function that turns the checked text into the one spelling that is kept.
macro_rules! string_format {
    ($name:ident) => {
        $crate::syntax::string_format!($name, ::std::convert::identity);
    };
    ($name:ident, $normalise:expr) => {
        impl $name {
            /// The text of the value.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::syntax::SyntaxError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::syntax::SyntaxError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                match Self::check(&text) {
                    Ok(()) => Ok(Self($normalise(text).into_boxed_str())),
                    Err(reason) => Err($crate::syntax::SyntaxError::new(Self::FORMAT, &text, reason)),
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as ::serde::Deserialize>::deserialize(deserializer)?;
                Self::try_from(text).map_err(::serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use string_format;
