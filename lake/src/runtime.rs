//! The runtime that all access to files and buckets runs on.
//!
//! Delta's kernel is synchronous and waits for it, so it must not be the caller's; it lives as long as the process,
//! because a runtime must not be dropped inside of another.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use delta_kernel_default_engine::executor::TaskExecutor;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::LakeError;

/// Threads that wait for sockets and sign requests.
const THREADS: usize = 2;
/// Threads for files.
const FILE_THREADS_MAX: usize = 16;

#[derive(Debug)]
struct Io {
    runtime: Runtime,
    executor: Arc<TokioMultiThreadExecutor>,
}

fn io() -> Result<&'static Io, LakeError> {
    static IO: OnceLock<Io> = OnceLock::new();
    if IO.get().is_none() {
        let made = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(FILE_THREADS_MAX)
            .thread_name("tidemill-lake")
            .enable_all()
            .build();
        let runtime = made.map_err(|error| LakeError::Store {
            operation: "start the runtime of",
            stream: "*".to_owned(),
            message: error.to_string(),
        })?;
        let executor = Arc::new(TokioMultiThreadExecutor::new(runtime.handle().clone()));
        // Whoever loses the race keeps its runtime alive, too: it is never dropped.
        if let Err(second) = IO.set(Io { runtime, executor }) {
            std::mem::forget(second);
        }
    }
    Ok(IO.get().expect("it was just set"))
}

/// What the kernel runs its tasks on.
pub(crate) fn executor() -> Result<Arc<TokioMultiThreadExecutor>, LakeError> {
    Ok(Arc::clone(&io()?.executor))
}

/// The runtime, for what is polled on a thread that may block.
pub(crate) fn handle() -> Result<Handle, LakeError> {
    Ok(io()?.runtime.handle().clone())
}

/// Waits for a task of that runtime, on a thread that may block.
pub(crate) fn wait<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> std::io::Result<T> {
    let io = io().map_err(std::io::Error::other)?;
    Ok(io.executor.block_on(task))
}

/// Begins a task of that runtime that nobody waits for; it ends by itself.
pub(crate) fn begin(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(io) = io() {
        io.executor.spawn(task);
    }
}

/// Runs what blocks (Delta's log, fsync) off the I/O threads.
pub(crate) async fn run<T: Send + 'static, E: From<LakeError> + Send + 'static>(
    blocking: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(blocking)
        .await
        .unwrap_or_else(|error| {
            let message = format!("its task ended: {error}");
            Err(E::from(LakeError::Store {
                operation: "work on",
                stream: "*".to_owned(),
                message,
            }))
        })
}
