//! The decoder: request bodies → Arrow columns and rejects, in one pass.
//!
//! Body chunks come in as hyper hands them out, and are read where they lie; only a line that straddles two
//! chunks is copied.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;

use crate::{Rejects, StreamDeclaration};

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// One JSON document: an object, or an array of objects.
    Json,
}

/// Why a whole body was refused. Nothing of it may be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A body of [`Format::Json`] is not one JSON object or array by the JSON rule.
    #[error("the body is not a JSON document: {message}")]
    NotJson {
        /// What is wrong, and at which byte.
        message: String,
    },
}

/// Turns the body of one request into columns.
#[derive(Debug)]
pub struct Decoder {
    stream: Arc<StreamDeclaration>,
    format: Format,
}

/// What became of a body.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The accepted rows in order, in the wire schema, each at most one record's worth
    /// (`limits::RECORD_ROWS_MAX`, `limits::BATCH_BYTES_TARGET`). No batch is empty.
    pub batches: Vec<RecordBatch>,
    /// The lines that were not accepted.
    pub rejects: Rejects,
    /// How many events were accepted.
    pub accepted: u64,
    /// Undeclared fields that were left out (`unknown_fields = "ignore"`).
    pub fields_ignored: u64,
    /// Bytes of body that were pushed.
    pub bytes_received: u64,
    /// Bytes of body that had to be copied before they could be read.
    pub bytes_copied: u64,
}

impl Decoder {
    /// A decoder for one body.
    #[must_use]
    pub fn new(stream: Arc<StreamDeclaration>, format: Format) -> Self {
        Self { stream, format }
    }

    /// Takes the next chunk of the body.
    ///
    /// # Errors
    /// [`BodyError`] when the whole body is to be refused; the decoder is of no use afterwards.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), BodyError> {
        let _ = (chunk, &self.stream, self.format);
        Err(BodyError::NotJson {
            message: "the decoder is not built yet".to_owned(),
        })
    }

    /// Ends the body: reads what is left of it and closes the last batch.
    ///
    /// # Errors
    /// [`BodyError`] when the whole body is to be refused.
    pub fn finish(self) -> Result<Decoded, BodyError> {
        Err(BodyError::NotJson {
            message: "the decoder is not built yet".to_owned(),
        })
    }
}
