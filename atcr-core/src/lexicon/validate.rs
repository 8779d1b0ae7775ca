//! Walking a value along its schema.

use std::fmt::Write as _;

use serde::Deserialize as _;
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation as _;

use super::schema::{
    ArraySchema, BlobSchema, BytesSchema, Def, IntegerSchema, ObjectSchema, Schema, StringSchema, UnionSchema,
};
use super::{LexiconError, Lexicons, invalid};
use crate::records::{BlobRef, BytesField, CidLink};

/// How many schemas and values may stand inside each other.
const MAX_DEPTH: usize = 128;

/// One check under way.
pub(super) struct Check<'a> {
    lexicons: &'a Lexicons,
    /// The lexicon that `#name` refers into.
    nsid: &'a str,
    path: Vec<Step<'a>>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

type Outcome = Result<(), LexiconError>;

impl<'a> Check<'a> {
    pub(super) fn new(lexicons: &'a Lexicons, nsid: &'a str) -> Self {
        Self { lexicons, nsid, path: Vec::new(), depth: 0 }
    }

    fn fail(&self, reason: impl Into<String>) -> Outcome {
        let mut path = String::new();
        for step in &self.path {
            if !path.is_empty() {
                path.push('.');
            }
            match step {
                Step::Name(name) => path.push_str(name),
                Step::Index(index) => {
                    let _ = write!(path, "{index}");
                }
            }
        }
        Err(invalid(if path.is_empty() { "the value".into() } else { path }, reason))
    }

    fn require(&self, holds: bool, reason: impl FnOnce() -> String) -> Outcome {
        if holds { Ok(()) } else { self.fail(reason()) }
    }

    pub(super) fn schema(&mut self, schema: &'a Schema, value: &'a Value) -> Outcome {
        self.depth += 1;
        let outcome = if self.depth > MAX_DEPTH {
            self.fail("nested too deep")
        } else {
            match schema {
                Schema::Object(object) => self.object(object, value),
                Schema::Array(array) => self.array(array, value),
                Schema::String(string) => self.string(string, value),
                Schema::Integer(integer) => self.integer(integer, value),
                Schema::Boolean(boolean) => match value.as_bool() {
                    None => self.fail("not a boolean"),
                    Some(b) => self.require(boolean.r#const.is_none_or(|c| c == b), || {
                        "not the one allowed value".into()
                    }),
                },
                Schema::Bytes(bytes) => self.bytes(bytes, value),
                Schema::CidLink => self.require(CidLink::deserialize(value).is_ok(), || "not a link".into()),
                Schema::Blob(blob) => self.blob(blob, value),
                Schema::Ref(target) => self.reference(&target.r#ref, value),
                Schema::Union(union) => self.union(union, value),
                Schema::Unknown => self.unknown(value),
                // A token is a name; as a value it stands for nothing.
                Schema::Token => self.fail("a token is not a value"),
            }
        };
        self.depth -= 1;
        outcome
    }

    pub(super) fn object(&mut self, object: &'a ObjectSchema, value: &'a Value) -> Outcome {
        let Some(map) = value.as_object() else { return self.fail("not an object") };
        if let Some(name) = object.required.iter().find(|name| !map.contains_key(*name)) {
            return self.fail(format!("the required field {name} is missing"));
        }
        for (name, schema) in &object.properties {
            let Some(value) = map.get(name) else { continue };
            if value.is_null() && object.nullable.contains(name) {
                continue;
            }
            self.path.push(Step::Name(name));
            self.schema(schema, value)?;
            self.path.pop();
        }
        Ok(())
    }

    fn array(&mut self, array: &'a ArraySchema, value: &'a Value) -> Outcome {
        let Some(list) = value.as_array() else { return self.fail("not an array") };
        self.length(list.len(), array.min_length, array.max_length, "items")?;
        for (index, item) in list.iter().enumerate() {
            self.path.push(Step::Index(index));
            self.schema(&array.items, item)?;
            self.path.pop();
        }
        Ok(())
    }

    fn length(&self, length: usize, min: Option<usize>, max: Option<usize>, unit: &str) -> Outcome {
        if let Some(min) = min.filter(|min| length < *min) {
            return self.fail(format!("{length} {unit}; at least {min} are asked for"));
        }
        match max.filter(|max| length > *max) {
            Some(max) => self.fail(format!("{length} {unit}; at most {max} are allowed")),
            None => Ok(()),
        }
    }

    fn string(&self, schema: &StringSchema, value: &Value) -> Outcome {
        let Some(text) = value.as_str() else { return self.fail("not a string") };
        self.length(text.len(), schema.min_length, schema.max_length, "bytes")?;
        if schema.min_graphemes.is_some() || schema.max_graphemes.is_some() {
            let graphemes = text.graphemes(true).count();
            self.length(graphemes, schema.min_graphemes, schema.max_graphemes, "characters")?;
        }
        if let Some(format) = schema.format.filter(|format| !format.accepts(text)) {
            return self.fail(format!("not a valid {}", format.name()));
        }
        let allowed = schema.r#const.as_ref().is_none_or(|c| c == text)
            && schema.r#enum.as_ref().is_none_or(|values| values.iter().any(|v| v == text));
        self.require(allowed, || "not one of the allowed values".into())
    }

    fn integer(&self, schema: &IntegerSchema, value: &Value) -> Outcome {
        // The largest integer of the data model is 2^53 - 1.
        let Some(n) = value.as_i64().filter(|n| n.unsigned_abs() < 1 << 53) else {
            return self.fail("not an integer of at most 53 bits");
        };
        if let Some(min) = schema.minimum.filter(|min| n < *min) {
            return self.fail(format!("{n} is less than {min}"));
        }
        if let Some(max) = schema.maximum.filter(|max| n > *max) {
            return self.fail(format!("{n} is more than {max}"));
        }
        let allowed = schema.r#const.is_none_or(|c| c == n)
            && schema.r#enum.as_ref().is_none_or(|values| values.contains(&n));
        self.require(allowed, || "not one of the allowed values".into())
    }

    fn bytes(&self, schema: &BytesSchema, value: &Value) -> Outcome {
        match BytesField::deserialize(value) {
            Ok(bytes) => self.length(bytes.0.len(), schema.min_length, schema.max_length, "bytes"),
            Err(_) => self.fail("not bytes: {\"$bytes\": base64}"),
        }
    }

    fn blob(&self, schema: &BlobSchema, value: &Value) -> Outcome {
        let Ok(BlobRef { mime_type, size: Some(size), .. }) = BlobRef::deserialize(value) else {
            return self.fail("not a blob: $type, ref, mimeType and size");
        };
        if let Some(max) = schema.max_size.filter(|max| size > *max) {
            return self.fail(format!("a blob of {size} bytes; at most {max} are allowed"));
        }
        let accepts = |pattern: &String| match pattern.strip_suffix('*') {
            Some("*/") => true,
            Some(prefix) => mime_type.starts_with(prefix),
            None => *pattern == mime_type,
        };
        let accepted = schema.accept.is_empty() || schema.accept.iter().any(accepts);
        self.require(accepted, || format!("a blob of {mime_type:?} is not accepted here"))
    }

    fn reference(&mut self, target: &'a str, value: &'a Value) -> Outcome {
        let (nsid, name) = resolve(self.nsid, target);
        let lexicons = self.lexicons;
        let outer = std::mem::replace(&mut self.nsid, nsid);
        let outcome = match lexicons.def(nsid, name)? {
            Def::Schema(schema) => self.schema(schema, value),
            Def::Record { record } => self.object(record, value),
            Def::Method(_) | Def::PermissionSet => Err(LexiconError::Unknown(format!("the value {target}"))),
        };
        self.nsid = outer;
        outcome
    }

    fn union(&mut self, union: &'a UnionSchema, value: &'a Value) -> Outcome {
        let Some(map) = value.as_object() else { return self.fail("not an object") };
        let Some(found) = map.get("$type").and_then(Value::as_str) else {
            return self.fail("a member of a union says its $type");
        };
        let wanted = resolve(self.nsid, found);
        match union.refs.iter().find(|target| resolve(self.nsid, target) == wanted) {
            Some(target) => self.reference(target, value),
            None => self.require(!union.closed, || "a type that this union does not have".into()),
        }
    }

    fn unknown(&self, value: &Value) -> Outcome {
        let Some(map) = value.as_object() else { return self.fail("not an object") };
        let special = map.contains_key("$bytes")
            || map.contains_key("$link")
            || map.get("$type").is_some_and(|t| t.as_str() == Some("blob"));
        self.require(!special, || "bytes, a link or a blob where an object is asked for".into())
    }
}

/// The lexicon and the definition that a reference names: `#name`, `nsid` or `nsid#name`.
fn resolve<'a>(from: &'a str, target: &'a str) -> (&'a str, &'a str) {
    match target.split_once('#') {
        None => (target, "main"),
        Some(("", name)) => (from, name),
        Some((nsid, name)) => (nsid, name),
    }
}
