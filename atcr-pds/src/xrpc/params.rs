use std::convert::Infallible;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::XrpcError;

/// The query parameters of a call (specification, XRPC). Unknown ones are ignored; each error names the method.
#[derive(Debug, Clone)]
pub struct Params {
    method: String,
    pairs: Vec<(String, String)>,
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let method = parts.uri.path().trim_start_matches("/xrpc/");
        Ok(Self::parse(method, parts.uri.query().unwrap_or_default()))
    }
}

impl Params {
    /// The parameters in the query string of a call of `method`.
    pub fn parse(method: &str, query: &str) -> Self {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        Self { method: method.to_owned(), pairs: pairs.into_owned().collect() }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn invalid(&self, what: impl Display) -> XrpcError {
        XrpcError::invalid_request(format!("Invalid {} params: {what}", self.method))
    }

    fn value<T: FromStr<Err: Display>>(&self, name: &str, text: &str) -> Result<T, XrpcError> {
        text.parse().map_err(|error: T::Err| self.invalid(format_args!("{error} at $.{name}")))
    }

    /// A parameter that may be left out.
    pub fn optional<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, XrpcError> {
        self.text(name).map(|text| self.value(name, text)).transpose()
    }

    /// A parameter that has to be there.
    pub fn required<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, XrpcError> {
        let missing = || self.invalid(format_args!("Missing required key \"{name}\""));
        self.text(name).ok_or_else(missing).and_then(|text| self.value(name, text))
    }

    /// A parameter that may be repeated and has to be there at least once, at most `most` times.
    pub fn many<T: FromStr<Err: Display>>(&self, name: &str, most: usize) -> Result<Vec<T>, XrpcError> {
        let texts: Vec<&str> =
            self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        if texts.is_empty() {
            return Err(self.invalid(format_args!("Missing required key \"{name}\"")));
        }
        if texts.len() > most {
            return Err(self.invalid(format_args!("array too big (maximum {most}, got {})", texts.len())));
        }
        texts.into_iter().map(|text| self.value(name, text)).collect()
    }

    /// A whole number that may be left out.
    pub fn number(&self, name: &str) -> Result<Option<i64>, XrpcError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let expected = |_| self.invalid(format_args!("Expected integer value type (got \"{text}\")"));
        text.parse().map(Some).map_err(expected)
    }

    /// A whole number within `range`, or `default` when it is left out.
    pub fn integer(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, XrpcError> {
        let Some(number) = self.number(name)? else { return Ok(default) };
        let (least, most) = range.into_inner();
        match usize::try_from(number) {
            Ok(number) if number > most => {
                Err(self.invalid(format_args!("integer too big (maximum {most}, got {number})")))
            }
            Ok(number) if number >= least => Ok(number),
            _ => Err(self.invalid(format_args!("integer too small (minimum {least}, got {number})"))),
        }
    }

    /// `true` or `false`, or false when it is left out.
    pub fn boolean(&self, name: &str) -> Result<bool, XrpcError> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(self.invalid(format_args!("Expected boolean value type (got \"{other}\")"))),
        }
    }
}
