//! Every bound that is not a setting (I-4), each with its reason.

/// Longest name of a stream or field, in bytes: what MySQL takes as an identifier. PostgreSQL takes 63 and would
/// cut the 64th without a word, so a destination there has to refuse such a name.
pub const NAME_BYTES_MAX: usize = 64;

/// Most fields of one stream: a Parquet footer and a Delta schema stay readable in a millisecond.
pub const FIELDS_MAX: usize = 256;

/// Most streams of one process; each has a table, a sink task and an open file.
pub const STREAMS_MAX: usize = 256;

/// Most values of one enum: they are compared by hash, and listed in errors and documentation.
pub const ENUM_VALUES_MAX: usize = 1_024;

/// Deepest nesting of a JSON value. RFC 8259 lets an implementation choose; parsers that recurse need less
/// than 2 MiB of stack at 64 levels, and no event of the five systems is deeper than 5.
pub const JSON_DEPTH_MAX: usize = 64;

/// Longest line, in bytes. Above it an "event" is a file, and one line must fit into a record many times.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Bytes of an envelope beside the events in it. It is kept until its end, and what goes into every event is read
/// from it: the same bound as for one event.
pub const ENVELOPE_BYTES_MAX: usize = LINE_BYTES_MAX;

/// Longest string when a field declares no `max_bytes`: what MySQL's TEXT takes.
pub const STRING_BYTES_MAX: usize = 65_535;

/// Largest inflated request body, in bytes (design §5).
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Largest compressed request body, in bytes: an honest body never grows by compression, save a few bytes.
pub const BODY_COMPRESSED_BYTES_MAX: usize = BODY_BYTES_MAX;

/// Rejects that an answer describes (I-1); all are counted.
pub const REJECTS_DESCRIBED_MAX: usize = 1_000;

/// Bytes of a rejected line that `_rejects` keeps: enough to see what it was.
pub const REJECT_RAW_BYTES_MAX: usize = 1_024;

/// Most rows of one record. 2^16 rows of a narrow stream are 2–4 MiB, past which larger records gain nothing
/// and readers hold more than they need.
pub const RECORD_ROWS_MAX: usize = 1 << 16;

/// Bytes of columns at which the decoder closes a batch and begins the next, so that a record of the widest
/// allowed events stays below `RECORD_BYTES_MAX`.
pub const BATCH_BYTES_TARGET: usize = 4 << 20;

/// Largest encoded record, in bytes. Kafka topics are created with this `max.message.bytes`.
///
/// A batch is closed by the line that crosses `BATCH_BYTES_TARGET`, so it is at most that and one line's
/// columns; a line's columns can be larger than the line because every column has a row of it.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(BATCH_BYTES_TARGET + 4 * LINE_BYTES_MAX <= RECORD_BYTES_MAX);
// What an envelope adds to a batch is at most `BATCH_BYTES_TARGET`, or one row's worth.
const _: () = assert!(2 * BATCH_BYTES_TARGET + 4 * LINE_BYTES_MAX + ENVELOPE_BYTES_MAX <= RECORD_BYTES_MAX);

/// Longest `Idempotency-Key`, in bytes: room for any uuid, hash or compound key that clients use.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
