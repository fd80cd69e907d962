//! The running server: every stage of the configured roles, the sockets in front of them, and their ordered end.
//!
//! ```text
//! start:     data_dir ► catalog ► journal (recovery) ► lake ► sink ► assign ► analytics ► ingest ► sockets
//! shutdown:  sockets, sources ► requests in flight ► assign ► sink: read on, roll, commit ► journal   (I-7)
//! ```
//!
//! Each part is stopped when everything that feeds it has ended, and whoever is late is named every 5 s.

mod admin;
mod assigning;
mod catalog;
mod cors;
mod credit;
mod data_directory;
mod demo;
mod destinations;
mod docs;
mod event_sources;
mod live;
mod metrics;
mod needs;
mod open_journal;
mod openapi;
mod priority;
mod problem;
mod readiness;
mod rollups;
mod routes;
mod signals;
mod sockets;
pub(crate) mod sql_workers;
mod stages;
mod starting;
mod timed;
mod tls;
mod views;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ingest::http::{HttpOptions, Pace};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::access::{Access, AccessError, keep_fresh};
use crate::config::Config;
pub use catalog::CatalogError;
pub(crate) use credit::watch_credit;
pub(crate) use data_directory::{adopt_tables, open_sql_worker, open_tables, read_only_router};
pub(crate) use open_journal::journal_directory;
pub(crate) use priority::let_others_go_first;
use routes::{Front, Routes};
pub(crate) use signals::Signals;
pub(crate) use sockets::raise_open_files;
use stages::Stages;
pub use stages::StartError;
use tls::Tls;

/// How often a shutdown says whom it waits for.
const LATE_EVERY: Duration = Duration::from_secs(5);

/// Where the life of a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Everything is taken.
    Serving,
    /// Nothing new is accepted, what is in flight finishes.
    Draining,
    /// What has not finished by now is dropped.
    Cut,
}

/// A server that answers on its addresses. Dropping it ends it as a crash would, which loses nothing that was
/// acknowledged; [`Server::shutdown`] ends it in order.
pub struct Server {
    addresses: Vec<SocketAddr>,
    phase: watch::Sender<Phase>,
    acceptors: JoinSet<()>,
    connections: TaskTracker,
    upkeep: JoinSet<()>,
    front: Arc<Front>,
    stages: Stages,
    shutdown_timeout: Duration,
}

impl Server {
    /// Opens everything, recovers what a crash left, and returns once every request is answered. Every address is listened
    /// on from the first moment; until then requests are told to come again. Waits for Kafka for as long as it takes.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let recorder = metrics::recorder().map_err(StartError::Metrics)?;
        let (access, tls) = open_access(&config)?;
        let listeners = sockets::bind(&config.listen).map_err(StartError::Listen)?;
        let addresses = listeners
            .iter()
            .map(tokio::net::TcpListener::local_addr)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StartError::Listen(format!("ask for the address that was bound: {error}")))?;
        let mut upkeep = JoinSet::new();
        let recorded = recorder.clone();
        upkeep.spawn(async move {
            let mut ticks = tokio::time::interval(metrics::UPKEEP_EVERY);
            loop {
                ticks.tick().await;
                recorded.run_upkeep();
            }
        });

        let reloads = access.as_ref().map(Access::reload);
        let reloads: Vec<_> = reloads.into_iter().chain(tls.as_ref().map(Tls::reload)).collect();
        if !reloads.is_empty() {
            upkeep.spawn(keep_fresh(reloads));
        }
        let front = Arc::new(Front {
            routes: OnceLock::new(),
            options: http_options(&config),
            tls,
        });
        let phase = watch::channel(Phase::Serving).0;
        let places = sockets::connections_max(config.ingest.connections);
        let places = Arc::new(Semaphore::new(
            usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS),
        ));
        let connections = TaskTracker::new();
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            let front = Arc::clone(&front);
            let (tracker, ending) = (connections.clone(), phase.subscribe());
            let handle = move |accepted| {
                let connection = routes::serve(Arc::clone(&front), accepted, ending.clone());
                tracker.spawn(connection);
            };
            acceptors.spawn(sockets::accept(
                listener,
                Arc::clone(&places),
                phase.subscribe(),
                handle,
            ));
        }
        let mut stages = stages::open(&config).await?;
        let routes = Routes::new(&mut stages, &config, recorder, access);
        front.routes.get_or_init(|| Arc::new(routes));
        tracing::info!(?addresses, data_dir = %config.data_dir.display(), "serving");
        Ok(Self {
            addresses,
            phase,
            acceptors,
            connections,
            upkeep,
            front,
            stages,
            shutdown_timeout: config.shutdown_timeout,
        })
    }

    /// Where it listens, with the ports that were chosen where the configuration says 0.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What a URL of it begins with: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.front.tls.is_some() { "https" } else { "http" }
    }

    /// Waits until the journal or the lake takes nothing any more, and gives the reason (I-8). For ever when all is
    /// well.
    pub async fn journal_stopped(&self) -> String {
        tokio::select! {
            reason = self.journal_poisoned() => reason,
            reason = self.stages.lake_stopped() => reason,
        }
    }

    async fn journal_poisoned(&self) -> String {
        self.stages.journal_health().poisoned().await
    }

    /// Ends in flow order within the configured time. Gives whether everything was through by then; what was
    /// not is in the journal, and is done after the next start.
    pub async fn shutdown(self) -> bool {
        let limit = self.shutdown_timeout;
        let ended = timeout(limit, self.end_in_order()).await;
        if ended.is_err() {
            tracing::error!(
                limit_s = limit.as_secs(),
                "shutdown took too long and was cut short"
            );
        }
        ended.unwrap_or(false)
    }

    async fn end_in_order(mut self) -> bool {
        if let Some(routes) = self.front.routes.get() {
            routes.drain();
        }
        self.phase.send_replace(Phase::Draining);
        while self.acceptors.join_next().await.is_some() {}
        self.finish_requests().await;
        if let Some(live) = self.front.routes.get().and_then(|routes| routes.live()) {
            live.closed().await;
        }
        self.upkeep.shutdown().await;
        // The routes hold the stages; the last connection may still let go of them.
        drop(self.front);
        self.stages.shutdown().await;
        true
    }

    /// Waits for requests in flight, for half of the time that a shutdown has: the rest is for the sink. Who has not
    /// sent or read all by then, or asks for more than that takes, has had no success answer and is cut off.
    async fn finish_requests(&self) {
        self.connections.close();
        let begun = Instant::now();
        let limit = self.shutdown_timeout / 2;
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                tracing::warn!(
                    connections = self.connections.len(),
                    "connections did not end in time and are cut off"
                );
                self.phase.send_replace(Phase::Cut);
                self.connections.wait().await;
                return;
            }
            if timeout(left.min(LATE_EVERY), self.connections.wait())
                .await
                .is_ok()
            {
                return;
            }
            tracing::warn!(
                connections = self.connections.len(),
                waited_s = begun.elapsed().as_secs(),
                "shutdown waits for requests in flight"
            );
        }
    }
}

/// Whether tokens and certificates can be used.
///
/// # Errors
/// [`AccessError`] of the first that cannot.
pub(crate) fn check_access(config: &Config) -> Result<(), AccessError> {
    if let Some(file) = &config.access.tokens_file {
        Access::open(file.clone())?;
    }
    if let Some(files) = &config.access.tls {
        Tls::open(files)?;
    }
    Ok(())
}

/// Reads tokens and certificates, and says what others can do when they reach a listener.
fn open_access(config: &Config) -> Result<(Option<Access>, Option<Tls>), StartError> {
    let access = config.access.tokens_file.clone().map(Access::open).transpose()?;
    let tls = config.access.tls.as_ref().map(Tls::open).transpose()?;
    let remote = config.listen.iter().find(|address| !address.ip().is_loopback());
    if let Some(address) = remote {
        match (&access, &tls) {
            (None, _) => {
                tracing::warn!(%address, "whoever reaches this address may do everything: there are no tokens")
            }
            (Some(_), None) => {
                tracing::warn!(%address, "tokens and events travel in plain: there is no certificate");
            }
            (Some(_), Some(_)) => {}
        }
    }
    Ok((access, tls))
}

/// How connections are served.
fn http_options(config: &Config) -> HttpOptions {
    HttpOptions {
        head_timeout: config.ingest.head_timeout,
        idle_timeout: config.ingest.idle_timeout,
        pace: Pace {
            idle: config.ingest.body_timeout,
            ..Pace::default()
        },
        ..HttpOptions::default()
    }
}
