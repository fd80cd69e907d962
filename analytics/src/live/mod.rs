//! Events as they arrive: Server-Sent Events and WebSockets on `GET /v1/streams/{stream}/tail`, and WebSockets on paths
//! that are declared.
//!
//! ```text
//! journal ─► feed (one a partition) ─► ring of blocks ─► cursor of each client ─► SSE or WebSocket
//!               │ as far as the gate says                     │
//!               └ each record is decoded and written once     └ behind the ring: journal or lake, in turns
//! ```
//!
//! # Promises
//! - Events of a partition come in journal order, each once, and none that could be lost again: they are durable, and
//!   where a destination is named it has committed them ([`Gate`]).
//! - Of a stream whose ids are unique each event comes once: rows that SQL does not show are not shown here either, by
//!   the same decisions ([`crate::Kept`]). What the lake has is taken from there, whose rows are the kept ones.
//! - Ids say everything that was received. Who resumes with one gets what follows, also from another process or after a
//!   restart: from the ring, the journal, or the lake. What retention has removed is named (`missed`), never left out
//!   silently.
//! - I-4 clients, rings, turns at the journal and what a client may have on its way are bounded. A client that reads
//!   nothing is cut off by the deadline of writes that every connection has.
//! - I-5 nobody waits for a client: rings go on, and a feed or a client holds no reader while it waits.

mod block;
mod channel;
mod client;
mod cursor;
mod gate;
mod place;
mod ring;
mod shape;
mod socket;
mod sse;
mod stored;
mod turn;
mod wakings;
mod watching;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event::{Catalog, StreamName};
use journal::Journal;
use lake::Table;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use channel::{Pool, Source};
pub use client::Held;
pub use gate::Gate;
pub use shape::Shape;

use crate::Kept;

/// A comment goes to who got nothing for this long: below what proxies and browsers take for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often a WebSocket is pinged.
const PING_EVERY: Duration = Duration::from_secs(20);
/// After how many milliseconds a browser comes back.
const RETRY_MS: u32 = 1_000;
/// How long what a client has read for itself is kept for it.
const TURN_TIME: Duration = Duration::from_secs(10);

/// Bounds and defaults.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Most clients at once; one more gets 503.
    pub clients_max: usize,
    /// Bytes of the newest events that are kept for all of them together.
    pub memory_bytes: usize,
    /// Clients that read journal or lake for themselves at once.
    pub turns: usize,
    /// How far events of `/v1/streams/{stream}/tail` are shown, by stream; as far as the journal when absent.
    pub gates: HashMap<StreamName, Arc<dyn Gate>>,
    /// Says which events are kept, of streams whose ids are unique; without it those cannot be watched.
    pub kept: Option<Kept>,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            clients_max: 2_000,
            memory_bytes: 64 << 20,
            turns: 8,
            gates: HashMap::new(),
            kept: None,
        }
    }
}

/// A path of its own on which a stream can be watched by WebSocket.
#[derive(Clone, Debug)]
pub struct LiveRoute {
    /// The path.
    pub path: String,
    /// The stream.
    pub stream: StreamName,
    /// How its events are written; all of them when absent.
    pub shape: Option<Value>,
    /// How far they are shown.
    pub gate: Option<Arc<dyn Gate>>,
}

/// A declared path that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`WS {path}`: {message}")]
pub struct LiveError {
    /// The path.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// What those who watch share. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Arc<Pool>,
    /// By the stream's name.
    streams: BTreeMap<String, Source>,
    /// By path.
    routes: BTreeMap<String, Source>,
    clients: Arc<Semaphore>,
    clients_max: usize,
    closing: watch::Sender<bool>,
    /// WebSockets, which no connection owns any more.
    sessions: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    /// What can be watched of these streams. Nothing is read before somebody does.
    ///
    /// # Errors
    /// [`LiveError`] for a route whose stream or shape is wrong.
    pub fn new(
        catalog: &Catalog,
        journal: Arc<dyn Journal>,
        tables: &[Arc<Table>],
        routes: Vec<LiveRoute>,
        options: LiveOptions,
    ) -> Result<Self, LiveError> {
        let table_of = |stream: &event::StreamDeclaration| {
            let mut tables = tables.iter();
            tables
                .find(|table| table.declaration().name == stream.name)
                .map(Arc::clone)
        };
        let open = |stream: &Arc<event::StreamDeclaration>, shape, gate| {
            let (table, kept) = (table_of(stream), options.kept.clone());
            Source::new(Arc::clone(stream), shape, gate, table, kept)
        };
        let source = |stream: &Arc<event::StreamDeclaration>| {
            let gate = options.gates.get(&stream.name).map(Arc::clone);
            let source = open(stream, Shape::event(stream), gate);
            (stream.name.as_str().to_owned(), source)
        };
        let streams = catalog.iter().map(source).collect();
        let mut declared = BTreeMap::new();
        for route in routes {
            let error = |message: String| LiveError {
                path: route.path.clone(),
                message,
            };
            let stream = catalog.get(route.stream.as_str());
            let stream = stream.ok_or_else(|| error(format!("there is no stream `{}`", route.stream)))?;
            let shape = match &route.shape {
                Some(template) => Shape::parse(template, stream).map_err(error)?,
                None => Shape::event(stream),
            };
            let source = open(stream, shape, route.gate);
            declared.insert(route.path, source);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                pool: Arc::new(Pool::new(journal, options.memory_bytes, options.turns, TURN_TIME)),
                streams,
                routes: declared,
                clients: Arc::new(Semaphore::new(options.clients_max.min(Semaphore::MAX_PERMITS))),
                clients_max: options.clients_max,
                closing: watch::channel(false).0,
                sessions: Mutex::default(),
            }),
        })
    }

    /// Says that a shutdown has begun: streams end, sockets are closed with 1001, nobody is taken any more.
    pub fn close(&self) {
        self.inner.closing.send_replace(true);
    }

    /// Waits until the last socket has ended after [`Live::close`], which takes a second or two.
    pub async fn closed(&self) {
        let mut sessions = {
            let mut sessions = self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *sessions)
        };
        while sessions.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
