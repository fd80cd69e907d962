//! `unique`, `unique_window` and `unique_ids_max` of a stream, and the `key` that follows from them.

use std::time::Duration;

use toml::Value;

use super::{Parser, Section};
use crate::stream::{FieldDeclaration, FieldType, Unique};
use crate::units::{format_duration, parse_duration};

/// Shortest window: a client's second try comes later than that.
const WINDOW_MIN: Duration = Duration::from_secs(1);
/// Longest window: what is longer belongs into a database.
const WINDOW_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Fewest ids: less is no window but an accident.
const IDS_MIN: usize = 1_000;
/// Most ids of one partition, some gigabytes of memory.
const IDS_LIMIT: usize = 50_000_000;

impl Parser {
    /// What a stream says about ids that must not be stored twice.
    pub(super) fn unique(
        &mut self,
        section: &Section<'_>,
        fields: &[FieldDeclaration],
        retention: Option<Duration>,
    ) -> Option<Unique> {
        let field = self.text(section, "unique");
        let window = self.unique_window(section, retention);
        let ids_max = self.unique_ids_max(section);
        let Some(field) = field else {
            for name in ["unique_window", "unique_ids_max"] {
                if section.table.contains_key(name) {
                    self.problem(
                        section.key(name),
                        "it says something about `unique`, which is absent",
                    );
                }
            }
            return None;
        };
        let fits = |found: &&FieldDeclaration| {
            found.name == field
                && !found.optional
                && matches!(
                    found.kind,
                    FieldType::String { .. } | FieldType::Uuid | FieldType::Int { .. }
                )
        };
        if !fields.iter().any(|found| fits(&found)) {
            let message = format!("`{field}` is not a required field of type string, uuid or int");
            self.problem(section.key("unique"), message);
        }
        Some(Unique {
            field,
            window,
            ids_max,
        })
    }

    /// The key of a stream: the field whose values are unique, so that equal ones meet in one partition.
    pub(super) fn key(&mut self, section: &Section<'_>, unique: Option<&Unique>) -> Option<String> {
        let key = self.text(section, "key");
        let Some(unique) = unique else {
            return key;
        };
        if let Some(key) = key.filter(|key| *key != unique.field) {
            let message = format!(
                "`{key}` cannot be the key of a stream that is unique by `{}`: equal ids must meet in one partition, \
                 so leave `key` out",
                unique.field
            );
            self.problem(section.key("key"), message);
        }
        Some(unique.field.clone())
    }

    fn unique_window(&mut self, section: &Section<'_>, retention: Option<Duration>) -> Duration {
        let key = section.key("unique_window");
        let longest = retention.unwrap_or(WINDOW_MAX).min(WINDOW_MAX);
        let default = Unique::WINDOW.min(longest);
        let Some(text) = self.text(section, "unique_window") else {
            return default;
        };
        match parse_duration(&text) {
            Ok(window) if (WINDOW_MIN..=longest).contains(&window) => return window,
            Ok(window) if window > longest && retention.is_some() => {
                let message = format!(
                    "`{text}` is longer than `retention`, {}: what is removed is not known any more",
                    format_duration(longest)
                );
                self.problem(key, message);
            }
            Ok(_) => {
                let (min, max) = (format_duration(WINDOW_MIN), format_duration(WINDOW_MAX));
                self.problem(key, format!("`{text}` is not between {min} and {max}"));
            }
            Err(error) => self.problem(key, error.to_string()),
        }
        default
    }

    fn unique_ids_max(&mut self, section: &Section<'_>) -> usize {
        let Some(value) = section.table.get("unique_ids_max") else {
            return Unique::IDS_MAX;
        };
        let number = value.as_integer().and_then(|number| usize::try_from(number).ok());
        match number.filter(|number| (IDS_MIN..=IDS_LIMIT).contains(number)) {
            Some(number) => number,
            None => {
                let shown = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let message = format!("`{shown}` is not a number from {IDS_MIN} to {IDS_LIMIT}");
                self.problem(section.key("unique_ids_max"), message);
                Unique::IDS_MAX
            }
        }
    }
}
