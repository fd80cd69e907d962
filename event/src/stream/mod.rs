//! Stream declarations: what an event of a stream looks like.
//!
//! A declaration alone yields validation ([`crate::decode`]), the Arrow schemas ([`crate::schema`]), the Delta
//! table, SQL DDL, routes and documentation, so nothing about a stream is written twice.

mod evolution;
pub mod infer;
mod parse;
mod print;
pub mod rollup;

pub use evolution::{ForbiddenChange, evolve};
pub use parse::{Problem, parse_streams};
pub use rollup::Rollup;

use std::time::Duration;

use crate::StreamName;

/// A declared event type.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamDeclaration {
    /// Its name; the table's name in SQL.
    pub name: StreamName,
    /// Rises by one with every change; 1 at first. Records carry it.
    pub version: u32,
    /// For people.
    pub description: String,
    /// Further paths that accept this stream, besides `/v1/streams/{name}/events`; each begins with `/`.
    pub routes: Vec<String>,
    /// The field that date ranges are about; `_received_at` when absent. Always a required `timestamp`.
    pub time: Option<String>,
    /// The field whose equal values stay in one partition.
    pub key: Option<String>,
    /// The field of which no value is stored twice; it is the key then.
    pub unique: Option<Unique>,
    /// What happens to fields that are not declared.
    pub unknown_fields: UnknownFields,
    /// The Kafka topic, where the journal is Kafka; the configured prefix and the name when absent.
    pub topic: Option<String>,
    /// What a Kafka message of this stream holds.
    pub format: RecordFormat,
    /// How long events are kept in the lake, for ever when absent.
    pub retention: Option<Duration>,
    /// How it is computed, when it is not sent by anybody.
    pub rollup: Option<Rollup>,
    /// The fields, in the order of their declaration, which is the order of columns.
    pub fields: Vec<FieldDeclaration>,
}

/// Says that of events with one id the first one in the journal counts, and no other; see [`crate::unique`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// The field that has the id: required, a string, a uuid or an int.
    pub field: String,
    /// For how long after its arrival an event's id is known in the lake and in queries. Databases know it for ever.
    pub window: Duration,
    /// Most ids that are known in one partition; beyond, the oldest are forgotten before their time.
    pub ids_max: usize,
}

impl Unique {
    /// The window when nothing is said: a client that tries again does so within minutes.
    pub const WINDOW: Duration = Duration::from_secs(3_600);
    /// The bound when nothing is said: some tens of megabytes a partition (see `benches/README.md`).
    pub const IDS_MAX: usize = 1_000_000;
}

/// What happens to fields of an event that are not declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// The line is rejected with `unknown_field`.
    #[default]
    Reject,
    /// They are kept in the JSON column `_extra`, as one object in the order in which they came.
    Keep,
    /// They are counted and left out.
    Ignore,
}

/// What a Kafka message of a stream holds. The embedded journal keeps records whatever a stream says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// One record ([`crate::record`]): up to a few thousand events as columns.
    #[default]
    Record,
    /// One event as a JSON object, with the key as the message's key. Other programs may read and fill the topic.
    Json,
}

/// One declared field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDeclaration {
    /// Its name, which is also the column's.
    pub name: String,
    /// Its type.
    pub kind: FieldType,
    /// Whether it may be absent or null.
    pub optional: bool,
    /// For people: unit, meaning.
    pub description: String,
    /// The keys that lead to the value from the event's top: `["metadata", "page_url"]`. Just the name, unless
    /// the declaration says `from`.
    pub path: Vec<String>,
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldType {
    /// `true` or `false`.
    Bool,
    /// A 64-bit integer within bounds that are both allowed.
    Int {
        /// Smallest allowed value.
        min: i64,
        /// Largest allowed value.
        max: i64,
    },
    /// A finite double within bounds that are both allowed.
    Float {
        /// Smallest allowed value.
        min: f64,
        /// Largest allowed value.
        max: f64,
    },
    /// Text.
    String {
        /// Most bytes of UTF-8.
        max_bytes: usize,
    },
    /// One of some listed texts.
    Enum {
        /// The texts.
        values: Vec<String>,
    },
    /// A UUID in its hyphenated form.
    Uuid,
    /// A moment: RFC 3339 text with a zone when there is no unit, else an integer since 1970.
    Timestamp {
        /// The integer's unit; text when absent.
        unit: Option<TimeUnit>,
    },
    /// Any JSON value, kept as its own text.
    Json,
}

/// The unit of an epoch timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
}

impl TimeUnit {
    /// Every unit.
    pub const ALL: [Self; 3] = [Self::Seconds, Self::Milliseconds, Self::Microseconds];

    /// Microseconds since 1970 in this unit; what is finer is cut off.
    #[must_use]
    pub fn of_micros(self, micros: i64) -> i64 {
        match self {
            Self::Seconds => micros.div_euclid(1_000_000),
            Self::Milliseconds => micros.div_euclid(1_000),
            Self::Microseconds => micros,
        }
    }

    /// As a declaration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
        }
    }
}

impl FieldType {
    /// As a declaration writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int { .. } => "int",
            Self::Float { .. } => "float",
            Self::String { .. } => "string",
            Self::Enum { .. } => "enum",
            Self::Uuid => "uuid",
            Self::Timestamp { .. } => "timestamp",
            Self::Json => "json",
        }
    }
}

impl StreamDeclaration {
    /// The streams that are there without a configuration.
    ///
    /// # Panics
    /// Never: a test reads what is compiled in.
    #[must_use]
    pub fn starters() -> Vec<Self> {
        let starters: toml::Table = include_str!("starter.toml")
            .parse()
            .expect("the starter streams are TOML");
        parse_streams(&starters).expect("the starter streams are right")
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldDeclaration> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The name of the column that date ranges are about.
    #[must_use]
    pub fn time_column(&self) -> &str {
        self.time.as_deref().unwrap_or(crate::schema::RECEIVED_AT)
    }

    /// The built-in stream of rejected lines: `stream`, `trace_id` (of the request), `line`, `code`, `field`,
    /// `message` and `raw` (the line's beginning, bytes that are not UTF-8 replaced by U+FFFD).
    #[must_use]
    pub fn rejects() -> Self {
        let field = |name: &str, kind: FieldType, optional: bool| FieldDeclaration {
            name: name.to_owned(),
            kind,
            optional,
            description: String::new(),
            path: vec![name.to_owned()],
        };
        let text = || FieldType::String {
            max_bytes: crate::limits::STRING_BYTES_MAX,
        };
        Self {
            name: StreamName::rejects(),
            version: 1,
            description: "Lines that were not accepted, and why".to_owned(),
            routes: Vec::new(),
            time: None,
            key: None,
            unique: None,
            unknown_fields: UnknownFields::Reject,
            topic: None,
            format: RecordFormat::Record,
            retention: None,
            rollup: None,
            fields: vec![
                field("stream", text(), false),
                field("trace_id", text(), false),
                field(
                    "line",
                    FieldType::Int {
                        min: 1,
                        max: i64::MAX,
                    },
                    false,
                ),
                field("code", text(), false),
                field("field", text(), true),
                field("message", text(), false),
                field("raw", text(), false),
            ],
        }
    }
}
