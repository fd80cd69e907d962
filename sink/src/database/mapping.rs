//! Which table a stream becomes, and which column a field.
//!
//! By default the table is named as the stream, after the destination's prefix, and has every column of the lake:
//! the declared fields, `_extra`, `_received_at`, `_trace_id`, `_partition`, `_offset`, `_row`; the last three are
//! the primary key, so an event has one row whatever happens.
//!
//! A declared [`TableMapping`] names the table, picks and renames columns, keeps the whole event as JSON in a column
//! of its own, and may have a key of its own. Then events may repeat a key, and what happens to those is said by
//! [`OnConflict`].
//!
//! With [`TableMapping::serial`] the key is a column that the database numbers by itself, and the table is appended to:
//! each event is there once because its row and the position that covers it are one transaction (I-2).
//!
//! The table of a stream whose ids are unique has the id as its key, with a mapping or without: an event whose id is
//! there is left out and counted ([`super::unique`]).
//!
//! Names go into SQL, always quoted. They are refused unless they match `^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`, never
//! cleaned up: two names must not become one.

mod error;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use event::schema::{EXTRA, OFFSET, PARTITION, RECEIVED_AT, ROW, TRACE_ID};
use event::{FieldType, StreamDeclaration};

use super::session::{POSITIONS_TABLE, REFUSED_TABLE};

pub use error::MappingError;
pub use types::DeclaredType;

/// Longest name of a table or column, in bytes: what MySQL takes. PostgreSQL takes 63 and says so in its check.
pub const IDENTIFIER_BYTES_MAX: usize = 64;

/// The columns that say where an event is in the journal, in the order in which they are the key.
const POSITION_COLUMNS: [&str; 3] = [PARTITION, OFFSET, ROW];

/// What happens to an event whose own key is in the table already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It goes to `tidemill_refused` with the database's reason, so that nobody misses it.
    #[default]
    Refuse,
    /// The row that is there stays, the event is left out.
    Ignore,
    /// The event replaces the row: every mapped column gets its value.
    Update,
}

/// What is declared about a stream's table in one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableMapping {
    /// The table. Default: the destination's prefix and the stream's name.
    pub table: Option<String>,
    /// Field or system column → column; what is not named is left out. Default: every column under its own name.
    pub columns: Option<BTreeMap<String, String>>,
    /// Columns that are the primary key. Default: `_partition`, `_offset`, `_row`, which are added when they are
    /// not mapped.
    pub key: Vec<String>,
    /// A column for the whole event as one JSON object.
    pub event: Option<String>,
    /// What happens to a repeated key of its own.
    pub on_conflict: OnConflict,
    /// A column that the database numbers, which is the primary key then. Excludes `key`.
    pub serial: Option<String>,
    /// A column that the database fills with the time at which it took the row.
    pub inserted_at: Option<String>,
    /// Column → type that it gets when the table is made, in place of the one for its kind.
    pub types: BTreeMap<String, String>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `true` or `false`; a Boolean array.
    Bool,
    /// 64 bits; an Int64 array.
    Int,
    /// 32 bits; an Int32 array.
    Int32,
    /// A finite double; a Float64 array.
    Float,
    /// Text of at most so many bytes; a Utf8 array.
    Text {
        /// Most bytes.
        max_bytes: usize,
    },
    /// One of some texts, to which later declarations may add; a Utf8 array.
    Enum {
        /// Bytes of today's longest one.
        longest_bytes: usize,
    },
    /// 36 characters in lower case; a Utf8 array.
    Uuid,
    /// Microseconds since 1970 in UTC; a timestamp array.
    Timestamp,
    /// The text of a JSON value; a Utf8 array.
    Json,
    /// 32 hexadecimal digits; a Utf8 array.
    TraceId,
}

/// Where a column's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A column of the lake's schema, by its number there.
    Lake(usize),
    /// The whole event as one JSON object, made by [`super::event_text`].
    Event,
}

/// One column of a target table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, which matches the pattern.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
    /// Where its values come from.
    pub source: Source,
    /// Whether a value may be absent.
    pub nullable: bool,
    /// The type that it gets when the table is made, if it is not the one for its kind.
    pub declared_type: Option<DeclaredType>,
}

/// A column that the database fills by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilledColumn {
    /// Its name, which matches the pattern.
    pub name: String,
    /// The type that it gets when the table is made, if it is not the usual one.
    pub declared_type: Option<DeclaredType>,
}

/// A stream's table in one destination: a mapping that was checked against the declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetTable {
    /// The stream.
    pub stream: Arc<StreamDeclaration>,
    /// The table's name, which matches the pattern.
    pub name: String,
    /// Whether somebody declared a mapping, so that the table may be one that somebody made.
    pub declared: bool,
    /// The columns, in order: the lake's, then the whole event.
    pub columns: Vec<Column>,
    /// Numbers of the columns that are the primary key, in its order.
    pub key: Vec<usize>,
    /// Whether the key is one of its own, so that it may repeat.
    pub own_key: bool,
    /// What happens to a repeated key of its own.
    pub on_conflict: OnConflict,
    /// The primary key, when the database numbers the rows; `key` is empty then.
    pub serial: Option<FilledColumn>,
    /// The column that gets the time at which the database took the row.
    pub inserted_at: Option<FilledColumn>,
    /// The number of the column that has the ids of a stream whose ids are unique; it is the key then.
    pub unique: Option<usize>,
}

impl TargetTable {
    /// Checks a mapping, or takes the default one, for a stream.
    ///
    /// # Errors
    /// [`MappingError`] (input) that names what is wrong.
    pub fn resolve(
        stream: Arc<StreamDeclaration>,
        prefix: &str,
        mapping: Option<&TableMapping>,
    ) -> Result<Self, MappingError> {
        let default = TableMapping::default();
        let declared = mapping.is_some();
        let mapping = mapping.unwrap_or(&default);
        let name = match &mapping.table {
            Some(table) => table.clone(),
            None => format!("{prefix}{}", stream.name),
        };
        check_identifier("table", &name)?;
        if [POSITIONS_TABLE, REFUSED_TABLE].contains(&name.to_ascii_lowercase().as_str()) {
            return Err(MappingError::Reserved { name });
        }
        let own_key = !mapping.key.is_empty() || stream.unique.is_some();
        if own_key && mapping.serial.is_some() {
            return Err(MappingError::SerialWithKey);
        }
        if !own_key && mapping.on_conflict != OnConflict::Refuse {
            return Err(MappingError::ConflictWithoutKey);
        }
        let columns = columns(&stream, mapping, !own_key && mapping.serial.is_none())?;
        let filled = |name: &Option<String>, holds: ColumnKind| {
            let column = name.as_ref().map(|name| {
                Ok(FilledColumn {
                    declared_type: types::declared(mapping, name, holds)?,
                    name: name.clone(),
                })
            });
            column.transpose()
        };
        let serial = filled(&mapping.serial, ColumnKind::Int)?;
        let inserted_at = filled(&mapping.inserted_at, ColumnKind::Timestamp)?;
        let own = [&serial, &inserted_at]
            .into_iter()
            .flatten()
            .map(|column| &column.name);
        let mut names = BTreeSet::new();
        for name in columns.iter().map(|column| &column.name).chain(own) {
            check_identifier("column", name)?;
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(MappingError::Twice { name: name.clone() });
            }
        }
        if let Some(name) = mapping
            .types
            .keys()
            .find(|name| !names.contains(&name.to_ascii_lowercase()))
        {
            return Err(MappingError::NoTypedColumn { name: name.clone() });
        }
        let unique = unique(&stream, mapping, &columns)?;
        let (key, on_conflict) = match unique {
            // What repeats an id is left out before, so what the database still says counts.
            Some(column) => (vec![column], OnConflict::Refuse),
            None => (key(&stream, mapping, &columns)?, mapping.on_conflict),
        };
        Ok(Self {
            stream,
            name,
            declared,
            columns,
            key,
            own_key,
            on_conflict,
            serial,
            inserted_at,
            unique,
        })
    }

    /// The columns that the database fills by itself.
    pub fn filled_columns(&self) -> impl Iterator<Item = &FilledColumn> {
        self.serial.iter().chain(&self.inserted_at)
    }

    /// The columns of the key, in its order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().map(|index| &self.columns[*index])
    }
}

/// Refuses two streams in one table unless their keys are their own.
///
/// # Errors
/// [`MappingError::Shared`].
pub fn check_shared(tables: &[Arc<TargetTable>]) -> Result<(), MappingError> {
    for (index, first) in tables.iter().enumerate() {
        for second in &tables[index + 1..] {
            let same = first.name.eq_ignore_ascii_case(&second.name);
            let keyless = |table: &TargetTable| table.own_key || table.serial.is_some();
            if same && !(keyless(first) && keyless(second)) {
                return Err(MappingError::Shared {
                    table: first.name.clone(),
                    first: first.stream.name.clone(),
                    second: second.stream.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Checks the name of a table or column.
fn check_identifier(what: &'static str, name: &str) -> Result<(), MappingError> {
    let bytes = name.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let fits = bytes.len() <= IDENTIFIER_BYTES_MAX
        && bytes.first().is_some_and(|first| !first.is_ascii_digit())
        && bytes.iter().all(allowed);
    if fits {
        Ok(())
    } else {
        Err(MappingError::Name {
            what,
            name: name.chars().take(100).collect(),
        })
    }
}

/// The mapped columns in the lake's order, then the whole event.
fn columns(
    stream: &StreamDeclaration,
    mapping: &TableMapping,
    by_position: bool,
) -> Result<Vec<Column>, MappingError> {
    let schema = event::schema::lake(stream);
    if let Some(mapped) = &mapping.columns
        && let Some(unknown) = mapped
            .keys()
            .find(|field| schema.column_with_name(field).is_none())
    {
        return Err(MappingError::NoField {
            stream: stream.name.clone(),
            field: unknown.chars().take(100).collect(),
        });
    }
    let name_of = |field: &str| match &mapping.columns {
        None => Some(field.to_owned()),
        Some(mapped) => mapped
            .get(field)
            .cloned()
            .or_else(|| (by_position && POSITION_COLUMNS.contains(&field)).then(|| field.to_owned())),
    };
    let mut columns = Vec::with_capacity(schema.fields().len() + 1);
    for (index, field) in schema.fields().iter().enumerate() {
        if let Some(name) = name_of(field.name()) {
            let kind = kind(stream, field.name());
            columns.push(Column {
                declared_type: types::declared(mapping, &name, kind)?,
                name,
                kind,
                source: Source::Lake(index),
                nullable: field.is_nullable(),
            });
        }
    }
    if let Some(name) = &mapping.event {
        columns.push(Column {
            declared_type: types::declared(mapping, name, ColumnKind::Json)?,
            name: name.clone(),
            kind: ColumnKind::Json,
            source: Source::Event,
            nullable: false,
        });
    }
    Ok(columns)
}

/// What a column of the lake's schema holds.
fn kind(stream: &StreamDeclaration, column: &str) -> ColumnKind {
    match column {
        EXTRA => ColumnKind::Json,
        RECEIVED_AT => ColumnKind::Timestamp,
        TRACE_ID => ColumnKind::TraceId,
        PARTITION | ROW => ColumnKind::Int32,
        OFFSET => ColumnKind::Int,
        field => match stream.field(field).map(|field| &field.kind) {
            Some(FieldType::Bool) => ColumnKind::Bool,
            Some(FieldType::Int { .. }) => ColumnKind::Int,
            Some(FieldType::Float { .. }) => ColumnKind::Float,
            Some(FieldType::String { max_bytes }) => ColumnKind::Text {
                max_bytes: *max_bytes,
            },
            Some(FieldType::Enum { values }) => ColumnKind::Enum {
                longest_bytes: values.iter().map(String::len).max().unwrap_or(0),
            },
            Some(FieldType::Uuid) => ColumnKind::Uuid,
            Some(FieldType::Timestamp { .. }) => ColumnKind::Timestamp,
            Some(FieldType::Json) | None => ColumnKind::Json,
        },
    }
}

/// The number of the column that has the ids of a stream whose ids are unique.
fn unique(
    stream: &StreamDeclaration,
    mapping: &TableMapping,
    columns: &[Column],
) -> Result<Option<usize>, MappingError> {
    let Some(unique) = &stream.unique else {
        return Ok(None);
    };
    let (stream_name, field) = (stream.name.clone(), unique.field.clone());
    let schema = event::schema::lake(stream);
    let source = schema.index_of(&field).ok().map(Source::Lake);
    let found = columns.iter().position(|column| Some(column.source) == source);
    let Some(found) = found else {
        return Err(MappingError::UniqueUnmapped {
            stream: stream_name,
            field,
        });
    };
    let named = |name: &String| name.eq_ignore_ascii_case(&columns[found].name);
    // Without a key of its own the table gets this one.
    if !matches!(mapping.key.as_slice(), [] | [_]) || !mapping.key.iter().all(named) {
        return Err(MappingError::UniqueKey {
            stream: stream_name,
            field,
        });
    }
    if mapping.on_conflict == OnConflict::Update {
        return Err(MappingError::UniqueUpdate { stream: stream_name });
    }
    Ok(Some(found))
}

/// The numbers of the key's columns.
fn key(
    stream: &StreamDeclaration,
    mapping: &TableMapping,
    columns: &[Column],
) -> Result<Vec<usize>, MappingError> {
    if mapping.serial.is_some() {
        return Ok(Vec::new());
    }
    if mapping.key.is_empty() {
        let schema = event::schema::lake(stream);
        let first = schema.fields().len() - POSITION_COLUMNS.len();
        let by_position = (first..schema.fields().len()).map(|number| {
            let source = Source::Lake(number);
            let found = columns.iter().position(|column| column.source == source);
            found.expect("`columns` adds the columns of the position when there is no other key")
        });
        return Ok(by_position.collect());
    }
    let mut key = Vec::with_capacity(mapping.key.len());
    for name in &mapping.key {
        let same = |column: &Column| column.name.eq_ignore_ascii_case(name);
        let Some(index) = columns.iter().position(same) else {
            return Err(MappingError::NoKeyColumn { name: name.clone() });
        };
        let refused = |reason: &str| MappingError::KeyColumn {
            name: name.clone(),
            reason: reason.to_owned(),
        };
        if columns[index].nullable {
            return Err(refused("its field is optional"));
        }
        if columns[index].kind == ColumnKind::Json {
            return Err(refused("it holds JSON"));
        }
        if key.contains(&index) {
            return Err(MappingError::Twice { name: name.clone() });
        }
        key.push(index);
    }
    Ok(key)
}

#[cfg(test)]
mod tests;
