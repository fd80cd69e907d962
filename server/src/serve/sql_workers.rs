//! How the processes that run ad-hoc SQL are started, and what each of them may take.
//!
//! `analytics.memory` is for all queries together, so a worker has an equal part of it: the bound inside of the
//! engine, at which queries spill or end with an error. What the engine does not count is bounded by the system:
//! an allocation beyond ends the worker, and nothing else.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use analytics::worker::WorkerOptions;
use analytics::{AnalyticsOptions, BLOCKING_THREADS_MAX, STACK_BYTES, SqlPlace};
use event::unique::Seen;
use lake::Location;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::config::{Config, JournalKind};

/// The hidden command that a worker is started with.
pub(crate) const COMMAND: &str = "sql-worker";

/// What a query may take beside what the engine counts, in bytes: batches on their way, an answer that is made as
/// one (64 MiB, and twice that while it grows), decoded pages.
const BESIDE_BYTES: u64 = 384 << 20;
/// Partitions of a topic of which the configuration says nothing.
const PARTITIONS_ASSUMED: u32 = 8;
/// When memory runs out, the system ends a worker before anything else.
const OOM_SCORE: &str = "1000";

/// Variables that a worker gets, if they are set: how to log, and how to speak to an object store.
const VARIABLES: [&str; 5] = [
    "TIDEMILL_LOG",
    "TIDEMILL_LOG_FORMAT",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// What says how an object store is reached. A worker gets it only when the lake is in one.
const STORE_VARIABLES: [&str; 2] = ["AWS_", "S3_ENDPOINT"];

/// Worker processes of this very program.
pub(super) fn place(config: &Config) -> SqlPlace {
    let bucket = matches!(config.lake.location, Location::Bucket { .. });
    let wanted = |name: &OsStr| {
        let name = name.to_string_lossy();
        let of_store = STORE_VARIABLES.iter().any(|store| name.starts_with(store));
        VARIABLES.contains(&&*name) || bucket && of_store
    };
    let mut environment: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| wanted(name)).collect();
    // Memory that the allocator has reserved is no memory in use, and must not count as such.
    environment.push(("MIMALLOC_ARENA_EAGER_COMMIT".into(), "0".into()));
    SqlPlace::Workers(WorkerOptions {
        program: program(),
        arguments: vec!["tidemill".into(), COMMAND.into()],
        environment,
        settings: config.worker_settings().as_bytes().to_vec(),
        workers_max: workers(config),
    })
}

/// The program that runs: by the system's own link where there is one, which holds after an upgrade has replaced the
/// file as well.
fn program() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return link.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| "tidemill".into())
}

fn workers(config: &Config) -> usize {
    usize::try_from(config.analytics.sql_workers).unwrap_or(usize::MAX)
}

/// Divides what all queries may take between the server and its workers.
pub(super) fn divide(options: &mut AnalyticsOptions, config: &Config) {
    let workers = workers(config).max(1);
    match options.sql {
        SqlPlace::Here => {}
        // Half of the kept tail is for REST questions, the other half is the workers'.
        SqlPlace::Workers(_) => options.tail_bytes /= 2,
        SqlPlace::OnlyHere => {
            options.tail_bytes /= 2 * workers;
            options.memory_bytes /= workers;
            options.spill_bytes /= workers as u64;
        }
    }
}

/// Ends with the server, and before anything else when memory runs out.
pub(crate) fn end_first() {
    // The end of the socket says the same, but only to a thread that gets a turn on a busy machine. It is the thread
    // that started this process whose end counts: one of the server's runtime, which live as long as it does.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::debug!(%error, "this worker ends with its socket only");
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::debug!(%error, "the system may end something else than this worker when memory runs out");
    }
    // A core file of what a query did would be as large as what it may take.
    let core = Rlimit {
        current: Some(0),
        maximum: getrlimit(Resource::Core).maximum,
    };
    if let Err(error) = setrlimit(Resource::Core, core) {
        tracing::debug!(%error, "a worker that is aborted may leave a core file");
    }
}

/// Bounds what this process takes from now on. To be called when everything is open and every thread that computes
/// is there.
///
/// # Errors
/// When the system does not tell what is taken already, or refuses the bound.
pub(crate) fn bound_memory(config: &Config) -> std::io::Result<()> {
    let workers = config.analytics.sql_workers.max(1);
    let stacks = (BLOCKING_THREADS_MAX * STACK_BYTES) as u64;
    let share = config.analytics.memory_bytes / workers + config.analytics.tail_bytes / 2 / workers;
    let limit = Rlimit {
        current: Some(data_bytes()? + share + stacks + BESIDE_BYTES + ids_bytes(config)),
        maximum: getrlimit(Resource::Data).maximum,
    };
    Ok(setrlimit(Resource::Data, limit)?)
}

/// What telling duplicates in tails may take: a worker knows the ids of every stream that it was asked about.
fn ids_bytes(config: &Config) -> u64 {
    let partitions = match config.journal.kind {
        JournalKind::Embedded => 1,
        JournalKind::Kafka => u64::from(config.journal.kafka.partitions.unwrap_or(PARTITIONS_ASSUMED)),
    };
    let unique = config.streams.iter().filter_map(|stream| stream.unique.as_ref());
    let bytes = unique.map(|unique| Seen::bytes_max(unique).saturating_mul(partitions));
    // Beyond any machine's memory it is no bound any more.
    bytes.fold(0, u64::saturating_add).min(1 << 44)
}

/// What counts for the limit: memory that is this process's alone and can be written.
fn data_bytes() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes
        .map(|number| number << 10)
        .ok_or_else(|| std::io::Error::other("`/proc/self/status` does not say how much data there is"))
}
