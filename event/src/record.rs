//! The journal record: a small header and one Arrow IPC stream, the same bytes in every journal.

use bytes::Bytes;

use crate::Batch;

/// Why bytes are not a record that this version can read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not a record, or are damaged.
    #[error("record is not readable: {0}")]
    Malformed(String),
    /// The record was written by a newer Tidemill.
    #[error("record has format version {found}, this program reads up to {supported}")]
    Version {
        /// The version in the record.
        found: u16,
        /// The newest version that this program reads.
        supported: u16,
    },
}

/// Encodes a batch as a record.
///
/// # Errors
/// [`RecordError::Malformed`] when the spans do not add up to the rows.
pub fn encode(batch: &Batch) -> Result<Bytes, RecordError> {
    let _ = batch;
    Err(RecordError::Malformed(
        "the record codec is not built yet".to_owned(),
    ))
}

/// Decodes a record; columns borrow from `bytes` where alignment allows.
///
/// # Errors
/// [`RecordError`] when the bytes are not a record, for any bytes whatsoever.
pub fn decode(bytes: &Bytes) -> Result<Batch, RecordError> {
    let _ = bytes;
    Err(RecordError::Malformed(
        "the record codec is not built yet".to_owned(),
    ))
}
