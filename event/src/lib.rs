//! What travels through Tidemill: declared streams, batches of their events as Arrow columns, the spans of
//! the requests that they came in, positions in a journal, and the decoder that makes columns of JSON.
//!
//! Every other crate may know this one; it knows no disk and no network, so everything here is a function
//! of its input and can be tested and fuzzed as such.
//!
//! ```text
//! request body ──► decode::Decoder ──► Batch (columns + spans) ──► record::encode ──► journal
//!                       │                                                                │
//!                       └──► Rejects (one entry a bad line)        record::decode ◄──────┘
//! ```

pub mod batch;
pub mod catalog;
pub mod decode;
pub mod json;
pub mod limits;
pub mod moment;
pub mod name;
pub mod partition;
pub mod position;
pub mod record;
pub mod reject;
pub mod reject_rows;
pub mod schema;
pub mod stream;
pub mod template;
pub mod trace;
pub mod unique;
pub mod units;

pub use batch::{Batch, Span};
pub use catalog::Catalog;
pub use moment::Moment;
pub use name::StreamName;
pub use position::{Offset, Partition, Position};
pub use reject::{Reject, RejectCode, Rejects};
pub use stream::{
    FieldDeclaration, FieldType, RecordFormat, Rollup, StreamDeclaration, TimeUnit, Unique, UnknownFields,
};
pub use template::Template;
pub use trace::TraceId;
