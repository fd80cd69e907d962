//! What the brokers say about topics: their ids, partitions and replicas.
//!
//! The id is what tells a topic from another one of the same name that was made after it was deleted. rdkafka 0.39
//! does not have this question of librdkafka's, so it is put to librdkafka here; no other file has unsafe code.
#![expect(
    unsafe_code,
    reason = "`rd_kafka_DescribeTopics` has no wrapper, and nothing else tells a topic's id"
)]

use std::ffi::{CStr, CString};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

/// For how long one look at the answers' queue waits, so that a stop is noticed.
const LOOK: Duration = Duration::from_millis(100);

/// The id of a topic: 16 bytes that the cluster gave it when it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TopicId(pub(super) u128);

/// As Kafka's own tools write it: base64 for URLs, without padding.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 128 bits are 21 digits and 2 bits, which stand at the upper end of the last digit.
        for place in 0..22_u32 {
            let bits = match place {
                21 => (self.0 << 4) & 0x3f,
                place => (self.0 >> (122 - 6 * place)) & 0x3f,
            };
            let digit = DIGITS[bits as usize];
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

/// What the brokers say about one topic.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) found: Result<Found, RDKafkaErrorCode>,
}

/// A topic that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    /// The fewest replicas that a partition of it has.
    pub(super) replicas: usize,
    /// Whether every partition has a leader.
    pub(super) led: bool,
}

/// Asks for some topics and waits for the answer, which comes from one broker. Blocks for `timeout` at most, and
/// ends sooner when `stopping` is set.
pub(super) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    timeout: Duration,
    stopping: &AtomicBool,
) -> Result<Vec<Description>, RDKafkaErrorCode> {
    let names: Result<Vec<CString>, _> = names.iter().map(|name| CString::new(name.as_str())).collect();
    let names = names.map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let deadline = Instant::now() + timeout + LOOK;

    // SAFETY: `client` outlives this function, and librdkafka's handle may be used from any thread. What is made
    // here is destroyed by its owner exactly once, the queue after everything that answers to it was asked. The
    // names are copied by `of_topic_names`.
    unsafe {
        let handle = client.native_ptr();
        let topics = Owned::new(
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            native::rd_kafka_TopicCollection_destroy,
        )?;
        let options = Owned::new(
            native::rd_kafka_AdminOptions_new(
                handle,
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            native::rd_kafka_AdminOptions_destroy,
        )?;
        let mut complaint = [0; 256];
        let set = native::rd_kafka_AdminOptions_set_request_timeout(
            options.0,
            milliseconds,
            complaint.as_mut_ptr(),
            complaint.len(),
        );
        check(set)?;
        let queue = Owned::new(native::rd_kafka_queue_new(handle), native::rd_kafka_queue_destroy)?;
        native::rd_kafka_DescribeTopics(handle, topics.0, options.0, queue.0);
        while Instant::now() < deadline && !stopping.load(Ordering::Relaxed) {
            let event = native::rd_kafka_queue_poll(queue.0, LOOK.as_millis() as i32);
            let Ok(event) = Owned::new(event, native::rd_kafka_event_destroy) else {
                continue;
            };
            if native::rd_kafka_event_type(event.0) == native::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT {
                return answers(&event);
            }
        }
    }
    Err(RDKafkaErrorCode::OperationTimedOut)
}

/// Something of librdkafka's that has to be destroyed.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        if pointer.is_null() {
            return Err(RDKafkaErrorCode::InvalidArgument);
        }
        Ok(Self(pointer, destroy))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` took a pointer that is not null, together with what destroys it, and nobody else has it.
        unsafe { (self.1)(self.0) }
    }
}

fn check(error: native::rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    match RDKafkaErrorCode::from(error) {
        RDKafkaErrorCode::NoError => Ok(()),
        other => Err(other),
    }
}

/// Takes the answers out of an event.
///
/// # Safety
/// The event must be of the type `DESCRIBETOPICS_RESULT`.
unsafe fn answers(event: &Owned<native::rd_kafka_event_t>) -> Result<Vec<Description>, RDKafkaErrorCode> {
    // SAFETY: the event is of the right type, and everything that is taken out of it lives as long as it does; what
    // is returned are copies. An array has as many elements as its count says, and none when it is null.
    unsafe {
        check(native::rd_kafka_event_error(event.0))?;
        let result = native::rd_kafka_event_DescribeTopics_result(event.0);
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let mut described = Vec::with_capacity(count);
        if !topics.is_null() {
            for topic in std::slice::from_raw_parts(topics, count) {
                described.push(description(*topic));
            }
        }
        Ok(described)
    }
}

/// Copies one topic's description.
///
/// # Safety
/// `topic` must point into an answer that is still alive.
unsafe fn description(topic: *const native::rd_kafka_TopicDescription_t) -> Description {
    // SAFETY: as for `answers`. A name and an id are always there; an error that is null is none.
    unsafe {
        let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic));
        let name = name.to_string_lossy().into_owned();
        let error = native::rd_kafka_error_code(native::rd_kafka_TopicDescription_error(topic));
        if let Err(error) = check(error) {
            return Description {
                name,
                found: Err(error),
            };
        }
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        let high = native::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
        let low = native::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
        let mut found = Found {
            id: TopicId(u128::from(high) << 64 | u128::from(low)),
            partitions: 0,
            replicas: usize::MAX,
            led: true,
        };
        let mut count = 0;
        let partitions = native::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        if !partitions.is_null() {
            found.partitions = u32::try_from(count).unwrap_or(u32::MAX);
            for partition in std::slice::from_raw_parts(partitions, count) {
                let mut replicas = 0;
                native::rd_kafka_TopicPartitionInfo_replicas(*partition, &raw mut replicas);
                found.replicas = found.replicas.min(replicas);
                found.led &= !native::rd_kafka_TopicPartitionInfo_leader(*partition).is_null();
            }
        }
        Description {
            name,
            found: Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_kafkas_tools_write_it() {
        assert_eq!(TopicId(0).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId(u128::MAX).to_string(), "_____________________w");
        // RFC 4648: the bytes `foobar` are `Zm9vYmFy`.
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(b"foobar");
        assert!(
            TopicId(u128::from_be_bytes(bytes))
                .to_string()
                .starts_with("Zm9vYmFyAAAA")
        );
    }
}
