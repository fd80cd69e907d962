//! Rollups: streams that are computed from another one, window by window.
//!
//! A row of a rollup is what the declared SQL says about a range of its source, and carries that range. Ranges are
//! contiguous, and each is there once: a record says which record it [`FOLLOWS`], and the first one that follows the
//! last valid one is the next valid one. Whoever reads the stream leaves out all others (the journal does that for its
//! readers), so two processes that both believe that a rollup is theirs cannot count anything twice.
//!
//! # Fields that a rollup has without declaring them
//! [`WINDOW_START`], [`WINDOW_END`], then what is declared, then [`SOURCE_ROWS`], [`SOURCE`], [`FOLLOWS`].

use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};

use super::{FieldDeclaration, FieldType};
use crate::StreamName;
use crate::limits::STRING_BYTES_MAX;

/// When the window began: a multiple of `every`, or where the window before was full.
pub const WINDOW_START: &str = "window_start";
/// When the window ended: the next multiple of `every`, or the arrival of the event that filled it.
pub const WINDOW_END: &str = "window_end";
/// How many events the window has.
pub const SOURCE_ROWS: &str = "source_rows";
/// Which events: JSON with the source's journal and, for each partition, the half-open range of positions.
pub const SOURCE: &str = "source";
/// The offset of the valid record before this one; null in the first one.
pub const FOLLOWS: &str = "follows";

/// Every field that a rollup has without declaring it.
pub const IMPLIED: [&str; 5] = [WINDOW_START, WINDOW_END, SOURCE_ROWS, SOURCE, FOLLOWS];

/// Most events of one window.
pub const WINDOW_ROWS_MAX: u64 = 1_000_000;
/// Shortest and longest `every`.
pub const WINDOW_SPAN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(31 * 86_400)];

/// How a stream is computed from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollup {
    /// The stream that it is computed from.
    pub from: StreamName,
    /// The length of a window.
    pub every: Duration,
    /// A window ends at so many events, if it has not before.
    pub rows: u64,
    /// One SELECT over the source that gives one row.
    pub sql: String,
    /// Whether an ordered shutdown ends the open window, rather than leaving it to the next start.
    pub flush_on_stop: bool,
    /// The consumer group that elects who computes it, instead of one that is named after the stream. It shows how far
    /// the source is counted, and where it has said so before there is a row, the first one begins there.
    pub group: Option<String>,
}

/// Whether a rollup can have a field of this type.
#[must_use]
pub fn can_be_computed(kind: &FieldType) -> bool {
    let everything = STRING_BYTES_MAX;
    match kind {
        FieldType::Bool => true,
        FieldType::Int { min, max } => (*min, *max) == (i64::MIN, i64::MAX),
        FieldType::Float { min, max } => (*min, *max) == (f64::MIN, f64::MAX),
        FieldType::String { max_bytes } => *max_bytes == everything,
        FieldType::Timestamp { unit } => unit.is_none(),
        FieldType::Enum { .. } | FieldType::Uuid | FieldType::Json => false,
    }
}

/// The fields of a rollup: the declared ones between those that every rollup has.
#[must_use]
pub fn with_implied(declared: Vec<FieldDeclaration>) -> Vec<FieldDeclaration> {
    let field = |name: &str, kind, optional, description: &str| FieldDeclaration {
        name: name.to_owned(),
        kind,
        optional,
        description: description.to_owned(),
        path: vec![name.to_owned()],
    };
    let moment = || FieldType::Timestamp { unit: None };
    let count = || FieldType::Int {
        min: i64::MIN,
        max: i64::MAX,
    };
    let mut fields = vec![
        field(WINDOW_START, moment(), false, "When the window began"),
        field(WINDOW_END, moment(), false, "When the window ended"),
    ];
    fields.extend(declared);
    fields.extend([
        field(SOURCE_ROWS, count(), false, "Events of the window"),
        field(SOURCE, FieldType::Json, false, "The range of the source"),
        field(FOLLOWS, count(), true, "The offset of the record before"),
    ]);
    fields
}

/// Whether a field is one that every rollup has.
#[must_use]
pub fn is_implied(name: &str) -> bool {
    IMPLIED.contains(&name)
}

/// Which record the rows of a rollup's record follow: `Some(None)` says that they are the first. `None` when the rows
/// do not say.
#[must_use]
pub fn follows(rows: &RecordBatch) -> Option<Option<u64>> {
    let column = rows.column_by_name(FOLLOWS)?.as_primitive_opt::<Int64Type>()?;
    if column.is_empty() {
        return None;
    }
    if column.is_null(0) {
        return Some(None);
    }
    u64::try_from(column.value(0)).ok().map(Some)
}
