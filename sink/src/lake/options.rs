//! Settings of the lake sink.

use std::time::Duration;

use lake::{CompactOptions, WriterOptions};

/// When files are rolled and tables maintained. All of it has a bound.
#[derive(Clone, Debug)]
pub struct LakeSinkOptions {
    /// The group whose members share the partitions. Default: `tidemill.lake`.
    pub group: String,
    /// A file is committed when it has about this many bytes. Default: 128 MiB.
    pub roll_bytes: u64,
    /// A file is committed when its first row is this old. Default: 60 s.
    pub roll_every: Duration,
    /// Most bytes of records that may be in open files, of all streams together: analytics reads them from the
    /// journal until they are committed. Default: 256 MiB.
    pub tail_bytes: u64,
    /// Most bytes of records that one read takes: what one call to the encoding thread works on, and so how
    /// long a stop request may have to wait. Default: 8 MiB.
    pub read_bytes: usize,
    /// How long a part of the work may take on the threads that go last ([`crate::SinkThreads`]), until what is left of
    /// it goes to those that go first. The tail grows by so much meanwhile. Default: 250 ms.
    pub patience: Duration,
    /// For how long a shutdown goes on reading what the journal still has, before it commits. Default: 10 s.
    pub drain: Duration,
    /// How Parquet files are written.
    pub writer: WriterOptions,
    /// The first wait after a failure, doubling from there. Default: 100 ms.
    pub retry_first: Duration,
    /// The longest wait between two tries. Default: 30 s.
    pub retry_longest: Duration,
    /// What compaction merges.
    pub compact: CompactOptions,
    /// The time between two compactions of a table; none at all when zero. Default: 60 s.
    pub compact_every: Duration,
    /// The time between two vacuums of a table; none at all when zero. Default: 10 min.
    pub vacuum_every: Duration,
    /// The time between two looks at a stream's retention. Default: 5 min.
    pub expire_every: Duration,
    /// For how long a shutdown waits for maintenance that is under way. Default: 5 s.
    pub maintenance_stop: Duration,
}

impl Default for LakeSinkOptions {
    fn default() -> Self {
        Self {
            group: "tidemill.lake".to_owned(),
            roll_bytes: 128 << 20,
            roll_every: Duration::from_secs(60),
            tail_bytes: 256 << 20,
            read_bytes: 8 << 20,
            patience: Duration::from_millis(250),
            drain: Duration::from_secs(10),
            writer: WriterOptions {
                row_group_rows: 1 << 20,
                lz4: false,
            },
            retry_first: Duration::from_millis(100),
            retry_longest: Duration::from_secs(30),
            compact: CompactOptions {
                small_bytes: 64 << 20,
                target_bytes: 128 << 20,
            },
            compact_every: Duration::from_secs(60),
            vacuum_every: Duration::from_secs(600),
            expire_every: Duration::from_secs(300),
            maintenance_stop: Duration::from_secs(5),
        }
    }
}
