//! How a value travels in PostgreSQL's binary format, and which column of a table takes which form.
//!
//! Our own tables have one type for each kind of column. A table that somebody else made may have others, as long as
//! no value changes its meaning: `integer` for numbers that fit, `varchar` or an enum for texts, `json` for `jsonb`.

use crate::database::ColumnKind;

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// One byte, 0 or 1.
    Bool,
    /// 16 bits; a number that does not fit is refused.
    Int2,
    /// 32 bits; a number that does not fit is refused.
    Int4,
    /// 64 bits.
    Int8,
    /// 32 bits; a finite number that becomes infinite is refused.
    Float4,
    /// 64 bits.
    Float8,
    /// Bytes of UTF-8.
    Text,
    /// 16 bytes.
    Uuid,
    /// Microseconds since 2000-01-01, 64 bits.
    Moment,
    /// The version byte 1 and the text.
    Jsonb,
}

/// The type that a column of our own tables has, as DDL writes it.
pub(super) fn ddl(kind: ColumnKind) -> &'static str {
    own_type(kind).0
}

/// Whether a type is the one that a column of our own tables has, by its name in `pg_type`.
pub(super) fn is_own(kind: ColumnKind, type_name: &str) -> bool {
    own_type(kind).1 == type_name
}

fn own_type(kind: ColumnKind) -> (&'static str, &'static str) {
    match kind {
        ColumnKind::Bool => ("BOOLEAN", "bool"),
        ColumnKind::Int => ("BIGINT", "int8"),
        ColumnKind::Int32 => ("INTEGER", "int4"),
        ColumnKind::Float => ("DOUBLE PRECISION", "float8"),
        ColumnKind::Text { .. } | ColumnKind::Enum { .. } | ColumnKind::TraceId => ("TEXT", "text"),
        ColumnKind::Uuid => ("UUID", "uuid"),
        ColumnKind::Timestamp => ("TIMESTAMPTZ", "timestamptz"),
        ColumnKind::Json => ("JSONB", "jsonb"),
    }
}

/// The form in which a column of that type takes values of that kind; `None` when it cannot.
///
/// `type_name` is the name in `pg_type` of the type, or of the type under a domain.
pub(super) fn wire(kind: ColumnKind, type_name: &str, is_enum: bool) -> Option<Wire> {
    let is_text = is_enum || matches!(type_name, "text" | "varchar" | "bpchar" | "citext");
    let wire = match (kind, type_name) {
        (ColumnKind::Bool, "bool") => Wire::Bool,
        (ColumnKind::Int | ColumnKind::Int32, "int8") => Wire::Int8,
        (ColumnKind::Int | ColumnKind::Int32, "int4") => Wire::Int4,
        (ColumnKind::Int | ColumnKind::Int32, "int2") => Wire::Int2,
        (ColumnKind::Float, "float8") => Wire::Float8,
        (ColumnKind::Float, "float4") => Wire::Float4,
        (ColumnKind::Uuid | ColumnKind::TraceId, "uuid") => Wire::Uuid,
        (ColumnKind::Timestamp, "timestamptz" | "timestamp") => Wire::Moment,
        (ColumnKind::Json, "jsonb") => Wire::Jsonb,
        (ColumnKind::Json, "json" | "text" | "varchar") => Wire::Text,
        (ColumnKind::Uuid, "text" | "varchar" | "bpchar") => Wire::Text,
        (ColumnKind::Text { .. } | ColumnKind::Enum { .. } | ColumnKind::TraceId, _) if is_text => Wire::Text,
        _ => return None,
    };
    Some(wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_fits_into_the_type_of_our_own_tables() {
        let kinds = [
            ColumnKind::Bool,
            ColumnKind::Int,
            ColumnKind::Int32,
            ColumnKind::Float,
            ColumnKind::Text { max_bytes: 1 },
            ColumnKind::Enum { longest_bytes: 1 },
            ColumnKind::TraceId,
            ColumnKind::Uuid,
            ColumnKind::Timestamp,
            ColumnKind::Json,
        ];
        for kind in kinds {
            assert!(wire(kind, own_type(kind).1, false).is_some(), "{kind:?}");
            assert_eq!(wire(kind, "bytea", false), None, "{kind:?}");
        }
        assert_eq!(wire(ColumnKind::Int, "text", false), None);
        assert_eq!(
            wire(ColumnKind::Enum { longest_bytes: 1 }, "mood", true),
            Some(Wire::Text)
        );
    }
}
