//! Settings of a database destination, whatever the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::StreamName;

use super::mapping::TableMapping;

/// How a database destination reads, writes and tries again. All of it has a bound.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// The destination's name in the configuration; a label of its metrics and logs.
    pub name: String,
    /// The consumer group in which sink processes share the partitions. Default: `tidemill`.
    pub group: String,
    /// Stands before the stream's name in every table's name that no mapping says. Default: nothing.
    pub table_prefix: String,
    /// Tables, columns and keys that are declared; streams that are not here have the default table.
    pub mappings: BTreeMap<StreamName, TableMapping>,
    /// Rows at which a transaction is closed; a record is never cut, so it may have up to a record's rows more.
    /// Default: 50,000.
    pub batch_rows: usize,
    /// Bytes of columns at which a transaction is closed. Default: 16 MiB.
    pub batch_bytes: usize,
    /// A transaction is closed when its first row is this old. Default: 1 s.
    pub commit_every: Duration,
    /// Most connections at once. Streams take turns when there are more of them. Default: 8.
    pub connections: usize,
    /// For how long a connection may take to be there. Default: 10 s.
    pub connect_timeout: Duration,
    /// For how long one transaction may take; a server that hangs is an outage then. Default: 60 s.
    pub transaction_timeout: Duration,
    /// For how long a shutdown goes on reading and writing what the journal still has. Default: 10 s.
    pub drain: Duration,
    /// The lake's tables: what the journal does not have any more is read from there. Default: none, so that such a
    /// stream stops.
    pub refill: Vec<Arc<lake::Table>>,
    /// The first wait after a failure, doubling from there. Default: 100 ms.
    pub retry_first: Duration,
    /// The longest wait between two tries. Default: 10 s.
    pub retry_longest: Duration,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            name: "database".to_owned(),
            group: "tidemill".to_owned(),
            table_prefix: String::new(),
            mappings: BTreeMap::new(),
            batch_rows: 50_000,
            batch_bytes: 16 << 20,
            commit_every: Duration::from_secs(1),
            connections: 8,
            connect_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            refill: Vec::new(),
            retry_first: Duration::from_millis(100),
            retry_longest: Duration::from_secs(10),
        }
    }
}
