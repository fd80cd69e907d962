//! Why a stream cannot have the table that it is to have.

use event::StreamName;

/// Why a stream cannot have such a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A name that is no harmless identifier.
    #[error("{what} `{name}` is not allowed: it must match ^[a-zA-Z_][a-zA-Z0-9_]{{0,63}}$")]
    Name {
        /// `table`, `column`.
        what: &'static str,
        /// The name, cut after 100 characters.
        name: String,
    },
    /// The table is one of Tidemill's own.
    #[error("table `{name}` is Tidemill's own")]
    Reserved {
        /// The name.
        name: String,
    },
    /// A mapped field that the stream does not have.
    #[error("stream `{stream}` has no field or system column `{field}`")]
    NoField {
        /// The stream.
        stream: StreamName,
        /// What was mapped.
        field: String,
    },
    /// Two columns of one name; case does not tell them apart.
    #[error("column `{name}` is there twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A column of the key that is not there.
    #[error("key column `{name}` is no column of the table")]
    NoKeyColumn {
        /// The name.
        name: String,
    },
    /// A column of the key whose values may be absent, or are of a type that cannot be compared.
    #[error("column `{name}` cannot be in the key: {reason}")]
    KeyColumn {
        /// The name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// What to do about repeated keys is said, but the key cannot repeat.
    #[error("`on_conflict` without a `key`: the key by position never repeats")]
    ConflictWithoutKey,
    /// A key of its own and one that the database numbers.
    #[error("`key` and `serial` are both given: keep one")]
    SerialWithKey,
    /// A type for a column that is not there.
    #[error("`types` names `{name}`, which is no column of the table")]
    NoTypedColumn {
        /// The name.
        name: String,
    },
    /// A type that a column cannot have.
    #[error("column `{name}` cannot be `{written}`: {allowed}")]
    Type {
        /// The name.
        name: String,
        /// What was asked for.
        written: String,
        /// What there is.
        allowed: String,
    },
    /// The field whose values are unique has no column.
    #[error("stream `{stream}` is unique by `{field}`, which has no column in the table")]
    UniqueUnmapped {
        /// The stream.
        stream: StreamName,
        /// The field.
        field: String,
    },
    /// A stream whose ids are unique, with another key.
    #[error("stream `{stream}` is unique by `{field}`, so its column alone is the key; leave `key` out")]
    UniqueKey {
        /// The stream.
        stream: StreamName,
        /// The field.
        field: String,
    },
    /// A stream whose ids are unique, where the last event of an id shall count.
    #[error(
        "`on_conflict = \"update\"` in stream `{stream}`, which is unique: the first event of an id stays"
    )]
    UniqueUpdate {
        /// The stream.
        stream: StreamName,
    },
    /// Two streams that go to one table need keys of their own, since positions are those of a stream.
    #[error("streams `{first}` and `{second}` both go to table `{table}`, so both need a `key` of their own")]
    Shared {
        /// The table.
        table: String,
        /// One stream.
        first: StreamName,
        /// The other.
        second: StreamName,
    },
    /// This kind of database cannot have such a table.
    #[error("table `{table}`: {reason}")]
    Unsupported {
        /// The table.
        table: String,
        /// What does not fit, with the limit and what was found.
        reason: String,
    },
}
