//! How far a partition is, kept by the broker: the one message of a durable queue.
//!
//! ```text
//! <group>.<stream>.<partition>.position   {"journal": "…", "offset": 17}     one message; two after a crash
//! <group>.<stream>.<partition>.begun      nothing; that it is there means that there is a position
//! <group>.<stream>.<partition>.beginning  exclusive, for as long as one process makes the other two
//! ```
//!
//! To store a position is to publish the new message, wait for its confirmation, and acknowledge the old one. After a
//! crash in between there are two, of which the further one counts and the other one goes with the next.
//!
//! # Why a second queue
//! An empty queue may be a beginning, or a position that somebody holds in this moment. The second queue is declared
//! after the first position has been confirmed, so an empty queue is a beginning only as long as it is missing. Of several
//! processes that find it missing the one whose exclusive queue the third is stores the first position.

use event::{Offset, Partition, StreamDeclaration};
use lapin::message::BasicGetMessage;
use lapin::types::ShortString;
use serde_json::{Value, json};

use super::message::short;
use crate::database::StoredPosition;

/// The queues of one partition.
pub(super) struct Names {
    pub(super) position: ShortString,
    pub(super) begun: ShortString,
    /// Exclusive, and there for a moment only.
    pub(super) beginning: ShortString,
}

impl Names {
    pub(super) fn of(group: &str, stream: &StreamDeclaration, partition: Partition) -> Self {
        let name = |what: &str| short(&format!("{group}.{}.{partition}.{what}", stream.name));
        Self {
            position: name("position"),
            begun: name("begun"),
            beginning: name("beginning"),
        }
    }
}

/// The longest name that a queue of positions of this stream can have.
pub(super) fn longest_name(group: &str, stream: &StreamDeclaration) -> String {
    format!("{group}.{}.{}.beginning", stream.name, u32::MAX)
}

/// A position as a message's body.
pub(super) fn write(position: &StoredPosition) -> Vec<u8> {
    json!({ "journal": position.journal, "offset": position.offset.0 })
        .to_string()
        .into_bytes()
}

/// The furthest of the positions that messages say. One that says none is not ours, and counts for nothing.
pub(super) fn furthest(messages: &[BasicGetMessage]) -> Option<StoredPosition> {
    let positions = messages.iter().filter_map(|message| read(&message.data));
    positions.max_by_key(|position| position.offset)
}

fn read(body: &[u8]) -> Option<StoredPosition> {
    let value: Value = serde_json::from_slice(body).ok()?;
    Some(StoredPosition {
        journal: value.get("journal")?.as_str()?.to_owned(),
        offset: Offset(value.get("offset")?.as_u64()?),
    })
}
