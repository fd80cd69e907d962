//! Who goes first when the processors are busy: the thread that writes the journal, and a sink that is behind; and who
//! goes last: a sink that is not.
//!
//! Clients that send as fast as they are answered keep every processor busy, and the sink, one thread among many,
//! would fall behind for as long as they do: the tail would grow, and every question about it would take longer.
//! And all of them wait for the one thread that makes their events durable, which itself needs little time, but that
//! soon. So these have threads of their own, and all others ask the system for a smaller share. Nothing waits for
//! anything (I-5): when there is time for all, all get it.
//!
//! With less to do, the sink catches up, and encodes what has come every few milliseconds. However small its share is, a
//! thread that runs is not stopped for one that wakes up before its slice is over, which takes up to a tick of 4 ms, and
//! requests would wait for that, even beside an idle processor. So a sink that has caught up runs where Linux counts a
//! processor as idle (`SCHED_IDLE`): whoever wakes up takes it at once. It gets next to nothing of a busy machine, and
//! then the work goes to other threads ([`sink::SinkThreads`]); no thread ever goes back to a larger share, as that needs
//! rights.

use std::io;
use std::sync::OnceLock;

use lake::EncodingThreads;
use sink::SinkThreads;
use tokio::runtime::{Builder, Handle, Runtime};

/// How much nicer everybody else is. Each step of Linux's scheduler is a factor of 1.25, so a thread that goes first
/// weighs about twice as much as another one.
const NICER_BY: i32 = 3;

/// How much nicer a sink that has caught up is where there is no idle class: one of the threads of requests weighs about
/// five times as much as one of its threads.
const LAST_NICER_BY: i32 = 10;

/// Most that a thread can be nice.
pub(super) const NICEST: i32 = 19;

/// Threads that go first beside those for blocking work and for encoding.
const THREADS: usize = 2;

/// Threads that help a sink that is behind to encode, at most: few streams have more columns that take long.
const ENCODING_THREADS_MAX: usize = 7;

/// How nice the process was when it began.
static GIVEN: OnceLock<i32> = OnceLock::new();

/// Lets others go before this thread, and before those that it starts. A thread that was started by such a one is not
/// nicer still.
pub(crate) fn let_others_go_first() {
    be_nicer_by(NICER_BY);
}

fn be_nicer_by(steps: i32) {
    let given = *GIVEN.get_or_init(|| rustix::process::getpriority_process(None).unwrap_or(0));
    let nicer = given.saturating_add(steps).min(NICEST);
    if let Err(error) = rustix::process::setpriority_process(None, nicer) {
        tracing::debug!(%error, "the priority of a thread stays as it is");
    }
}

/// Lets everybody else of the machine go before this thread, whenever they want to.
fn go_last() {
    be_nicer_by(LAST_NICER_BY);
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id, thread_schedule_policy,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        // How nice it is, is set again after the policy; that may be refused, and an idle thread has no use for it.
        let set = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
        if thread_schedule_policy() != Ok(idle) {
            tracing::debug!(?set, "a thread that goes last is only nicer");
        }
    }
}

/// The runtimes of who goes first and who goes last. The threads that their tasks start do as well.
pub(super) struct Runtimes {
    first: Option<Runtime>,
    last: Option<Runtime>,
    encoding: EncodingThreads,
}

impl Runtimes {
    /// Starts them; to be called before this thread lets others go first, as threads inherit that.
    pub(super) fn start() -> io::Result<Self> {
        let first = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .thread_name("tidemill-sink")
            .build()?;
        let last = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .thread_name("tidemill-last")
            .on_thread_start(go_last)
            .build()?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let encoding = EncodingThreads::start((processors - 1).min(ENCODING_THREADS_MAX));
        let encoding = encoding.map_err(io::Error::other)?;
        Ok(Self {
            first: Some(first),
            last: Some(last),
            encoding,
        })
    }

    pub(super) fn first(&self) -> &Handle {
        let runtime = self.first.as_ref();
        runtime.expect("it is there until it is dropped").handle()
    }

    /// Where the lake sink works.
    pub(super) fn of_sink(&self) -> SinkThreads {
        let last = self.last.as_ref();
        SinkThreads {
            first: self.first().clone(),
            last: last.expect("it is there until it is dropped").handle().clone(),
            encoding: self.encoding.clone(),
        }
    }
}

impl Drop for Runtimes {
    /// A runtime may not be waited for inside of another one. Its tasks were told to stop before.
    fn drop(&mut self) {
        for runtime in [self.first.take(), self.last.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}
