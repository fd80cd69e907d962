//! What is JSON by the one rule: serde_json, and what it does not judge.

use std::collections::BTreeSet;
use std::fmt;

use event::limits::JSON_DEPTH_MAX;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The members of an object that is JSON by the one rule, as texts.
pub(crate) fn members(text: &str) -> Option<Map<String, Value>> {
    let strict: Strict = serde_json::from_str(text).ok()?;
    object_of(text).filter(|_| strict.depth <= JSON_DEPTH_MAX)
}

/// The members of an object as texts; numbers of any size stay as they are.
pub(crate) fn object_of(text: &str) -> Option<Map<String, Value>> {
    let raw: std::collections::BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
    Some(
        raw.into_iter()
            .map(|(key, raw)| (key, Value::String(raw.get().trim().to_owned())))
            .collect(),
    )
}

/// Accepts what serde_json accepts without duplicate keys, and measures its depth; numbers may have any size.
struct Strict {
    depth: usize,
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde_json refuses numbers beyond f64, whose range is nobody's business here, so numbers are read raw.
        let raw = <&RawValue>::deserialize(deserializer)?;
        let text = raw.get().trim();
        match text.as_bytes().first() {
            Some(b'{' | b'[') => serde_json::Deserializer::from_str(text)
                .deserialize_any(Members)
                .map_err(Error::custom),
            // `RawValue` passes over strings; this looks at their surrogates.
            Some(b'"') => serde_json::from_str::<String>(text)
                .map(|_| Self { depth: 0 })
                .map_err(Error::custom),
            _ => Ok(Self { depth: 0 }),
        }
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut depth = 0;
        while let Some(item) = items.next_element::<Strict>()? {
            depth = depth.max(item.depth);
        }
        Ok(Strict { depth: depth + 1 })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
        let (mut depth, mut keys) = (0, BTreeSet::new());
        while let Some((key, value)) = members.next_entry::<String, Strict>()? {
            depth = depth.max(value.depth);
            if !keys.insert(key) {
                return Err(Error::custom("duplicate key"));
            }
        }
        Ok(Strict { depth: depth + 1 })
    }
}
