//! Every setting: its key, what may be written there, its default, and what it is for.
//!
//! One table, from which unknown keys are told from known ones, values are checked, environment variables get
//! their names and `tidemill check` prints; so none of them can disagree.

use std::time::Duration;

use super::cors::{AGE_DEFAULT, AGE_MAX};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key with dots, as `lake.roll.size`.
    pub key: &'static str,
    /// What may be written there.
    pub kind: Kind,
    /// What holds when nothing is written, as it would be written.
    pub default: &'static str,
    /// What it is for.
    pub about: &'static str,
}

/// What may be written for a setting. Bounds are inclusive.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text; empty when absent.
    Text,
    /// A text that is not shown; empty when absent.
    Secret,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count(u64, u64),
    /// A size with a unit.
    Bytes(u64, u64),
    /// A time with a unit.
    Span(Duration, Duration),
    /// One of some words.
    Word(&'static [&'static str]),
    /// One or several of some words.
    Words(&'static [&'static str]),
    /// Any texts; none when absent.
    Texts,
    /// One or several socket addresses.
    Addresses,
    /// A table of texts under names of somebody else's; no variable sets it, and its secrets are not shown.
    Properties,
}

impl Setting {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("TIDEMILL_{}", self.key.to_ascii_uppercase().replace('.', "_"))
    }

    /// The setting of that key.
    #[must_use]
    pub fn of(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

const fn setting(key: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Setting {
    Setting {
        key,
        kind,
        default,
        about,
    }
}

/// The words of `roles`.
pub(super) const ROLES: &[&str] = &["all", "ingest", "sink", "analytics", "sources", "assign"];

/// Every setting, in the order in which they are printed.
pub const SETTINGS: &[Setting] = &[
    setting(
        "listen",
        Kind::Addresses,
        "127.0.0.1:8080",
        "addresses to listen on; every route answers on each",
    ),
    setting(
        "allow_remote",
        Kind::Flag,
        "false",
        "allow listeners that other machines reach although there are no tokens",
    ),
    setting(
        "tokens_file",
        Kind::Text,
        "",
        "who may do what (`tidemill token new`); everybody may do everything when absent",
    ),
    setting(
        "data_dir",
        Kind::Text,
        "./tidemill-data",
        "directory of journal, catalog and, unless `lake.url` says otherwise, lake",
    ),
    setting("roles", Kind::Words(ROLES), "all", "what this process does"),
    setting(
        "shutdown_timeout",
        Kind::Span(s(1), s(600)),
        "30s",
        "an ordered shutdown takes at most this long",
    ),
    setting(
        "tls.certificate_file",
        Kind::Text,
        "",
        "PEM with the certificate and its chain: speak HTTPS; plain HTTP when absent",
    ),
    setting(
        "tls.key_file",
        Kind::Text,
        "",
        "PEM with the private key of the certificate",
    ),
    setting(
        "cors.origins",
        Kind::Texts,
        "",
        "origins of web pages that may talk to every route, as \"https://shop.example\" or \"*\"; none when empty",
    ),
    setting(
        "cors.credentials",
        Kind::Flag,
        "false",
        "browsers may send such pages' requests with cookies, and beacons in JSON; origins must be named then",
    ),
    setting(
        "cors.headers",
        Kind::Texts,
        "",
        "headers that such pages may send; those that some route looks at when empty",
    ),
    setting(
        "cors.max_age",
        Kind::Span(ms(0), AGE_MAX),
        AGE_DEFAULT,
        "for how long a browser need not ask again",
    ),
    setting(
        "journal.kind",
        Kind::Word(&["embedded", "kafka"]),
        "embedded",
        "where accepted events become durable",
    ),
    setting(
        "journal.segment_size",
        Kind::Bytes(20 * MIB, 4 * GIB),
        "128MiB",
        "size of one segment file",
    ),
    setting(
        "journal.retain",
        Kind::Span(ms(0), s(3650 * DAY)),
        "0s",
        "records stay this long although the lake has them",
    ),
    setting(
        "journal.disk_reserve",
        Kind::Bytes(0, 1024 * TIB),
        "512MiB",
        "ingest answers 503 when less is free on the disk",
    ),
    setting(
        "journal.queue",
        Kind::Bytes(128 * MIB, 64 * GIB),
        "256MiB",
        "bytes of records that may wait to be written",
    ),
    setting(
        "journal.kafka.brokers",
        Kind::Text,
        "127.0.0.1:9092",
        "brokers to begin with, as \"host:port,host:port\"",
    ),
    setting(
        "journal.kafka.topic_prefix",
        Kind::Text,
        "tidemill.",
        "a stream's topic is this and its name, unless it names one",
    ),
    setting(
        "journal.kafka.create_topics",
        Kind::Flag,
        "true",
        "make topics that are missing",
    ),
    setting(
        "journal.kafka.partitions",
        Kind::Count(0, 10_000),
        "0",
        "partitions of each topic; 0 takes what is there, and the broker's default for a new one",
    ),
    setting(
        "journal.kafka.replication",
        Kind::Count(0, 100),
        "0",
        "replicas of each topic; 0 as for partitions",
    ),
    setting(
        "journal.kafka.retention",
        Kind::Span(ms(0), s(3650 * DAY)),
        "0s",
        "the broker keeps records this long; 0s as for partitions",
    ),
    setting(
        "journal.kafka.timeout",
        Kind::Span(s(1), s(300)),
        "10s",
        "what the broker has not taken by then is answered 503",
    ),
    setting(
        "journal.kafka.session_timeout",
        Kind::Span(s(1), s(300)),
        "6s",
        "partitions of a sink that is silent this long go to another one",
    ),
    setting(
        "journal.kafka.sasl_password_file",
        Kind::Text,
        "",
        "file with the password of `sasl.password`",
    ),
    setting(
        "journal.kafka.properties",
        Kind::Properties,
        "",
        "anything else for librdkafka, by its own names",
    ),
    setting(
        "lake.url",
        Kind::Text,
        "",
        "directory of the lake, a file:// or an s3:// URL; data_dir/lake when absent",
    ),
    setting(
        "lake.group",
        Kind::Text,
        "tidemill.lake",
        "sinks of this consumer group share the partitions of the lake",
    ),
    setting(
        "lake.lz4",
        Kind::Flag,
        "false",
        "lz4_raw in place of zstd(1) for text: faster, larger",
    ),
    setting(
        "lake.row_group_rows",
        Kind::Count(1_024, 1 << 24),
        "1048576",
        "rows of one Parquet row group",
    ),
    setting(
        "lake.keep_removed",
        Kind::Span(s(60), s(365 * DAY)),
        "15m",
        "removed files stay this long for running queries",
    ),
    setting(
        "lake.roll.size",
        Kind::Bytes(MIB, 4 * GIB),
        "128MiB",
        "a file is committed at about this size",
    ),
    setting(
        "lake.roll.every",
        Kind::Span(ms(100), s(DAY)),
        "60s",
        "a file is committed when its first row is this old",
    ),
    setting(
        "lake.roll.tail",
        Kind::Bytes(MIB, 64 * GIB),
        "256MiB",
        "most bytes of records in open files of all streams",
    ),
    setting(
        "lake.compact.every",
        Kind::Span(ms(0), s(DAY)),
        "60s",
        "time between compactions of a table; 0s means never",
    ),
    setting(
        "lake.compact.small",
        Kind::Bytes(0, 4 * GIB),
        "64MiB",
        "neighbouring files below this size are merged",
    ),
    setting(
        "lake.compact.target",
        Kind::Bytes(MIB, 4 * GIB),
        "128MiB",
        "merged files grow to about this size",
    ),
    setting(
        "lake.vacuum.every",
        Kind::Span(ms(0), s(30 * DAY)),
        "10m",
        "time between vacuums of a table; 0s means never",
    ),
    setting(
        "lake.retention.every",
        Kind::Span(s(1), s(DAY)),
        "5m",
        "time between looks at a stream's retention",
    ),
    setting(
        "ingest.in_flight",
        Kind::Bytes(64 * MIB, 64 * GIB),
        "256MiB",
        "bytes of bodies that may be in flight; beyond is 429",
    ),
    setting(
        "ingest.connections",
        Kind::Count(16, 1 << 20),
        "20000",
        "most open connections",
    ),
    setting(
        "ingest.head_timeout",
        Kind::Span(ms(100), s(600)),
        "10s",
        "a request's head must be there after this time",
    ),
    setting(
        "ingest.body_timeout",
        Kind::Span(ms(100), s(600)),
        "30s",
        "a body must not pause longer than this",
    ),
    setting(
        "ingest.idle_timeout",
        Kind::Span(s(1), s(HOUR)),
        "75s",
        "a connection without a request is closed after this time",
    ),
    setting(
        "analytics.tail_bytes",
        Kind::Bytes(MIB, 64 * GIB),
        "256MiB",
        "decoded tail that is kept in memory",
    ),
    setting(
        "analytics.memory",
        Kind::Bytes(16 * MIB, 1024 * GIB),
        "512MiB",
        "memory of all queries together",
    ),
    setting(
        "analytics.queries",
        Kind::Count(1, 1_024),
        "16",
        "REST questions, and SQL queries, that run or wait at once; beyond is 429",
    ),
    setting(
        "analytics.sql_workers",
        Kind::Count(1, 64),
        "4",
        "most processes that run SQL, each one query at a time in an equal part of `analytics.memory`",
    ),
    setting(
        "analytics.rollup_group",
        Kind::Text,
        "tidemill.rollup",
        "a rollup is computed by one member of the consumer group of this name, a dot and the stream's",
    ),
    setting(
        "analytics.sql_bytes",
        Kind::Bytes(KIB, MIB),
        "64KiB",
        "longest SQL text",
    ),
    setting(
        "analytics.sql_timeout",
        Kind::Span(ms(10), s(HOUR)),
        "30s",
        "longest time of a query",
    ),
    setting(
        "analytics.sql_rows",
        Kind::Count(1, 100_000_000),
        "100000000",
        "most rows of a streamed answer",
    ),
    setting(
        "demo.stream",
        Kind::Text,
        "",
        "stream whose events the page at /demo shows; without it there is no such page",
    ),
    setting(
        "demo.track",
        Kind::Text,
        "/track",
        "path that the page posts to: one that takes `{\"events\": […]}`",
    ),
    setting(
        "demo.events",
        Kind::Text,
        "/events",
        "path that answers with the newest events as an array",
    ),
    setting(
        "live.clients",
        Kind::Count(1, 1 << 20),
        "2000",
        "most clients that watch events arrive; beyond is 503",
    ),
    setting(
        "live.memory",
        Kind::Bytes(MIB, 64 * GIB),
        "64MiB",
        "newest events that are kept for all who watch",
    ),
    setting(
        "live.after",
        Kind::Text,
        "journal",
        "events are shown once this has them: \"journal\", \"lake\" or the name of a destination",
    ),
    setting(
        "live.bus",
        Kind::Secret,
        "",
        "a redis:// URL, or a destination of that kind, by which processes tell each other what is committed",
    ),
    setting(
        "live.bus_channel",
        Kind::Text,
        "tidemill.live",
        "the channel of the bus, and the hash beside it",
    ),
    setting(
        "live.poll",
        Kind::Span(ms(10), s(60)),
        "250ms",
        "how often positions are looked for that nobody told",
    ),
];
