//! Which events of a stream are duplicates: the one place where sinks and queries decide it, so that they always
//! decide alike.
//!
//! A stream with `unique = "event_id"` keeps all events with one id in one partition. There the first one in the order
//! of the journal is **kept**; a later one is a **duplicate** when the kept one is still known. A kept row *k* is
//! known to a later row *r* when all of this is true:
//!
//! - *r* was received less than the window after *k*: `r._received_at < k._received_at + window`;
//! - *k* is one of the last `ids_max` kept rows of the partition before *r*;
//! - *k* is not forgotten: nowhere between *k* and *r* were [`AGREEING`] kept rows in a row all received at least the
//!   window after *k*.
//!
//! # Why so
//! Whether a row is kept follows from the kept rows before it in its partition and from nothing else: not from the
//! clock of whoever asks, not from duplicates, not from where a file ends. So everybody who reads the journal decides
//! alike, and a process that starts finds out what is known from the lake's own rows, the newest first, and may stop
//! as soon as [`LookBack`] says that all older rows are forgotten (U-1).
//!
//! Arrival times do not rise strictly: a slow request is in the journal after a quicker one that came later, and two
//! processes' clocks differ. Nothing hangs on their order. One row with a clock that is far ahead makes nobody forget
//! anything, which is what [`AGREEING`] is for; a clock that goes back only makes ids known for longer.
//!
//! # Memory
//! [`Seen`] has 24 bytes and an entry of a hash table for each known id (measured: `benches/README.md`), at most
//! `ids_max` of them (I-4): beyond, the oldest are forgotten before their time. A uuid or an int is kept as it is; of a
//! text 128 bits of a keyed hash are kept, with a key that each process draws anew, so nobody can make two texts meet.

mod id;
mod seen;

pub use id::{Id, Ids};
pub use seen::{LookBack, Seen};

/// How many kept rows in a row must have come later than the window before an id is forgotten. More than what one
/// person's phone with a wrong clock sends in a row into a topic of JSON; so few ids are kept longer than needed that
/// it costs nothing.
pub const AGREEING: usize = 64;

#[cfg(test)]
mod tests;
