//! The type of a field and what belongs to it: bounds, lengths, listed values, units.

use std::collections::BTreeSet;

use toml::Value;

use super::{Parser, Section, hint};
use crate::limits::{ENUM_VALUES_MAX, LINE_BYTES_MAX, STRING_BYTES_MAX};
use crate::stream::{FieldType, TimeUnit};
use crate::units::parse_bytes;

const TYPES: &[&str] = &[
    "bool",
    "int",
    "float",
    "string",
    "enum",
    "uuid",
    "timestamp",
    "json",
];

impl Parser {
    pub(super) fn kind(&mut self, section: &Section<'_>) -> Option<FieldType> {
        let Some(name) = self.text(section, "type") else {
            self.problem(
                section.key("type"),
                format!("a field needs a type: one of {}", TYPES.join(", ")),
            );
            return None;
        };
        let options: &[&str] = match name.as_str() {
            "int" | "float" => &["min", "max"],
            "string" => &["max_bytes"],
            "enum" => &["values"],
            "timestamp" => &["unit"],
            _ => &[],
        };
        for option in ["min", "max", "max_bytes", "values", "unit"] {
            if section.table.contains_key(option) && !options.contains(&option) {
                self.problem(
                    section.key(option),
                    format!("a field of type {name} has no `{option}`"),
                );
            }
        }
        match name.as_str() {
            "bool" => Some(FieldType::Bool),
            "int" => Some(self.int(section)),
            "float" => Some(self.float(section)),
            "string" => Some(self.string(section)),
            "enum" => Some(self.listed(section)),
            "uuid" => Some(FieldType::Uuid),
            "timestamp" => Some(self.timestamp(section)),
            "json" => Some(FieldType::Json),
            other => {
                let hint = hint(other, TYPES);
                self.problem(
                    section.key("type"),
                    format!("`{other}` is not one of {}{hint}", TYPES.join(", ")),
                );
                None
            }
        }
    }

    fn int(&mut self, section: &Section<'_>) -> FieldType {
        let mut bound = |name: &str, default: i64| match section.table.get(name) {
            None => default,
            Some(Value::Integer(bound)) => *bound,
            Some(other) => {
                self.problem(
                    section.key(name),
                    format!("`{other}` is not an integer of 64 bits"),
                );
                default
            }
        };
        let (min, max) = (bound("min", i64::MIN), bound("max", i64::MAX));
        if min > max {
            self.problem(
                section.key("min"),
                format!("{min} is larger than the maximum {max}"),
            );
        }
        FieldType::Int { min, max }
    }

    fn float(&mut self, section: &Section<'_>) -> FieldType {
        let mut bound = |name: &str, default: f64| match section.table.get(name) {
            None => default,
            Some(Value::Float(bound)) if bound.is_finite() => *bound,
            Some(Value::Integer(bound)) => *bound as f64,
            Some(other) => {
                self.problem(section.key(name), format!("`{other}` is not a finite number"));
                default
            }
        };
        let (min, max) = (bound("min", f64::MIN), bound("max", f64::MAX));
        if min > max {
            self.problem(
                section.key("min"),
                format!("{min} is larger than the maximum {max}"),
            );
        }
        FieldType::Float { min, max }
    }

    /// `max_bytes` is a number of bytes, or a text with a unit.
    fn string(&mut self, section: &Section<'_>) -> FieldType {
        let bytes = match section.table.get("max_bytes") {
            None => Some(STRING_BYTES_MAX as u64),
            Some(Value::Integer(bytes)) => u64::try_from(*bytes).ok(),
            Some(Value::String(text)) => parse_bytes(text).ok(),
            Some(_) => None,
        };
        let bytes = bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .filter(|bytes| (1..=LINE_BYTES_MAX).contains(bytes));
        if bytes.is_none() {
            let allowed = format!("it must be a size from 1 to {LINE_BYTES_MAX} bytes, as 512 or \"64KiB\"");
            self.problem(section.key("max_bytes"), allowed);
        }
        FieldType::String {
            max_bytes: bytes.unwrap_or(STRING_BYTES_MAX),
        }
    }

    fn listed(&mut self, section: &Section<'_>) -> FieldType {
        let values = self.texts(section, "values");
        let unique: BTreeSet<_> = values.iter().collect();
        if values.is_empty() || values.len() > ENUM_VALUES_MAX || unique.len() < values.len() {
            let message = format!(
                "an enum lists 1 to {ENUM_VALUES_MAX} different texts, here {}",
                values.len()
            );
            self.problem(section.key("values"), message);
        }
        FieldType::Enum { values }
    }

    fn timestamp(&mut self, section: &Section<'_>) -> FieldType {
        let unit = self.text(section, "unit").and_then(|unit| {
            let known = TimeUnit::ALL.into_iter().find(|known| known.as_str() == unit);
            if known.is_none() {
                self.problem(
                    section.key("unit"),
                    format!("`{unit}` is not one of s, ms, us; leave it out for RFC 3339 text"),
                );
            }
            known
        });
        FieldType::Timestamp { unit }
    }
}
