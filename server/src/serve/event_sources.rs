//! Sources of events: from their configuration to running relays and consumers.

use std::sync::Arc;

use event::StreamDeclaration;
use journal::{Batcher, Journal};
use serde_json::{Value, json};
use sources::{
    OutboxOptions, QueueOptions, ResponsesOptions, SourceKind, SourceOptions, Sources, SourcesProgress,
};
use tokio::runtime::Handle;

use super::stages::StartError;
use crate::config::{Config, EventSourceConfig, EventSourceKind};

/// Starts every configured source. That what it reads is away is no error: it is tried again.
pub(super) fn start(
    config: &Config,
    journal: &Arc<dyn Journal>,
    declared: &[Arc<StreamDeclaration>],
) -> Result<Sources, StartError> {
    let options = config.sources.iter().filter_map(|source| {
        // The configuration names declared streams only.
        let stream = declared.iter().find(|stream| stream.name == source.stream)?;
        Some(SourceOptions {
            name: source.name.clone(),
            stream: Arc::clone(stream),
            kind: kind(source),
        })
    });
    let batcher = Batcher::new(Arc::clone(journal));
    Sources::start(&Handle::current(), &batcher, options.collect())
        .map_err(|error| StartError::Sources(error.into()))
}

fn kind(source: &EventSourceConfig) -> SourceKind {
    let url = source.url.reveal().to_owned();
    match &source.kind {
        EventSourceKind::Outbox(outbox) => SourceKind::Outbox(Box::new(OutboxOptions {
            url,
            table: outbox.table.clone(),
            id: outbox.id.clone(),
            columns: outbox.columns.clone(),
            state: outbox.state.clone(),
            order: outbox.order.clone(),
            schedule: outbox.schedule.clone(),
            batch: outbox.batch,
            responses: outbox.responses.as_ref().map(|responses| ResponsesOptions {
                url: responses.url.reveal().to_owned(),
                queue: responses.queue.queue.clone(),
                id: responses.id.clone(),
                status: responses.status.clone(),
                states: responses.states.clone(),
                prefetch: responses.queue.prefetch,
            }),
        })),
        EventSourceKind::Queue(queue) => SourceKind::Queue(QueueOptions {
            url,
            queue: queue.queue.clone(),
            prefetch: queue.prefetch,
        }),
    }
}

/// How the sources are, for the body of readiness. A source that is away does not make a process unready: what waits
/// there waits for it.
pub(super) fn state(progress: &SourcesProgress) -> Value {
    let parts = progress.read().into_iter().map(|part| {
        json!({
            "source": part.source,
            "part": part.part,
            "taken": part.taken,
            "refused": part.refused,
            "backlog_rows": part.backlog.map(|backlog| backlog.rows),
            "backlog_oldest_seconds": part.backlog.and_then(|backlog| backlog.oldest_s),
            "failing": part.failing,
            "stopped": part.stopped,
        })
    });
    Value::Array(parts.collect())
}
