//! Delivery reports: what became of each message, gathered to one answer for each batch (K-1).

use std::sync::{Arc, Mutex};

use event::{Offset, Partition};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::client::{Listener, Voice, log};
use super::error::describe;
use super::lock;
use super::topic::Topic;
use crate::AppendError;

/// Waits for one batch.
pub(super) type Answer = oneshot::Receiver<Result<Offset, AppendError>>;

/// The messages of one batch that are on their way.
pub(super) struct Delivery {
    topic: Arc<Topic>,
    progress: Mutex<Progress>,
    /// Given back with the last report of the last batch of the group.
    _room: Arc<OwnedSemaphorePermit>,
}

struct Progress {
    left: usize,
    /// The offset after the last message that was delivered.
    end: Option<Offset>,
    failed: usize,
    failure: Option<(RDKafkaErrorCode, usize)>,
    done: Option<oneshot::Sender<Result<Offset, AppendError>>>,
}

impl Delivery {
    /// So many messages of one batch, and where its answer comes.
    pub(super) fn new(
        topic: &Arc<Topic>,
        messages: usize,
        room: &Arc<OwnedSemaphorePermit>,
    ) -> (Arc<Self>, Answer) {
        let (done, answer) = oneshot::channel();
        let delivery = Arc::new(Self {
            topic: Arc::clone(topic),
            progress: Mutex::new(Progress {
                left: messages,
                end: None,
                failed: 0,
                failure: None,
                done: Some(done),
            }),
            _room: Arc::clone(room),
        });
        if messages == 0 {
            delivery.answer(&mut lock(&delivery.progress));
        }
        (delivery, answer)
    }

    /// Gives whether the offset is one that can be: reports of a partition come in the order of its offsets, unless
    /// the topic was made anew.
    fn delivered(&self, partition: i32, offset: i64) -> bool {
        let end = Offset(u64::try_from(offset).map_or(0, |offset| offset + 1));
        let partition = Partition(u32::try_from(partition).unwrap_or(u32::MAX));
        if !self.topic.reported(partition, end) {
            self.failed(1, RDKafkaErrorCode::UnknownTopicId, 0);
            return false;
        }
        self.topic.learn_end(partition, end);
        let mut progress = lock(&self.progress);
        progress.end = progress.end.max(Some(end));
        progress.left = progress.left.saturating_sub(1);
        self.answer(&mut progress);
        true
    }

    /// So many messages were not confirmed, the first of them of so many bytes.
    pub(super) fn failed(&self, messages: usize, code: RDKafkaErrorCode, bytes: usize) {
        let mut progress = lock(&self.progress);
        progress.failure.get_or_insert((code, bytes));
        progress.failed += messages;
        progress.left = progress.left.saturating_sub(messages);
        self.answer(&mut progress);
    }

    fn answer(&self, progress: &mut Progress) {
        if progress.left > 0 {
            return;
        }
        let Some(done) = progress.done.take() else { return };
        let answer = match (progress.failure, progress.end) {
            (None, Some(end)) => Ok(end),
            (Some((code, bytes)), _) => Err(append_error(&self.topic, code, bytes, progress.failed)),
            (None, None) => Err(AppendError::Encode {
                message: "a batch without rows".to_owned(),
            }),
        };
        // Somebody who has gone away does not hear of it.
        drop(done.send(answer));
    }
}

fn append_error(topic: &Topic, code: RDKafkaErrorCode, bytes: usize, messages: usize) -> AppendError {
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => {
            AppendError::TooLarge {
                record_bytes: bytes as u64,
                limit_bytes: event::limits::RECORD_BYTES_MAX as u64,
            }
        }
        RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => AppendError::Closed,
        code => AppendError::Unavailable {
            message: format!("{} ({messages} of topic `{}`)", describe(code), topic.name),
        },
    }
}

/// Takes the delivery reports, on librdkafka's behalf, in a thread of the producer's.
pub(super) struct Reports {
    listener: Listener,
}

impl Reports {
    pub(super) fn new(voice: &Arc<Voice>) -> Self {
        Self {
            listener: Listener {
                voice: Arc::clone(voice),
            },
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.heard(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Arc<Delivery>) {
        match result {
            Ok(message) => {
                if !delivery.delivered(message.partition(), message.offset()) {
                    self.listener.voice.ask_to_look();
                }
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                if matches!(
                    code,
                    RDKafkaErrorCode::UnknownTopic
                        | RDKafkaErrorCode::UnknownPartition
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                ) {
                    self.listener.voice.ask_to_look();
                }
                delivery.failed(1, code, message.payload_len());
            }
        }
    }
}
