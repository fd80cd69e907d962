//! Lanes: librdkafka's clients that readers share.
//!
//! A lane reads any number of partitions, each at one position; a reader takes a place on the first lane where its
//! partition is free. So there are as many lanes as there are readers of one partition at a time, however many
//! partitions and streams there are. Every place has a queue of its own: who does not read holds up nobody.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::{Offset, Partition};
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::Notify;

use super::client::{Consumer, Listener, create};
use super::error::read_error;
use super::health::serve;
use super::lock;
use super::topic::Topic;
use crate::ReadError;

/// Most lanes, so most readers of one partition at a time; whoever comes later waits for a place.
const LANES_MAX: usize = 64;
/// Lanes without a reader that stay for the next one.
const LANES_IDLE_MAX: usize = 4;

/// All lanes of a journal.
pub(super) struct Lanes {
    config: ClientConfig,
    listener: Listener,
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// Told when a place becomes free.
    freed: Notify,
}

/// One client.
struct Lane {
    consumer: Arc<Consumer>,
    taken: Mutex<HashSet<(String, Partition)>>,
}

/// A reader's place on a lane: the queue of one partition from an offset on.
pub(super) struct Place {
    /// Until it is given back.
    seat: Option<Seat>,
    /// Told when the queue is not empty any more.
    pub(super) filled: Arc<Notify>,
}

/// What has to be given back.
struct Seat {
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
    queue: Option<PartitionQueue<Listener>>,
    key: (String, Partition),
}

impl Lanes {
    pub(super) fn new(config: ClientConfig, listener: Listener) -> Self {
        Self {
            config,
            listener,
            lanes: Mutex::new(Vec::new()),
            freed: Notify::new(),
        }
    }

    /// Takes a place, and waits for one when every lane reads that partition already.
    pub(super) async fn take(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        partition: Partition,
        from: Offset,
    ) -> Result<Place, ReadError> {
        loop {
            let freed = self.freed.notified();
            let (lanes, name) = (Arc::clone(self), topic.name.clone());
            let taken = tokio::task::spawn_blocking(move || lanes.try_take(name, partition, from)).await;
            match taken.map_err(|_| ReadError::Closed)?? {
                Some(place) => return Ok(place),
                None => freed.await,
            }
        }
    }

    fn try_take(
        self: &Arc<Self>,
        topic: String,
        partition: Partition,
        from: Offset,
    ) -> Result<Option<Place>, ReadError> {
        let key = (topic, partition);
        let Some(lane) = self.lane_for(&key)? else {
            return Ok(None);
        };
        // From here on the place is given back when it is dropped, whatever happens.
        let filled = Arc::new(Notify::new());
        let seat = Seat {
            lanes: Arc::clone(self),
            lane,
            queue: None,
            key,
        };
        let mut place = Place {
            seat: Some(seat),
            filled: Arc::clone(&filled),
        };
        if let Some(seat) = &mut place.seat {
            seat.begin(from, filled)?;
        }
        Ok(Some(place))
    }

    /// A lane on which the partition is free, marked as taken there.
    fn lane_for(&self, key: &(String, Partition)) -> Result<Option<Arc<Lane>>, ReadError> {
        let mut lanes = lock(&self.lanes);
        for lane in lanes.iter() {
            if lock(&lane.taken).insert(key.clone()) {
                return Ok(Some(Arc::clone(lane)));
            }
        }
        if lanes.len() >= LANES_MAX {
            return Ok(None);
        }
        let consumer =
            create(&self.config, self.listener.clone()).map_err(|error| ReadError::Unavailable {
                message: error.to_string(),
            })?;
        let lane = Arc::new(Lane {
            consumer: Arc::new(consumer),
            taken: Mutex::new(HashSet::from([key.clone()])),
        });
        lanes.push(Arc::clone(&lane));
        metrics::gauge!("tidemill_journal_kafka_lanes").set(lanes.len() as f64);
        Ok(Some(lane))
    }

    /// Serves what the clients have to say besides records.
    pub(super) fn serve(&self) {
        let lanes: Vec<_> = lock(&self.lanes).clone();
        for lane in lanes {
            serve(&lane.consumer, Duration::ZERO);
        }
    }

    /// Ends every lane that has no reader. Blocks.
    pub(super) fn close(&self) {
        let ended = std::mem::take(&mut *lock(&self.lanes));
        drop(ended);
    }

    /// Takes a lane away when it and enough others have no readers. Its end waits for threads of its own.
    fn remove_idle(&self) -> Option<Arc<Lane>> {
        let mut lanes = lock(&self.lanes);
        let idle = |lane: &Arc<Lane>| lock(&lane.taken).is_empty();
        if lanes.iter().filter(|lane| idle(lane)).count() <= LANES_IDLE_MAX {
            return None;
        }
        let at = lanes.iter().rposition(idle)?;
        let removed = lanes.remove(at);
        metrics::gauge!("tidemill_journal_kafka_lanes").set(lanes.len() as f64);
        Some(removed)
    }
}

impl Seat {
    fn begin(&mut self, from: Offset, filled: Arc<Notify>) -> Result<(), ReadError> {
        let (topic, partition) = (&self.key.0, self.key.1.0 as i32);
        // Before it is assigned, so that none of its records goes to the client's common queue.
        let queue = self.lane.consumer.split_partition_queue(topic, partition);
        let mut queue = queue.ok_or_else(|| ReadError::Unavailable {
            message: format!("no queue for partition {partition} of topic `{topic}`"),
        })?;
        queue.set_nonempty_callback(move || filled.notify_one());
        self.queue = Some(queue);
        let at = self.list(Some(from)).map_err(|error| read_error(&error))?;
        let assigned = self.lane.consumer.incremental_assign(&at);
        assigned.map_err(|error| read_error(&error))
    }

    fn list(&self, from: Option<Offset>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        let (topic, partition) = (&self.key.0, self.key.1.0 as i32);
        match from.map(|from| i64::try_from(from.0).unwrap_or(i64::MAX)) {
            Some(from) => list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(from))?,
            None => {
                list.add_partition(topic, partition);
            }
        }
        Ok(list)
    }

    /// Stops reading, so that the partition can be taken again. Blocks for as long as librdkafka's threads need.
    fn end(mut self) {
        if let Some(queue) = self.queue.take() {
            let list = self.list(None);
            let ended = list.and_then(|list| self.lane.consumer.incremental_unassign(&list));
            if let Err(error) = ended {
                tracing::debug!(%error, topic = self.key.0, "a reader's end");
            }
            // What was fetched for this reader is of no use to the next.
            while let Some(left) = queue.poll(Duration::ZERO) {
                drop(left);
            }
        }
        lock(&self.lane.taken).remove(&self.key);
        self.lanes.freed.notify_one();
        drop(self.lanes.remove_idle());
    }
}

impl Place {
    /// The queue of the partition.
    pub(super) fn queue(&self) -> Option<&PartitionQueue<Listener>> {
        self.seat.as_ref()?.queue.as_ref()
    }
}

impl Drop for Place {
    /// A reader may end in the middle of a task, so its end is made on a thread that may block, where there is one.
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || seat.end())),
            Err(_) => seat.end(),
        }
    }
}
