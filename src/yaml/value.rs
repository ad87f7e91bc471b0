//! Shapes that raw structs are made of.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_saphyr::Spanned;

/// For `#[serde(default, deserialize_with = "null_is_default")]`: a null leaves the default, as in Go.
///
/// # Errors
/// Those of `T`.
pub fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A mapping with free keys, in the order of the file, each key with its place. Unique keys are the parser's care.
#[derive(Clone, Debug)]
pub struct Pairs<V> {
    pub list: Vec<(Spanned<String>, V)>,
}

impl<V> Pairs<V> {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Spanned<String>, &V)> {
        self.list.iter().map(|(k, v)| (k, v))
    }
}

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Pairs { list: Vec::new() }
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    list.push(pair);
                }
                Ok(Pairs { list })
            }
        }

        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

/// A value as YAML text.
///
/// # Errors
/// When `value` has no YAML form.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|e| e.to_string())
}
