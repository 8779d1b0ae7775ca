//! Example values made from the built-in lexicons: what every type of this crate must read and write unchanged.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::schema::{Def, ObjectSchema, Schema, StringSchema};
use super::{LexiconError, Lexicons};
use crate::methods::{Method, MethodKind};
use crate::records::Record;
use crate::syntax::Nsid;

/// How full an example is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// Every property.
    Whole,
    /// The required ones.
    Required,
    /// Every property, strings as long as they may be where their content is free.
    Longest,
}

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct Maker {
    nsid: String,
    fill: Fill,
}

impl Maker {
    fn def(&self, nsid: &str, name: &str) -> Value {
        let maker = Self { nsid: nsid.to_owned(), fill: self.fill };
        match Lexicons::builtin().def(nsid, name).unwrap() {
            Def::Record { record } => {
                let mut value = maker.object(record);
                value["$type"] = nsid.into();
                value
            }
            Def::Schema(schema) => maker.value("", schema),
            _ => panic!("{nsid}#{name} is no value"),
        }
    }

    fn object(&self, object: &ObjectSchema) -> Value {
        let wanted = |name: &String| self.fill != Fill::Required || object.required.contains(name);
        let properties = object.properties.iter().filter(|(name, _)| wanted(name));
        Value::Object(
            properties.map(|(name, schema)| (name.clone(), self.value(name, schema))).collect::<Map<_, _>>(),
        )
    }

    fn value(&self, name: &str, schema: &Schema) -> Value {
        match schema {
            Schema::Object(object) => self.object(object),
            Schema::Array(array) => json!([self.value(name, &array.items)]),
            Schema::String(string) => self.string(name, string).into(),
            Schema::Integer(integer) => integer.maximum.unwrap_or(7).max(integer.minimum.unwrap_or(7)).into(),
            Schema::Boolean(_) => true.into(),
            Schema::Bytes(_) => json!({"$bytes": "aGVsbG8"}),
            Schema::Blob(blob) => json!({
                "$type": "blob",
                "ref": {"$link": "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy"},
                "mimeType": blob.accept.first().map_or("text/plain", |mime| mime),
                "size": 5,
            }),
            Schema::Unknown => json!({"key": "value"}),
            Schema::Ref(target) => match target.r#ref.split_once('#') {
                None => self.def(&target.r#ref, "main"),
                Some(("", name)) => self.def(&self.nsid, name),
                Some((nsid, name)) => self.def(nsid, name),
            },
            Schema::CidLink | Schema::Union(_) | Schema::Token => unreachable!("our lexicons have none"),
        }
    }

    fn string(&self, name: &str, schema: &StringSchema) -> String {
        use super::format::Format;
        let max = schema.max_length.unwrap_or(40);
        let long = |prefix: &str| format!("{prefix}{}", "a".repeat(max - prefix.len()));
        let longest = self.fill == Fill::Longest;
        if let Some(text) = &schema.r#const {
            return text.clone();
        }
        if let Some(format) = schema.format {
            return match format {
                Format::AtUri => format!("at://did:plc:bob/io.atcr.manifest/{HEX}"),
                Format::Datetime => "2026-08-01T12:00:00.123456789+02:00".into(),
                Format::Did => "did:web:hold.example.com%3A8080".into(),
                Format::Uri => "https://hold.example.com/x?y=z".into(),
                Format::Cid => "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy".into(),
                other => unreachable!("our lexicons have no {}", other.name()),
            };
        }
        match name {
            "digest" | "manifestDigest" if longest && max == 135 => format!("sha512:{HEX}{HEX}"),
            "digest" | "manifestDigest" => format!("sha256:{HEX}"),
            // A name of the registry has at most 255 bytes, whatever a lexicon allows.
            "repository" if longest => "a".repeat(255),
            "repository" => "tools/app".into(),
            "mediaType" if longest && max > 255 => format!("a/{}", "a".repeat(253)),
            "mediaType" if longest => long("a/"),
            "mediaType" => "application/vnd.oci.image.manifest.v1+json".into(),
            "method" | "digestAlgorithm" => if name == "method" { "POST" } else { "sha512" }.into(),
            "tag" if longest => long("v"),
            _ => match schema.known_values.last() {
                Some(known) if !longest => known.clone(),
                _ if longest => long(""),
                _ => "text".into(),
            },
        }
    }
}

fn reads_and_writes<T: Serialize + DeserializeOwned>(what: &str, example: &Value, is_whole: bool) -> Value {
    let read: T = serde_json::from_value(example.clone())
        .unwrap_or_else(|error| panic!("{what} does not read {example}: {error}"));
    let written = serde_json::to_value(&read).unwrap();
    if is_whole {
        assert_eq!(written, *example, "{what} changes or loses a field of its lexicon");
    }
    written
}

/// The type reads what its lexicon describes, loses no property of it, and what it writes fits.
pub(crate) fn check_record<T: Record>() {
    let nsid = T::collection();
    for fill in [Fill::Whole, Fill::Required, Fill::Longest] {
        let example = Maker { nsid: T::NSID.into(), fill }.def(T::NSID, "main");
        Lexicons::builtin().validate_record(&nsid, &example).unwrap();
        let written = reads_and_writes::<T>(T::NSID, &example, fill != Fill::Required);
        let fits = Lexicons::builtin().validate_record(&nsid, &written);
        assert_eq!(fits, Ok(()), "{nsid} writes {written}");
    }
}

/// The same of a method's parameters, input, output and errors.
pub(crate) fn check_method<M: Method>() {
    type Validate = fn(&Lexicons, &Nsid, &Value) -> Result<(), LexiconError>;
    fn check<T: Serialize + DeserializeOwned>(
        nsid: &Nsid,
        what: &str,
        fill: Fill,
        make: impl Fn(&Maker) -> Option<Value>,
        validate: Validate,
    ) {
        let maker = Maker { nsid: nsid.as_str().to_owned(), fill };
        let Some(example) = make(&maker) else { return };
        let what = format!("the {what} of {nsid}");
        validate(Lexicons::builtin(), nsid, &example).unwrap_or_else(|error| panic!("{what}: {error}"));
        let written = reads_and_writes::<T>(&what, &example, fill != Fill::Required);
        assert_eq!(validate(Lexicons::builtin(), nsid, &written), Ok(()), "{what} is written as {written}");
    }

    let nsid = M::nsid();
    let method = Lexicons::builtin().method(&nsid).unwrap();
    assert_eq!(method.kind, M::KIND, "{nsid}");
    let declared: Vec<&str> = method.errors.iter().map(|error| &*error.name).collect();
    assert_eq!(M::ERRORS, declared, "{nsid}");
    for fill in [Fill::Whole, Fill::Required, Fill::Longest] {
        let body = |maker: &Maker, body: &Option<super::schema::Body>| {
            Some(maker.value("", body.as_ref()?.schema.as_ref()?))
        };
        let params = |maker: &Maker| Some(maker.object(method.parameters.as_ref()?));
        check::<M::Params>(&nsid, "parameters", fill, params, Lexicons::validate_params);
        check::<M::Input>(&nsid, "input", fill, |m| body(m, &method.input), Lexicons::validate_input);
        check::<M::Output>(&nsid, "output", fill, |m| body(m, &method.output), Lexicons::validate_output);
        if M::KIND == MethodKind::Subscription {
            for name in ["scanJob", "scanResult"] {
                let example = Maker { nsid: M::NSID.into(), fill }.def(M::NSID, name);
                let written = reads_and_writes::<M::Output>(name, &example, fill != Fill::Required);
                assert_eq!(Lexicons::builtin().validate_def(&nsid, name, &written), Ok(()), "{written}");
            }
        }
    }
}
