//! Types that a declared table's columns get when it is made, in place of those that Tidemill would choose: what a
//! system that was there before has, and its users expect. A table that is there already is taken as it is.

use super::{ColumnKind, MappingError, TableMapping};

/// Most characters of a `varchar(n)`: what both kinds of databases take in a table of some columns.
const CHARACTERS_MAX: u16 = 10_000;

/// A type, by the name that is declared for it; each kind of database has its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclaredType {
    /// `smallint`: 16 bits.
    SmallInt,
    /// `integer`: 32 bits.
    Integer,
    /// `bigint`: 64 bits.
    BigInt,
    /// `timestamp`: a moment in UTC, without a zone.
    Timestamp,
    /// `timestamptz`: a moment; PostgreSQL only.
    TimestampTz,
    /// `varchar(n)`.
    VarChar(u16),
    /// `text`.
    Text,
    /// `json`.
    Json,
}

impl DeclaredType {
    fn parse(written: &str) -> Option<Self> {
        let word = written.trim().to_ascii_lowercase();
        Some(match word.as_str() {
            "smallint" => Self::SmallInt,
            "integer" | "int" => Self::Integer,
            "bigint" => Self::BigInt,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "text" => Self::Text,
            "json" => Self::Json,
            other => {
                let characters = other.strip_prefix("varchar(")?.strip_suffix(')')?;
                let characters = characters.trim().parse().ok()?;
                if !(1..=CHARACTERS_MAX).contains(&characters) {
                    return None;
                }
                Self::VarChar(characters)
            }
        })
    }

    /// Whether a column of that kind can be of this type. What does not fit into it is a refused row.
    fn fits(self, kind: ColumnKind) -> bool {
        match kind {
            ColumnKind::Int | ColumnKind::Int32 => {
                matches!(self, Self::SmallInt | Self::Integer | Self::BigInt)
            }
            ColumnKind::Timestamp => matches!(self, Self::Timestamp | Self::TimestampTz),
            ColumnKind::Text { .. } | ColumnKind::Enum { .. } | ColumnKind::Uuid | ColumnKind::TraceId => {
                matches!(self, Self::VarChar(_) | Self::Text)
            }
            ColumnKind::Json => matches!(self, Self::Json | Self::Text),
            ColumnKind::Bool | ColumnKind::Float => false,
        }
    }
}

/// What is allowed for a kind, as an error says it.
fn allowed(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Int | ColumnKind::Int32 => "it can be smallint, integer or bigint",
        ColumnKind::Timestamp => "it can be timestamp or timestamptz",
        ColumnKind::Text { .. } | ColumnKind::Enum { .. } | ColumnKind::Uuid | ColumnKind::TraceId => {
            "it can be varchar(1) to varchar(10000), or text"
        }
        ColumnKind::Json => "it can be json or text",
        ColumnKind::Bool | ColumnKind::Float => "there is only one type for what it holds",
    }
}

/// The type that a mapping declares for a column.
pub(super) fn declared(
    mapping: &TableMapping,
    name: &str,
    kind: ColumnKind,
) -> Result<Option<DeclaredType>, MappingError> {
    let Some(written) = mapping.types.get(name) else {
        return Ok(None);
    };
    let found = DeclaredType::parse(written).filter(|found| found.fits(kind));
    found.map(Some).ok_or_else(|| MappingError::Type {
        name: name.to_owned(),
        written: written.chars().take(100).collect(),
        allowed: allowed(kind).to_owned(),
    })
}
