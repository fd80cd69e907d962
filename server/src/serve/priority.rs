//! Who goes first when the processors are busy: the sink, and the thread that writes the journal.
//!
//! Clients that send as fast as they are answered keep every processor busy, and the sink, one thread among many,
//! would fall behind for as long as they do: the tail would grow, and every question about it would take longer.
//! And all of them wait for the one thread that makes their events durable, which itself needs little time, but that
//! soon. So these have threads of their own, and all others ask the system for a smaller share. Nothing waits for
//! anything (I-5): when there is time for all, all get it.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// How much nicer everybody else is. Each step of Linux's scheduler is a factor of 1.25, so a thread that goes first
/// weighs about twice as much as another one.
const NICER_BY: i32 = 3;

/// Most that a thread can be nice.
pub(super) const NICEST: i32 = 19;

/// Threads that go first beside those for blocking work: of the sink one decodes and encodes, the other waits for the disk.
const THREADS: usize = 2;

/// How nice the process was when it began.
static GIVEN: OnceLock<i32> = OnceLock::new();

/// Lets others go before this thread, and before those that it starts. A thread that was started by such a one is not
/// nicer still.
pub(crate) fn let_others_go_first() {
    let given = *GIVEN.get_or_init(|| rustix::process::getpriority_process(None).unwrap_or(0));
    let nicer = given.saturating_add(NICER_BY).min(NICEST);
    if let Err(error) = rustix::process::setpriority_process(None, nicer) {
        tracing::debug!(%error, "the priority of a thread stays as it is");
    }
}

/// The runtime of who goes first. The threads that its tasks start go first as well.
pub(super) struct FirstRuntime(Option<Runtime>);

impl FirstRuntime {
    /// Starts it; to be called before this thread lets others go first, as threads inherit that.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .thread_name("tidemill-sink")
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn handle(&self) -> &Handle {
        let runtime = self.0.as_ref();
        runtime.expect("it is there until it is dropped").handle()
    }
}

impl Drop for FirstRuntime {
    /// A runtime may not be waited for inside of another one. Its tasks were told to stop before.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
