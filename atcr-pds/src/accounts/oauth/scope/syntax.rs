//! The texts of scopes: `resource[:positional][?name=value&…]`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use url::form_urlencoded;

/// What stays as it is in the positional part.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'*')
    .remove(b':')
    .remove(b'/')
    .remove(b'+')
    .remove(b',')
    .remove(b'@');
/// A parameter is read as a form is, where `+` is a space.
const PLAIN_PARAMETER: &AsciiSet = &PLAIN.add(b'+');

/// The values of one parameter.
enum Values {
    /// Of a text, where one and several are written alike.
    Text(Vec<String>),
    /// Of JSON, where they are not.
    One(String),
    List(Vec<String>),
}

/// A parameter has several values where there must be one, or the other way round.
#[derive(Debug)]
pub(super) struct WrongNumber;

/// A scope, or a permission of a permission set, before it is known what it means.
pub(super) struct Syntax {
    pub(super) resource: String,
    positional: Option<String>,
    parameters: Vec<(String, Values)>,
}

impl Syntax {
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let end = text.find([':', '?']).unwrap_or(text.len());
        let (resource, rest) = text.split_at(end);
        let (positional, query) = match rest.strip_prefix(':') {
            Some(rest) => match rest.split_once('?') {
                Some((positional, query)) => (Some(positional), query),
                None => (Some(rest), ""),
            },
            None => (None, rest.trim_start_matches('?')),
        };
        let decode = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
        let positional = positional.map(decode).transpose().ok()?;
        let mut parameters: Vec<(String, Values)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match parameters.iter_mut().find(|(known, _)| *known == name) {
                Some((_, Values::Text(values))) => values.push(value.into_owned()),
                _ => parameters.push((name.into_owned(), Values::Text(vec![value.into_owned()]))),
            }
        }
        Some(Self { resource: resource.to_owned(), positional, parameters })
    }

    /// A permission of a permission set, as its lexicon has it.
    pub(super) fn of_lexicon(permission: &Value) -> Option<Self> {
        let members = permission.as_object()?;
        let resource = members.get("resource")?.as_str()?.to_owned();
        let mut parameters = Vec::new();
        for (name, value) in members.iter().filter(|(name, _)| !matches!(name.as_str(), "type" | "resource"))
        {
            let values = match value {
                Value::Array(list) => Values::List(
                    list.iter().map(|one| Some(one.as_str()?.to_owned())).collect::<Option<_>>()?,
                ),
                Value::String(one) => Values::One(one.clone()),
                Value::Bool(flag) => Values::One(flag.to_string()),
                _ => return None,
            };
            parameters.push((name.clone(), values));
        }
        Some(Self { resource, positional: None, parameters })
    }

    /// Takes a parameter out that must have one value.
    pub(super) fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.parameters.iter().position(|(known, _)| known == name)?;
        match self.parameters.remove(at).1 {
            Values::One(value) => Some(value),
            Values::Text(_) | Values::List(_) => None,
        }
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        self.parameters.push((name.to_owned(), Values::One(value)));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(known, _)| known == name)
    }

    /// Whether no other parameters stand there.
    pub(super) fn only(&self, names: &[&str]) -> Option<()> {
        self.parameters.iter().all(|(name, _)| names.contains(&name.as_str())).then_some(())
    }

    fn find(&self, name: &str) -> Option<&Values> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, values)| values)
    }

    /// One value, if there is any.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, WrongNumber> {
        match self.find(name) {
            None => Ok(None),
            Some(Values::One(value)) => Ok(Some(value)),
            Some(Values::Text(values)) => match values.as_slice() {
                [value] => Ok(Some(value)),
                _ => Err(WrongNumber),
            },
            Some(Values::List(_)) => Err(WrongNumber),
        }
    }

    /// A list of values, if there is any.
    pub(super) fn many(&self, name: &str) -> Result<Option<&[String]>, WrongNumber> {
        match self.find(name) {
            None => Ok(None),
            Some(Values::Text(values) | Values::List(values)) if !values.is_empty() => Ok(Some(values)),
            Some(_) => Err(WrongNumber),
        }
    }

    /// The value that may stand behind the colon or under its name, not both.
    pub(super) fn main(&self, name: &str) -> Option<&str> {
        match (self.positional.as_deref(), self.one(name).ok()?) {
            (Some(value), None) | (None, Some(value)) => Some(value),
            _ => None,
        }
    }

    /// The values that may stand behind the colon, if it is one, or under their name, not both.
    pub(super) fn main_many(&self, name: &str) -> Option<Vec<&str>> {
        match (&self.positional, self.many(name).ok()?) {
            (Some(value), None) => Some(vec![value]),
            (None, Some(values)) => Some(values.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

/// The text of a scope.
pub(super) fn format(resource: &str, positional: Option<&str>, parameters: &[(&str, &str)]) -> String {
    let mut text = resource.to_owned();
    if let Some(positional) = positional {
        text.push(':');
        text.extend(utf8_percent_encode(positional, PLAIN));
    }
    for (n, (name, value)) in parameters.iter().enumerate() {
        text.push(if n == 0 { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.extend(utf8_percent_encode(value, PLAIN_PARAMETER));
    }
    text
}
