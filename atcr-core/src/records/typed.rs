//! Records carry their collection in `$type`: written first, checked where it is read.

use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

/// Defines a record: the struct, its [`Record`](super::Record) and serde implementations, fields in camel case.
///
/// The derived implementations live on a private twin, so that there is no way around the check of `$type`.
macro_rules! record {
    (
        $nsid:literal;
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])* $(#[serde($($attr:tt)*)])* pub $field:ident: $type:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        const _: () = {
            type Target = $name;

            #[derive(::serde::Serialize, ::serde::Deserialize)]
            #[serde(remote = "Target", rename = $nsid, tag = "$type", rename_all = "camelCase")]
            struct Wire {
                $( $(#[serde($($attr)*)])* $field: $type, )*
            }

            impl ::serde::Serialize for Target {
                fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    Wire::serialize(self, serializer)
                }
            }

            impl<'de> ::serde::Deserialize<'de> for Target {
                fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    Wire::deserialize($crate::records::typed::Typed { inner: deserializer, nsid: $nsid })
                }
            }

            impl $crate::records::Record for Target {
                const NSID: &'static str = $nsid;
            }
        };
    };
}
pub(super) use record;

/// A deserializer of a struct that takes `$type` out of the map and refuses one that is not `nsid`.
pub(super) struct Typed<D> {
    pub(super) inner: D,
    pub(super) nsid: &'static str,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Typed<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(TypedVisitor { visitor, nsid: self.nsid })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct TypedVisitor<V> {
    visitor: V,
    nsid: &'static str,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for TypedVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a record of {}", self.nsid)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(TypedMap { map, nsid: self.nsid })
    }
}

struct TypedMap<A> {
    map: A,
    nsid: &'static str,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TypedMap<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key != "$type" {
                return seed.deserialize(StringDeserializer::new(key)).map(Some);
            }
            let found: String = self.map.next_value()?;
            if found != self.nsid {
                let found: String = found.chars().take(128).collect();
                return Err(A::Error::custom(format_args!("a record of {found:?}, not of {}", self.nsid)));
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
