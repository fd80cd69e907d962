//! Declarations as TOML: what `infer` prints, what the stored catalog has, and what parsing gives back the same.

use toml::{Table, Value};

use super::rollup::{Rollup, WINDOW_ROWS_MAX, is_implied};
use super::{FieldDeclaration, FieldType, RecordFormat, StreamDeclaration, Unique, UnknownFields};
use crate::limits::STRING_BYTES_MAX;
use crate::units::format_duration;

impl StreamDeclaration {
    /// The declaration's section, without the version.
    #[must_use]
    pub fn to_table(&self) -> Table {
        let mut table = Table::new();
        let mut add = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
        if !self.description.is_empty() {
            add("description", self.description.clone().into());
        }
        if !self.routes.is_empty() {
            add("routes", self.routes.clone().into());
        }
        if let Some(time) = &self.time {
            add("time", time.clone().into());
        }
        match (&self.unique, &self.key) {
            (Some(unique), _) => {
                add("unique", unique.field.clone().into());
                add("unique_window", format_duration(unique.window).into());
                if unique.ids_max != Unique::IDS_MAX {
                    add("unique_ids_max", (unique.ids_max as i64).into());
                }
            }
            (None, Some(key)) => add("key", key.clone().into()),
            (None, None) => {}
        }
        match self.unknown_fields {
            UnknownFields::Reject => {}
            UnknownFields::Keep => add("unknown_fields", "keep".into()),
            UnknownFields::Ignore => add("unknown_fields", "ignore".into()),
        }
        if let Some(topic) = &self.topic {
            add("topic", topic.clone().into());
        }
        match self.format {
            RecordFormat::Record => {}
            RecordFormat::Json => add("format", "json".into()),
        }
        if let Some(retention) = self.retention {
            add("retention", format_duration(retention).into());
        }
        if let Some(rollup) = &self.rollup {
            add("rollup", rollup.to_table().into());
        }
        let written = |field: &&FieldDeclaration| self.rollup.is_none() || !is_implied(&field.name);
        let fields: Table = self
            .fields
            .iter()
            .filter(written)
            .map(|field| (field.name.clone(), field.to_value()))
            .collect();
        add("fields", fields.into());
        table
    }

    /// The declaration as a person would write it: one line a field.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut table = self.to_table();
        let fields = table.remove("fields");
        let mut text = format!("[streams.{}]\n", self.name);
        for (key, value) in &table {
            text += &format!("{key} = {value}\n");
        }
        text += &format!("\n[streams.{}.fields]\n", self.name);
        for (name, value) in fields.iter().filter_map(Value::as_table).flatten() {
            text += &format!("{name} = {value}\n");
        }
        text
    }
}

impl Rollup {
    fn to_table(&self) -> Table {
        let mut table = Table::new();
        let mut add = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
        add("from", self.from.as_str().into());
        add("every", format_duration(self.every).into());
        if self.rows != WINDOW_ROWS_MAX {
            add("rows", Value::Integer(self.rows.cast_signed()));
        }
        add("sql", self.sql.clone().into());
        if self.flush_on_stop {
            add("flush_on_stop", true.into());
        }
        if let Some(group) = &self.group {
            add("group", group.clone().into());
        }
        table
    }
}

impl FieldDeclaration {
    /// The short form when there is nothing but the type.
    fn to_value(&self) -> Value {
        let mut table = Table::new();
        let mut add = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
        add("type", self.kind.name().into());
        match &self.kind {
            FieldType::Int { min, max } => {
                if *min != i64::MIN {
                    add("min", (*min).into());
                }
                if *max != i64::MAX {
                    add("max", (*max).into());
                }
            }
            FieldType::Float { min, max } => {
                if *min != f64::MIN {
                    add("min", (*min).into());
                }
                if *max != f64::MAX {
                    add("max", (*max).into());
                }
            }
            FieldType::String { max_bytes } if *max_bytes != STRING_BYTES_MAX => {
                add("max_bytes", (*max_bytes as i64).into());
            }
            FieldType::Enum { values } => add("values", values.clone().into()),
            FieldType::Timestamp { unit: Some(unit) } => add("unit", unit.as_str().into()),
            _ => {}
        }
        if self.optional {
            add("optional", true.into());
        }
        if !self.description.is_empty() {
            add("description", self.description.clone().into());
        }
        if self.path != [self.name.clone()] {
            let dotted = self.path.iter().any(|key| key.contains('.'));
            add(
                "from",
                if dotted {
                    self.path.clone().into()
                } else {
                    self.path.join(".").into()
                },
            );
        }
        if table.len() == 1 {
            self.kind.name().into()
        } else {
            table.into()
        }
    }
}
