//! Rejects: the lines of a request that were not accepted, and why.

use serde::Serialize;

use crate::limits::REJECTS_DESCRIBED_MAX;

/// Why a line was rejected. A closed list: these are also metric labels and part of the HTTP contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// Not JSON by RFC 8259, nested too deep, with a duplicate key or a lone surrogate, or not an object.
    InvalidJson,
    /// A required field is absent or null.
    MissingField,
    /// A field has a value of another type.
    TypeMismatch,
    /// A number is outside of the declared or representable range.
    OutOfRange,
    /// A field is not declared, and the stream says `unknown_fields = "reject"`.
    UnknownField,
    /// A value is not one of an enum's.
    UnknownValue,
    /// A line or a string is longer than allowed.
    TooLarge,
    /// A timestamp cannot be read, or is outside of what microseconds can express.
    InvalidTimestamp,
    /// A line is not UTF-8.
    InvalidUtf8,
}

impl RejectCode {
    /// Every code.
    pub const ALL: [Self; 9] = [
        Self::InvalidJson,
        Self::MissingField,
        Self::TypeMismatch,
        Self::OutOfRange,
        Self::UnknownField,
        Self::UnknownValue,
        Self::TooLarge,
        Self::InvalidTimestamp,
        Self::InvalidUtf8,
    ];

    /// The code as the HTTP answer and the metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::MissingField => "missing_field",
            Self::TypeMismatch => "type_mismatch",
            Self::OutOfRange => "out_of_range",
            Self::UnknownField => "unknown_field",
            Self::UnknownValue => "unknown_value",
            Self::TooLarge => "too_large",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::InvalidUtf8 => "invalid_utf8",
        }
    }
}

/// One rejected line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The line's number in the request, from 1, blank lines counted; an element's number in an array.
    pub line: u64,
    /// Why.
    pub code: RejectCode,
    /// The field, where one is to blame.
    pub field: Option<String>,
    /// What was expected and what was there, for a person.
    pub message: String,
    /// The beginning of the line, at most `limits::REJECT_RAW_BYTES_MAX`, as it came.
    pub raw: Vec<u8>,
}

/// The rejects of one request: all are counted, the first `limits::REJECTS_DESCRIBED_MAX` described.
#[derive(Clone, Debug, Default)]
pub struct Rejects {
    /// The first rejects, in line order.
    pub described: Vec<Reject>,
    /// How many lines were rejected for each code, in the order of [`RejectCode::ALL`].
    pub counts: [u64; RejectCode::ALL.len()],
}

impl Rejects {
    /// Counts a reject, and keeps its description while there is room.
    pub fn push(&mut self, reject: Reject) {
        self.counts[reject.code as usize] += 1;
        if !self.truncated_at_next() {
            self.described.push(reject);
        }
    }

    /// Whether the next reject would only be counted, so that its message need not be made.
    #[must_use]
    pub fn truncated_at_next(&self) -> bool {
        self.described.len() >= REJECTS_DESCRIBED_MAX
    }

    /// Counts a reject without a description.
    pub fn count(&mut self, code: RejectCode) {
        self.counts[code as usize] += 1;
    }

    /// How many lines were rejected.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}
