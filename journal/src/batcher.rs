//! The batcher: merges the rows of small concurrent requests into one record.
//!
//! One task takes whatever waits, merges the rows of each stream, and appends all of it as one group; while that
//! is being written, the next requests gather. So a lone request pays one fsync, and a thousand concurrent ones pay
//! one together. Where requests are known to come often, a group waits a little for a few of them ([`gathering`]).
//! Large requests go straight through, since merging gains them nothing.

mod gathering;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow_select::concat::concat_batches;
use event::limits::{BATCH_BYTES_TARGET, RECORD_ROWS_MAX};
use event::{Batch, Position};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use self::gathering::{Gathering, Wait};
use crate::{AppendError, Journal};

/// Requests of at least so many bytes of columns go straight through: a write of 64 KiB costs less than a tenth
/// of an fsync, and above it merging would only copy.
const LARGE_REQUEST_BYTES: usize = 64 << 10;
/// Most small requests that wait, of however many connections they come.
const WAITING_MAX: usize = 65_536;
/// Most bytes of columns that those hold which wait or are being written.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// What a request counts at least: so [`WAITING_MAX`] of them are [`WAITING_BYTES_MAX`], and one bound is named.
const REQUEST_BYTES_MIN: usize = WAITING_BYTES_MAX / WAITING_MAX;
/// Most requests that are merged into one group.
const GROUP_REQUESTS_MAX: usize = 2_048;

/// Gathers small batches for as long as the previous write takes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Batcher {
    journal: Arc<dyn Journal>,
    waiting: mpsc::Sender<Request>,
    /// A permit for each byte that may wait.
    room: Arc<Semaphore>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

#[derive(Debug)]
struct Request {
    batches: Vec<Batch>,
    done: oneshot::Sender<Result<Vec<Position>, AppendError>>,
    /// Its bytes, given back when it is answered.
    _room: OwnedSemaphorePermit,
}

impl Batcher {
    /// A batcher in front of `journal`. Its task ends when the last clone is dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        let (waiting, requests) = mpsc::channel(WAITING_MAX);
        let task = tokio::runtime::Handle::current().spawn(run(Arc::clone(&journal), requests));
        Self {
            journal,
            waiting,
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            task: Arc::new(Mutex::new(Some(task))),
        }
    }

    /// The journal behind this batcher.
    #[must_use]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Appends the batches of one request, all of which become durable before this returns (I-1), and gives for
    /// each of them the position just after the record that holds its last row.
    ///
    /// # Errors
    /// [`AppendError`], as [`Journal::append`]; `QueueFull` when too many requests wait.
    ///
    /// # Cancellation
    /// The request is appended all the same, or not; no other request is touched.
    pub async fn append(&self, request: Vec<Batch>) -> Result<Vec<Position>, AppendError> {
        let bytes: usize = request.iter().map(Batch::bytes).sum();
        if bytes >= LARGE_REQUEST_BYTES {
            return self.journal.append(request).await;
        }
        let full = || AppendError::QueueFull {
            limit_bytes: WAITING_BYTES_MAX as u64,
        };
        // Below `LARGE_REQUEST_BYTES`.
        let room = bytes.max(REQUEST_BYTES_MIN) as u32;
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(room)
            .map_err(|_| full())?;
        let (done, answer) = oneshot::channel();
        self.waiting
            .try_send(Request {
                batches: request,
                done,
                _room: room,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => full(),
                mpsc::error::TrySendError::Closed(_) => AppendError::Closed,
            })?;
        answer.await.unwrap_or(Err(AppendError::Closed))
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        // The last clone takes the task's handle along; the task ends by itself when it has answered everyone.
        if Arc::strong_count(&self.task) == 1 {
            drop(self.task.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

async fn run(journal: Arc<dyn Journal>, mut requests: mpsc::Receiver<Request>) {
    let mut gathered = Vec::new();
    let mut gathering = Gathering::new();
    while requests.recv_many(&mut gathered, GROUP_REQUESTS_MAX).await > 0 {
        let mut wait = None;
        let before = gathered.len();
        if let Some(until) = gathering.until(before, Instant::now()) {
            let mut last = Instant::now();
            let more = async {
                // A timer's milliseconds are long: whoever comes ends a wait that is over, too.
                while gathered.len() < gathering.wanted()
                    && Instant::now() < until
                    && requests.recv_many(&mut gathered, GROUP_REQUESTS_MAX).await > 0
                {
                    last = Instant::now();
                }
            };
            // It is over when there are enough, when nobody is left to come, or when it took too long.
            let _ = timeout_at(until.into(), more).await;
            wait = Some(Wait { before, last });
        }
        gathering.begins(gathered.len(), Instant::now(), wait);
        let (group, places) = merge(&gathered);
        let appended = match group {
            Ok(group) => journal.append(group).await,
            Err(error) => Err(error),
        };
        for (request, places) in gathered.drain(..).zip(places) {
            // Somebody who has gone away does not hear of it.
            drop(request.done.send(outcome(&appended, &places)));
        }
    }
}

/// What one request of a group hears. Where only a part of the group is durable, a request whose own batches all
/// are is as good as any other.
fn outcome(
    appended: &Result<Vec<Position>, AppendError>,
    places: &[usize],
) -> Result<Vec<Position>, AppendError> {
    match appended {
        Ok(positions) => Ok(places.iter().map(|place| positions[*place]).collect()),
        Err(AppendError::Partial { durable, cause }) => {
            let durable: Vec<_> = places.iter().map(|place| durable[*place]).collect();
            if let Some(positions) = durable.iter().copied().collect() {
                return Ok(positions);
            }
            let cause = cause.clone();
            Err(if durable.iter().any(Option::is_some) {
                AppendError::Partial { durable, cause }
            } else {
                *cause
            })
        }
        Err(error) => Err(error.clone()),
    }
}

/// For each request the places of its batches in the merged group.
type Places = Vec<Vec<usize>>;

/// Merges batches of the same stream, partition and version, in the order of the requests, into as few as records allow.
fn merge(requests: &[Request]) -> (Result<Vec<Batch>, AppendError>, Places) {
    let mut groups: Vec<Vec<&Batch>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut sizes: Vec<(usize, usize)> = Vec::new();
    let mut place = |batch| -> usize {
        let batch: &Batch = batch;
        let same = |at: &&usize| {
            let first = groups[**at][0];
            first.partition == batch.partition
                && first.stream == batch.stream
                && first.version == batch.version
        };
        let found = open.iter().find(same).copied();
        let roomy = found.filter(|at| {
            let (rows, bytes) = sizes[*at];
            rows + batch.len() <= RECORD_ROWS_MAX && bytes + batch.bytes() <= BATCH_BYTES_TARGET
        });
        let at = roomy.unwrap_or_else(|| {
            open.retain(|at| Some(*at) != found);
            groups.push(Vec::new());
            sizes.push((0, 0));
            open.push(groups.len() - 1);
            groups.len() - 1
        });
        groups[at].push(batch);
        sizes[at] = (sizes[at].0 + batch.len(), sizes[at].1 + batch.bytes());
        at
    };
    let places = requests
        .iter()
        .map(|request| request.batches.iter().map(&mut place).collect())
        .collect();
    (groups.iter().map(|group| concat(group)).collect(), places)
}

fn concat(group: &[&Batch]) -> Result<Batch, AppendError> {
    let [first, ..] = group else {
        unreachable!("a group begins with a batch")
    };
    if group.len() == 1 {
        return Ok((*first).clone());
    }
    let rows = concat_batches(first.rows.schema_ref(), group.iter().map(|batch| &batch.rows));
    let rows = rows.map_err(|error| AppendError::Encode {
        message: error.to_string(),
    })?;
    let spans = group
        .iter()
        .flat_map(|batch| batch.spans.iter().cloned())
        .collect();
    Ok(Batch {
        stream: first.stream.clone(),
        partition: first.partition,
        version: first.version,
        spans,
        rows,
    })
}

#[cfg(test)]
mod tests {
    use event::{Offset, Partition};

    use super::*;

    #[test]
    fn of_a_group_that_is_durable_in_part_each_request_hears_what_became_of_its_own_batches() {
        let position = |offset| Position::new(Partition(0), Offset(offset));
        let cause = AppendError::Unavailable {
            message: "nobody answers".to_owned(),
        };
        let appended = Err(AppendError::Partial {
            durable: vec![Some(position(7)), None, Some(position(9))],
            cause: Box::new(cause),
        });
        let whole = outcome(&appended, &[2, 0]).expect("both are durable");
        assert_eq!(whole, [position(9), position(7)]);
        let nothing = outcome(&appended, &[1]).expect_err("its only batch is not");
        assert!(matches!(nothing, AppendError::Unavailable { .. }));
        let part = outcome(&appended, &[0, 1]).expect_err("one of two is not");
        let text = part.to_string();
        assert_eq!(
            text,
            "1 of 2 batches are durable, up to 0:7; the others: the journal is not available: nobody answers"
        );
    }
}
