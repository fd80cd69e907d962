//! `[streams.NAME.rollup]`: from which stream, how long, which SQL.

use std::collections::BTreeSet;

use toml::Value;

use super::{Parser, Section};
use crate::StreamName;
use crate::stream::rollup::{Rollup, WINDOW_ROWS_MAX, WINDOW_SPAN, can_be_computed, is_implied};
use crate::stream::{FieldDeclaration, RecordFormat, StreamDeclaration, UnknownFields};
use crate::units::{format_duration, parse_duration};

const ROLLUP_KEYS: &[&str] = &["from", "every", "rows", "sql", "flush_on_stop", "group"];

impl Parser {
    /// The section of a stream, if it has one.
    pub(super) fn rollup(&mut self, stream: &Section<'_>) -> Option<Rollup> {
        let key = stream.key("rollup");
        let table = match stream.table.get("rollup")? {
            Value::Table(table) => table,
            _ => {
                self.problem(key, "is a section: write `[streams.NAME.rollup]`");
                return None;
            }
        };
        let section = Section { key, table };
        self.unknown_keys(&section, ROLLUP_KEYS);
        let from = self.required(&section, "from").and_then(|name| {
            let parsed = StreamName::parse(&name).map_err(|error| error.to_string());
            parsed
                .map_err(|message| self.problem(section.key("from"), message))
                .ok()
        });
        let [shortest, longest] = WINDOW_SPAN;
        let every = self.required(&section, "every").and_then(|text| {
            let every = parse_duration(&text).map_err(|error| error.to_string());
            let every = every.and_then(|every| match every {
                every if (shortest..=longest).contains(&every) => Ok(every),
                _ => Err(format!(
                    "`{text}` is not from {} to {}",
                    format_duration(shortest),
                    format_duration(longest)
                )),
            });
            every
                .map_err(|message| self.problem(section.key("every"), message))
                .ok()
        });
        let rows = match section.table.get("rows") {
            None => Some(WINDOW_ROWS_MAX),
            Some(value) => {
                let rows = value.as_integer().and_then(|rows| u64::try_from(rows).ok());
                let rows = rows.filter(|rows| (1..=WINDOW_ROWS_MAX).contains(rows));
                if rows.is_none() {
                    let message = format!("`{value}` is not a whole number from 1 to {WINDOW_ROWS_MAX}");
                    self.problem(section.key("rows"), message);
                }
                rows
            }
        };
        let sql = self.required(&section, "sql");
        Some(Rollup {
            from: from?,
            every: every?,
            rows: rows?,
            sql: sql?,
            flush_on_stop: self.boolean(&section, "flush_on_stop"),
            group: self.text(&section, "group").filter(|group| !group.is_empty()),
        })
    }

    fn required(&mut self, section: &Section<'_>, name: &str) -> Option<String> {
        if !section.table.contains_key(name) {
            self.problem(
                section.key(name),
                "is missing: a rollup needs `from`, `every` and `sql`",
            );
        }
        self.text(section, name)
    }

    /// What a stream cannot have when nobody sends its events.
    pub(super) fn check_rollup(&mut self, section: &Section<'_>, stream: &StreamDeclaration) {
        if stream.rollup.is_none() {
            return;
        }
        let forbidden = [
            ("routes", !stream.routes.is_empty()),
            ("key", stream.key.is_some()),
            ("unknown_fields", stream.unknown_fields != UnknownFields::Reject),
            ("format", stream.format != RecordFormat::Record),
        ];
        for (name, _) in forbidden.iter().filter(|(_, is_set)| *is_set) {
            self.problem(
                section.key(name),
                "a rollup has none: its events are computed, and nobody sends them",
            );
        }
    }

    /// What a declared field of a rollup cannot be.
    pub(super) fn check_rollup_fields(&mut self, section: &Section<'_>, fields: &[FieldDeclaration]) {
        for field in fields {
            let key = format!("{}.{}", section.key("fields"), field.name);
            if is_implied(&field.name) {
                self.problem(key, "every rollup has this field; choose another name");
            } else if !can_be_computed(&field.kind) || field.path != [field.name.clone()] {
                self.problem(
                    key,
                    "a rollup's field is of type bool, int, float, string or timestamp, without bounds, unit or `from`",
                );
            }
        }
    }

    /// Whether rollups have a source, and none is computed from itself.
    pub(super) fn check_rollup_sources(&mut self, streams: &[StreamDeclaration]) {
        let source = |name: &StreamName| {
            let stream = streams.iter().find(|stream| stream.name == *name)?;
            stream.rollup.as_ref().map(|rollup| &rollup.from)
        };
        for stream in streams {
            let Some(rollup) = &stream.rollup else { continue };
            let key = format!("streams.{}.rollup.from", stream.name);
            if streams.iter().all(|source| source.name != rollup.from) {
                self.problem(&key, format!("no stream `{}` is declared", rollup.from));
                continue;
            }
            let mut seen = BTreeSet::new();
            let mut next = Some(&stream.name);
            while let Some(name) = next {
                if !seen.insert(name) {
                    self.problem(&key, format!("`{}` is computed from itself", stream.name));
                    break;
                }
                next = source(name);
            }
        }
    }
}
