//! The journal that is configured, opened: files of this machine or topics of Kafka.
//!
//! Everything behind it sees `dyn Journal`; what differs is here: how it is opened, whether it takes events, and how it
//! is closed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use event::StreamDeclaration;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions, Health};
use journal::kafka::{KafkaHealth, KafkaJournal, KafkaOptions, OpenError};
use journal::{ChainedJournal, Journal};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

use super::stages::StartError;
use crate::config::{Config, JournalKind};

/// The embedded journal's directory in the data directory.
const DIRECTORY: &str = "journal";

/// The first and the longest wait between two tries when no broker answers.
const AWAY_FIRST: Duration = Duration::from_secs(1);
const AWAY_LONGEST: Duration = Duration::from_secs(10);

/// An open journal.
#[derive(Clone)]
pub(super) struct OpenJournal {
    kind: Kind,
    /// As everybody behind it sees it.
    journal: Arc<dyn Journal>,
}

#[derive(Clone)]
enum Kind {
    /// In files of this machine.
    Embedded(Arc<EmbeddedJournal>),
    /// In topics.
    Kafka(Arc<KafkaJournal>),
}

/// Whether a journal takes events, now and later.
#[derive(Clone, Debug)]
pub(super) enum JournalHealth {
    /// Of the embedded one.
    Embedded(watch::Receiver<Health>),
    /// Of the one on Kafka.
    Kafka(watch::Receiver<KafkaHealth>),
    /// This process has none, and needs none.
    Absent,
}

impl OpenJournal {
    /// Opens it; the embedded one for writing or for reading beside a process that writes. Its thread is started by
    /// one of `runtime`, and goes first when that does.
    pub(super) async fn open(
        config: &Config,
        streams: &[Arc<StreamDeclaration>],
        writes: bool,
        runtime: &Handle,
    ) -> Result<Self, StartError> {
        let (kind, journal): (Kind, Arc<dyn Journal>) = match config.journal.kind {
            JournalKind::Embedded => {
                let journal = open_embedded(config, writes, runtime).await?;
                (Kind::Embedded(Arc::clone(&journal)), journal)
            }
            JournalKind::Kafka => {
                let journal = open_kafka(config, streams).await?;
                (Kind::Kafka(Arc::clone(&journal)), journal)
            }
        };
        let journal = ChainedJournal::over(journal, streams);
        Ok(Self { kind, journal })
    }

    /// The same, and waits for brokers for as long as it takes: processes may be started in any order.
    pub(super) async fn open_patiently(
        config: &Config,
        streams: &[Arc<StreamDeclaration>],
        writes: bool,
        runtime: &Handle,
    ) -> Result<Self, StartError> {
        let mut wait = AWAY_FIRST;
        loop {
            match Self::open(config, streams, writes, runtime).await {
                Err(StartError::Journal(error)) if is_away(error.as_ref()) => {
                    let wait_s = wait.as_secs();
                    tracing::warn!(%error, wait_s, "waits for kafka; until then every request is 503");
                    sleep(wait).await;
                    wait = wait.saturating_mul(2).min(AWAY_LONGEST);
                }
                opened => return opened,
            }
        }
    }

    /// The contract.
    pub(super) fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.journal)
    }

    /// Whether it takes events.
    pub(super) fn health(&self) -> JournalHealth {
        match &self.kind {
            Kind::Embedded(journal) => JournalHealth::Embedded(journal.health()),
            Kind::Kafka(journal) => JournalHealth::Kafka(journal.health()),
        }
    }

    /// Waits for what is under way, and takes nothing any more.
    pub(super) async fn close(&self) {
        match &self.kind {
            Kind::Embedded(journal) => journal.close().await,
            Kind::Kafka(journal) => journal.close().await,
        }
    }
}

impl JournalHealth {
    /// Whether it can be written, or read where `takes_events` is false; and the reason why not.
    pub(super) fn check(&self, takes_events: bool) -> Result<(), String> {
        match self {
            Self::Embedded(health) => match &*health.borrow() {
                Health::Poisoned(error) => Err(error.to_string()),
                _ if !takes_events => Ok(()),
                Health::Writable => Ok(()),
                Health::ReadOnly => Err("the journal is open for reading only".to_owned()),
                Health::DiskReserve => Err("the disk has no more free than its reserve".to_owned()),
            },
            Self::Kafka(health) => match &*health.borrow() {
                KafkaHealth::Reachable => Ok(()),
                KafkaHealth::Unreachable { message, .. } | KafkaHealth::Replaced { message } => {
                    Err(message.clone())
                }
            },
            Self::Absent => Ok(()),
        }
    }

    /// Waits until only a restart helps, and gives the reason (I-8). For ever when all is well, and on Kafka, where
    /// brokers come back and nothing has to be recovered here.
    pub(super) async fn poisoned(&mut self) -> String {
        if let Self::Embedded(health) = self {
            let poisoned = health
                .wait_for(|health| matches!(health, Health::Poisoned(_)))
                .await;
            if let Ok(health) = poisoned
                && let Health::Poisoned(error) = &*health
            {
                return error.to_string();
            }
        }
        // The journal was closed in order, or never stops.
        std::future::pending().await
    }
}

/// Whether no broker answered, rather than said something that somebody must mend.
fn is_away(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::Unreachable { .. }))
}

/// Opens the embedded journal on a thread for such work: after a crash it reads the last segment.
async fn open_embedded(
    config: &Config,
    writes: bool,
    runtime: &Handle,
) -> Result<Arc<EmbeddedJournal>, StartError> {
    let options = EmbeddedOptions {
        directory: journal_directory(config),
        segment_bytes: config.journal.segment_bytes,
        queue_bytes: usize::try_from(config.journal.queue_bytes).unwrap_or(usize::MAX),
        retain: config.journal.retain,
        disk_reserve_bytes: config.journal.disk_reserve_bytes,
    };
    let open = move || {
        if writes {
            EmbeddedJournal::open(options)
        } else {
            EmbeddedJournal::open_read_only(options)
        }
    };
    let opened = runtime.spawn(async { tokio::task::spawn_blocking(open).await });
    let opened = opened.await.and_then(|opened| opened);
    let journal = opened
        .map_err(|error| StartError::Thread(error.to_string()))?
        .map_err(|error| StartError::Journal(error.into()))?;
    let recovered = journal.recovered();
    tracing::info!(
        id = %journal.id(),
        generation = recovered.generation,
        segments = recovered.segments,
        bytes_cut = recovered.bytes_cut,
        "journal is open"
    );
    Ok(journal)
}

async fn open_kafka(
    config: &Config,
    streams: &[Arc<StreamDeclaration>],
) -> Result<Arc<KafkaJournal>, StartError> {
    let kafka = &config.journal.kafka;
    let options = KafkaOptions {
        topic_prefix: kafka.topic_prefix.clone(),
        partitions: kafka.partitions.unwrap_or(0),
        replication: kafka.replication,
        retention: kafka.retention,
        create_topics: kafka.create_topics,
        timeout: kafka.timeout,
        queue_bytes: usize::try_from(config.journal.queue_bytes).unwrap_or(usize::MAX),
        session_timeout: kafka.session_timeout,
        properties: kafka.properties.0.clone(),
        ..KafkaOptions::new(kafka.brokers.clone())
    };
    let opened = KafkaJournal::open(options, streams).await;
    let journal = opened.map_err(|error| StartError::Journal(error.into()))?;
    tracing::info!(id = %journal.id(), topics = streams.len(), "journal is open");
    Ok(journal)
}

/// Where the embedded journal of a data directory is.
pub(crate) fn journal_directory(config: &Config) -> PathBuf {
    config.data_dir.join(DIRECTORY)
}
