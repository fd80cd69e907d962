//! What the journal has let go of, as whoever keeps it gives it back.

use event::{Offset, StreamName};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::Place;

/// One event of a stream, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it is.
    pub place: Place,
    /// What it says.
    pub json: Vec<u8>,
}

/// Rows of a stream, from some offset up to an end.
#[derive(Debug)]
pub struct ArchiveRows {
    /// The rows, in order and in portions that fit into memory; ends after the last or after an error.
    pub rows: mpsc::Receiver<Result<Vec<Row>, String>>,
    /// Where the archive ends and the journal goes on.
    pub end: Offset,
}

/// Has every row of a stream that the journal does not have any more.
pub trait Archive: Send + Sync + 'static {
    /// Begins to read a stream at an offset. `None` when the archive ends there or before.
    ///
    /// # Errors
    /// What the archive says when it cannot be read.
    fn rows<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Offset,
    ) -> BoxFuture<'a, Result<Option<ArchiveRows>, String>>;
}
