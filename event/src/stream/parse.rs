//! Declarations from TOML: everything that is wrong with them is reported at once, each with its key.

mod rollup;
mod types;
mod unique;

use std::collections::BTreeMap;
use std::time::Duration;

use toml::{Table, Value};

use super::rollup::{WINDOW_START, with_implied};
use super::{FieldDeclaration, FieldType, RecordFormat, StreamDeclaration, UnknownFields};
use crate::StreamName;
use crate::limits::{FIELDS_MAX, JSON_DEPTH_MAX, STREAMS_MAX};
use crate::name::check_name;
use crate::units::parse_duration;

/// One thing that is wrong with a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `streams.running.fields.duration.min`.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

/// Paths that no stream may take: the program's own.
const RESERVED_ROUTES: &[&str] = &[
    "/v1",
    "/livez",
    "/readyz",
    "/metrics",
    "/version",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/demo",
];

/// Most bytes of a topic's name: what Kafka allows.
const TOPIC_BYTES_MAX: usize = 249;

/// Shortest retention of a stream.
const RETENTION_MIN: Duration = Duration::from_secs(60);

const STREAM_KEYS: &[&str] = &[
    "description",
    "routes",
    "time",
    "key",
    "unique",
    "unique_window",
    "unique_ids_max",
    "unknown_fields",
    "topic",
    "format",
    "retention",
    "rollup",
    "fields",
];
const FIELD_KEYS: &[&str] = &[
    "type",
    "optional",
    "description",
    "from",
    "min",
    "max",
    "max_bytes",
    "values",
    "unit",
];

/// Reads the `[streams]` section of a configuration.
///
/// # Errors
/// Every [`Problem`], in the order of the keys.
pub fn parse_streams(streams: &Table) -> Result<Vec<StreamDeclaration>, Vec<Problem>> {
    let mut parser = Parser::default();
    let declared: Vec<_> = streams
        .iter()
        .filter_map(|(name, value)| parser.stream(name, value))
        .collect();
    if streams.len() > STREAMS_MAX {
        parser.problem(
            "streams",
            format!(
                "{} streams are declared, {STREAMS_MAX} are allowed",
                streams.len()
            ),
        );
    }
    parser.check_routes(&declared);
    parser.check_rollup_sources(&declared);
    if parser.problems.is_empty() {
        Ok(declared)
    } else {
        Err(parser.problems)
    }
}

#[derive(Default)]
struct Parser {
    problems: Vec<Problem>,
}

/// A table's values with the key that leads to them; each must be asked for, or it is unknown.
struct Section<'a> {
    key: String,
    table: &'a Table,
}

impl Section<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }
}

impl Parser {
    fn problem(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            key: key.into(),
            message: message.into(),
        });
    }

    fn stream(&mut self, name: &str, value: &Value) -> Option<StreamDeclaration> {
        let key = format!("streams.{name}");
        let parsed = StreamName::parse(name)
            .map_err(|error| self.problem(&key, error.to_string()))
            .ok();
        let Some(table) = value.as_table() else {
            self.problem(&key, "a stream is a section: write `[streams.NAME]`");
            return None;
        };
        let section = Section { key, table };
        self.unknown_keys(&section, STREAM_KEYS);
        let mut fields = self.fields(&section);
        let mut time = self.text(&section, "time");
        let rollup = self.rollup(&section);
        if rollup.is_some() {
            self.check_rollup_fields(&section, &fields);
            fields = with_implied(fields);
            time = time.or_else(|| Some(WINDOW_START.to_owned()));
        }
        let unknown_fields = match self.text(&section, "unknown_fields").as_deref() {
            None | Some("reject") => UnknownFields::Reject,
            Some("keep") => UnknownFields::Keep,
            Some("ignore") => UnknownFields::Ignore,
            Some(other) => {
                self.problem(
                    section.key("unknown_fields"),
                    format!("`{other}` is not one of reject, keep, ignore"),
                );
                UnknownFields::Reject
            }
        };
        let format = match self.text(&section, "format").as_deref() {
            None | Some("record") => RecordFormat::Record,
            Some("json") => RecordFormat::Json,
            Some(other) => {
                let message = format!("`{other}` is not one of record, json");
                self.problem(section.key("format"), message);
                RecordFormat::Record
            }
        };
        let retention = self.text(&section, "retention").and_then(|text| {
            let retention = parse_duration(&text).map_err(|error| error.to_string());
            let retention = retention.and_then(|retention| match retention {
                // Whole files go, and a file is open for up to a minute: less would be a promise nobody can keep.
                short if short < RETENTION_MIN => Err(format!("`{text}` is less than a minute")),
                retention => Ok(retention),
            });
            retention
                .map_err(|message| self.problem(section.key("retention"), message))
                .ok()
        });
        let unique = self.unique(&section, &fields, retention);
        let key = self.key(&section, unique.as_ref());
        let declaration = StreamDeclaration {
            name: parsed?,
            version: 1,
            description: self.text(&section, "description").unwrap_or_default(),
            routes: self.texts(&section, "routes"),
            time,
            key,
            unique,
            unknown_fields,
            topic: self.text(&section, "topic"),
            format,
            retention,
            rollup,
            fields,
        };
        self.check_references(&section, &declaration);
        self.check_rollup(&section, &declaration);
        Some(declaration)
    }

    fn check_references(&mut self, section: &Section<'_>, stream: &StreamDeclaration) {
        if let Some(time) = &stream.time {
            let fits = |field: &FieldDeclaration| {
                !field.optional && matches!(field.kind, FieldType::Timestamp { .. })
            };
            if !stream.field(time).is_some_and(fits) {
                self.problem(
                    section.key("time"),
                    format!("`{time}` is not a required field of type timestamp"),
                );
            }
        }
        if let Some(topic) = &stream.topic {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let fits = (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic.bytes().all(plain);
            if !fits || topic == "." || topic == ".." {
                let allowed =
                    format!("`{topic}` must have 1 to {TOPIC_BYTES_MAX} letters, digits and ._- only");
                self.problem(section.key("topic"), allowed);
            }
        }
        if let (Some(name), None) = (&stream.key, &stream.unique) {
            let fits =
                |field: &FieldDeclaration| !matches!(field.kind, FieldType::Json | FieldType::Float { .. });
            if !stream.field(name).is_some_and(fits) {
                self.problem(
                    section.key("key"),
                    format!("`{name}` is not a field that can be a key: any but json and float"),
                );
            }
        }
    }

    fn check_routes(&mut self, streams: &[StreamDeclaration]) {
        let mut taken: BTreeMap<&str, &StreamName> = BTreeMap::new();
        for stream in streams {
            for route in &stream.routes {
                let key = format!("streams.{}.routes", stream.name);
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
                let reserved = RESERVED_ROUTES.iter().any(|own| {
                    route == own || route.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'))
                });
                if !route.starts_with('/') || route.len() < 2 || !route.bytes().all(plain) {
                    self.problem(
                        &key,
                        format!("`{route}` must begin with `/` and have letters, digits and -_.~/ only"),
                    );
                } else if reserved {
                    self.problem(&key, format!("`{route}` is one of the program's own paths"));
                }
                if let Some(other) = taken.insert(route, &stream.name) {
                    self.problem(&key, format!("`{route}` is a route of stream `{other}` already"));
                }
            }
        }
    }

    fn fields(&mut self, section: &Section<'_>) -> Vec<FieldDeclaration> {
        let key = section.key("fields");
        let Some(fields) = section
            .table
            .get("fields")
            .and_then(Value::as_table)
            .filter(|fields| !fields.is_empty())
        else {
            self.problem(key, "a stream needs at least one field");
            return Vec::new();
        };
        if fields.len() > FIELDS_MAX {
            self.problem(
                &key,
                format!("{} fields are declared, {FIELDS_MAX} are allowed", fields.len()),
            );
        }
        fields
            .iter()
            .filter_map(|(name, value)| self.field(format!("{key}.{name}"), name, value))
            .collect()
    }

    fn field(&mut self, key: String, name: &str, value: &Value) -> Option<FieldDeclaration> {
        if let Err(error) = check_name(name) {
            self.problem(&key, error.to_string());
        }
        let short;
        let table = match value {
            Value::String(_) => {
                short = Table::from_iter([("type".to_owned(), value.clone())]);
                &short
            }
            Value::Table(table) => table,
            _ => {
                self.problem(
                    key,
                    "a field is a type's name or a table: `{ type = \"int\", optional = true }`",
                );
                return None;
            }
        };
        let section = Section { key, table };
        self.unknown_keys(&section, FIELD_KEYS);
        let kind = self.kind(&section)?;
        let path = self.path(&section, name);
        Some(FieldDeclaration {
            name: name.to_owned(),
            kind,
            optional: self.boolean(&section, "optional"),
            description: self.text(&section, "description").unwrap_or_default(),
            path,
        })
    }

    /// Where the value lies: `from = "metadata.page_url"`, or a list where a key itself has a dot.
    fn path(&mut self, section: &Section<'_>, name: &str) -> Vec<String> {
        let path = match section.table.get("from") {
            None => vec![name.to_owned()],
            Some(Value::String(path)) => path.split('.').map(str::to_owned).collect(),
            Some(_) => self.texts(section, "from"),
        };
        if path.is_empty() || path.iter().any(String::is_empty) || path.len() >= JSON_DEPTH_MAX {
            let message = format!(
                "it must name 1 to {} keys, none of them empty",
                JSON_DEPTH_MAX - 1
            );
            self.problem(section.key("from"), message);
        }
        path
    }

    fn unknown_keys(&mut self, section: &Section<'_>, known: &[&str]) {
        for name in section
            .table
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
        {
            self.problem(
                section.key(name),
                format!("unknown key, known are {}{}", known.join(", "), hint(name, known)),
            );
        }
    }

    fn text(&mut self, section: &Section<'_>, name: &str) -> Option<String> {
        match section.table.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => {
                self.problem(section.key(name), format!("`{other}` is not a text"));
                None
            }
        }
    }

    fn boolean(&mut self, section: &Section<'_>, name: &str) -> bool {
        match section.table.get(name) {
            None => false,
            Some(Value::Boolean(value)) => *value,
            Some(other) => {
                self.problem(section.key(name), format!("`{other}` is not true or false"));
                false
            }
        }
    }

    fn texts(&mut self, section: &Section<'_>, name: &str) -> Vec<String> {
        let Some(value) = section.table.get(name) else {
            return Vec::new();
        };
        let texts = value
            .as_array()
            .map(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect());
        let texts: Option<Vec<String>> = texts.flatten();
        if texts.is_none() {
            self.problem(section.key(name), format!("`{value}` is not a list of texts"));
        }
        texts.unwrap_or_default()
    }
}

/// ", did you mean `x`?" when a known word begins alike.
fn hint(written: &str, known: &[&str]) -> String {
    let alike = |word: &&&str| {
        word.bytes()
            .zip(written.bytes())
            .take_while(|(a, b)| a == b)
            .count()
            >= 3.min(word.len())
    };
    known
        .iter()
        .find(alike)
        .map_or_else(String::new, |word| format!("; did you mean `{word}`?"))
}
