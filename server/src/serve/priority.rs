//! Who goes first when the processors are busy: the sink.
//!
//! Clients that send as fast as they are answered keep every processor busy, and the sink, one thread among many,
//! would fall behind for as long as they do: the tail would grow, and every question about it would take longer.
//! So the sink has threads of its own, and all others ask the system for a smaller share. Nothing waits for
//! anything (I-5): when there is time for both, both get it.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// How much nicer everybody else is. Each step of Linux's scheduler is a factor of 1.25, so the sink's threads
/// weigh about twice as much as another one.
const NICER_BY: i32 = 3;

/// Threads of the sink: one decodes and encodes, the other waits for the disk.
const SINK_THREADS: usize = 2;

/// Lets the sink go before this thread, and before those that it starts.
pub(crate) fn let_the_sink_go_first() {
    if let Err(error) = rustix::process::nice(NICER_BY) {
        tracing::debug!(%error, "the priority of a thread stays as it is");
    }
}

/// The runtime of the sink.
pub(super) struct SinkRuntime(Option<Runtime>);

impl SinkRuntime {
    /// Starts it; to be called before this thread lets the sink go first, as threads inherit that.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(SINK_THREADS)
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

impl Drop for SinkRuntime {
    /// A runtime may not be waited for inside of another one. Its tasks were told to stop before.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
