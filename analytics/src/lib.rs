//! Answers over what is stored and what has just arrived: REST questions and SQL.
//!
//! Takes only the lake, the journal and a request, so that it can run in a process of its own. Every query
//! reads **files(v) ∪ journal[p(v), end)**: the journal's end is taken first, then the newest lake version v
//! with its position p(v), so that each durable row is seen exactly once (I-2, I-5). Of a stream whose ids are unique
//! rows of the tail that repeat an id are left out, as the sink will leave them out of the lake (`tail_kept`).
//!
//! DataFusion lives behind this wall; REST questions read the columns directly and never pass through SQL text.

mod analytics;
mod bounded;
mod cache;
mod checked_sum;
mod columns;
mod deadline;
mod encode;
mod error;
mod events;
mod file_reader;
mod files;
mod growth;
mod guard;
mod http;
mod index_range;
mod json;
mod json_text;
mod kept;
mod key_filters;
pub mod live;
mod offset;
mod pages;
mod parameters;
mod partial;
mod partial_store;
mod pieces;
mod pin;
mod problem;
mod provider;
mod question;
mod readable;
pub mod rollup;
mod session;
mod sketch;
mod sql;
mod sql_http;
mod stats;
mod stored_rows;
mod tail;
mod tail_exec;
mod tail_filter;
mod tail_kept;
mod tail_marks;
mod tail_one_of;
mod tail_partials;
mod tail_rows;
mod tail_run;
mod tail_runs;
mod tail_scan;
mod text_groups;
mod text_rows;
mod time_cut;
mod time_offset;
mod utc_trunc;
pub mod views;
mod walk;
mod wildcard;
pub mod worker;

pub use analytics::{Analytics, AnalyticsOptions, BLOCKING_THREADS_MAX, STACK_BYTES, SqlPlace};
pub use encode::Format;
pub use error::{Fault, QueryError};
pub use events::PAGE_EVENTS_MAX;
pub use kept::Kept;
pub use readable::Readable;
pub use sql::{SqlAnswer, SqlBody, SqlRequest};

#[cfg(test)]
mod tests;
