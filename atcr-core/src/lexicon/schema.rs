//! The JSON of a lexicon (specification, Lexicon).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::LexiconError;
use super::format::Format;
use crate::methods::MethodKind;
use crate::syntax::Nsid;

/// One lexicon.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) id: Nsid,
    pub(super) defs: BTreeMap<String, Def>,
}

/// One definition of a lexicon.
#[derive(Debug)]
pub(super) enum Def {
    Record { record: ObjectSchema },
    Method(Box<MethodDef>),
    PermissionSet,
    Schema(Schema),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordDef {
    #[serde(rename = "description", default)]
    _description: Option<String>,
    #[serde(rename = "key")]
    _key: String,
    record: Object,
}

/// `{"type": "object", …}`, the type spelled out.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Object {
    Object(ObjectSchema),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Params {
    Params(ObjectSchema),
}

/// A query, a procedure or a subscription.
#[derive(Debug)]
pub(super) struct MethodDef {
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) kind: MethodKind,
    pub(super) parameters: Option<ObjectSchema>,
    pub(super) input: Option<Body>,
    pub(super) output: Option<Body>,
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) errors: Vec<ErrorDef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MethodJson {
    #[serde(rename = "description", default)]
    _description: Option<String>,
    #[serde(default)]
    parameters: Option<Params>,
    #[serde(default)]
    input: Option<Body>,
    #[serde(default)]
    output: Option<Body>,
    #[serde(rename = "message", default)]
    _message: Option<Message>,
    #[serde(default)]
    errors: Vec<ErrorDef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorDef {
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) name: String,
    #[serde(rename = "description", default)]
    _description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    #[serde(rename = "description", default)]
    _description: Option<String>,
    #[serde(rename = "encoding")]
    _encoding: String,
    #[serde(default)]
    pub(super) schema: Option<Schema>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(rename = "description", default)]
    _description: Option<String>,
    #[serde(rename = "schema")]
    _schema: Schema,
}

/// The schema of a value.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum Schema {
    Object(ObjectSchema),
    Array(ArraySchema),
    String(StringSchema),
    Integer(IntegerSchema),
    Boolean(BooleanSchema),
    Bytes(BytesSchema),
    CidLink,
    Blob(BlobSchema),
    Ref(RefSchema),
    Union(UnionSchema),
    Unknown,
    Token,
}

macro_rules! schemas {
    ($( $name:ident { $( $(#[$attr:meta])* $field:ident: $type:ty, )* } )*) => {$(
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(super) struct $name {
            #[serde(rename = "description", default)]
            _description: Option<String>,
            $( $(#[$attr])* pub(super) $field: $type, )*
        }
    )*};
}

schemas! {
    ObjectSchema {
        #[serde(default)]
        required: Vec<String>,
        #[serde(default)]
        nullable: BTreeSet<String>,
        #[serde(default)]
        properties: BTreeMap<String, Schema>,
    }
    ArraySchema {
        items: Box<Schema>,
        min_length: Option<usize>,
        max_length: Option<usize>,
    }
    StringSchema {
        format: Option<Format>,
        min_length: Option<usize>,
        max_length: Option<usize>,
        min_graphemes: Option<usize>,
        max_graphemes: Option<usize>,
        r#enum: Option<Vec<String>>,
        r#const: Option<String>,
        #[serde(default)]
        #[cfg_attr(not(test), allow(dead_code))]
        known_values: Vec<String>,
        #[serde(rename = "default")]
        _default: Option<String>,
    }
    IntegerSchema {
        minimum: Option<i64>,
        maximum: Option<i64>,
        r#enum: Option<Vec<i64>>,
        r#const: Option<i64>,
        #[serde(rename = "default")]
        _default: Option<i64>,
    }
    BooleanSchema {
        r#const: Option<bool>,
        #[serde(rename = "default")]
        _default: Option<bool>,
    }
    BytesSchema {
        min_length: Option<usize>,
        max_length: Option<usize>,
    }
    BlobSchema {
        #[serde(default)]
        accept: Vec<String>,
        max_size: Option<u64>,
    }
    RefSchema {
        r#ref: String,
    }
    UnionSchema {
        refs: Vec<String>,
        #[serde(default)]
        closed: bool,
    }
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, LexiconError> {
        #[derive(Deserialize)]
        struct Json {
            lexicon: u8,
            id: Nsid,
            defs: BTreeMap<String, Value>,
        }
        let bad = |reason: String| LexiconError::Document(reason);
        let Json { lexicon, id, defs } = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if lexicon != 1 {
            return Err(bad(format!("{id} has version {lexicon}; only 1 is known")));
        }
        let mut parsed = BTreeMap::new();
        for (name, value) in defs {
            let def = Def::parse(value).map_err(|reason| bad(format!("{id}#{name}: {reason}")))?;
            if name != "main" && !matches!(def, Def::Schema(_)) {
                return Err(bad(format!("{id}#{name}: only main is a record, a method or a permission set")));
            }
            if let Def::Schema(Schema::Ref(_) | Schema::Union(_) | Schema::Unknown) = def {
                return Err(bad(format!("{id}#{name}: a definition is a type of its own")));
            }
            parsed.insert(name, def);
        }
        Ok(Self { id, defs: parsed })
    }
}

impl Def {
    fn parse(mut value: Value) -> Result<Self, String> {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_primary =
            matches!(&*kind, "record" | "query" | "procedure" | "subscription" | "permission-set");
        if is_primary && let Some(map) = value.as_object_mut() {
            map.remove("type");
        }
        let text = |e: serde_json::Error| e.to_string();
        Ok(match &*kind {
            "record" => {
                let RecordDef { record: Object::Object(record), .. } =
                    serde_json::from_value(value).map_err(text)?;
                Self::Record { record }
            }
            "query" | "procedure" | "subscription" => {
                let kind = match &*kind {
                    "query" => MethodKind::Query,
                    "procedure" => MethodKind::Procedure,
                    _ => MethodKind::Subscription,
                };
                let json: MethodJson = serde_json::from_value(value).map_err(text)?;
                Self::Method(Box::new(MethodDef {
                    kind,
                    parameters: json.parameters.map(|Params::Params(object)| object),
                    input: json.input,
                    output: json.output,
                    errors: json.errors,
                }))
            }
            "permission-set" => Self::PermissionSet,
            _ => Self::Schema(serde_json::from_value(value).map_err(text)?),
        })
    }
}
