//! Sinks: from the journal into destinations.
//!
//! Every destination is a consumer of its own with its own position (I-5), which it stores in the same atomic
//! step as the data that the position covers (I-2). So after any crash it begins where its data ends, and each
//! event is there exactly once.
//!
//! ```text
//! journal ──► reader ──► decode ──► open file (or transaction) ──► commit: data + position ──► journal.retain
//!                ▲                                                          │
//!                └────────── position, read back at every start ◄──────────┘
//! ```
//!
//! # Anatomy of a destination
//! The same files for each, so that the second is read for free: `mod.rs` (start, shut down, progress),
//! `options.rs` (settings), `consumer.rs` (one stream's loop: read, write, commit, try again), and one file for
//! what is open between two commits (the lake: `open_file.rs`). [`backoff`], [`error`], [`progress`] and
//! `group` (which partitions are this process's) serve them all. Databases share one anatomy, [`database`], and
//! differ behind its two traits.

mod attempt;
pub use journal::backoff;
pub mod database;
pub mod error;
pub(crate) mod group;
pub mod lake;
pub mod mysql;
pub mod postgres;
pub mod progress;
pub mod rabbitmq;
pub mod redis;

pub use self::redis::{Bus, BusPosition, RedisDatabase, RedisOptions, RedisUrlError};
pub use database::{DatabaseOptions, DatabaseProgress, DatabaseSink, OnConflict, TableMapping};
pub use error::{Fault, SinkError};
pub use lake::{LakeProgress, LakeSink, LakeSinkOptions, SinkThreads};
pub use mysql::{LoadData, MysqlDatabase, MysqlOptions, MysqlUrlError};
pub use postgres::{PostgresDatabase, PostgresOptions, PostgresUrlError};
pub use progress::StreamProgress;
pub use rabbitmq::{RabbitmqDatabase, RabbitmqOptions, RabbitmqUrlError};
