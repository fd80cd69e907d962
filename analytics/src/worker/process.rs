//! One worker process as the server sees it: started, spoken to, and ended.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::WorkerOptions;
use super::pool::Counted;
use super::wire::{Frame, Frames, Kind, send};
use crate::QueryError;

/// A worker that takes no questions after this time does not start. It opens journal and lake, and reads the
/// journal's newest segment.
const START_TIME: Duration = Duration::from_secs(10);
/// A process that closed its socket has ended, or will have after this time.
const END_TIME: Duration = Duration::from_secs(1);

/// A running worker. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    frames: Frames<OwnedReadHalf>,
    outgoing: OwnedWriteHalf,
    /// When it had its last question.
    pub(super) used: Instant,
    /// Its share in the number of workers.
    _alive: Counted,
}

/// How a worker ended.
#[derive(Debug)]
pub(super) struct Death {
    /// As the metric names it.
    pub(super) reason: &'static str,
    /// As whoever asked is told.
    pub(super) error: QueryError,
}

impl Process {
    /// Starts a worker and waits until it takes questions.
    ///
    /// # Errors
    /// [`QueryError::Storage`] when it cannot be started or ends before that.
    pub(super) async fn start(options: &WorkerOptions, alive: Counted) -> Result<Self, QueryError> {
        let failed = |error: io::Error| QueryError::Storage(format!("start a worker of SQL: {error}"));
        let mut process = Self::spawn(options, alive).map_err(failed)?;
        let ready = timeout(START_TIME, async {
            process.send(Kind::Settings, &options.settings).await?;
            process.next().await
        });
        let problem = match ready.await {
            Ok(Ok(Some(frame))) if frame.kind == Kind::Ready => return Ok(process),
            Ok(Ok(Some(frame))) => format!("it said {:?} first", frame.kind),
            Ok(Ok(None)) => "it ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it was not ready within {} s", START_TIME.as_secs()),
        };
        let status = process.end().await;
        Err(failed(io::Error::other(format!("{problem} ({})", shown(status)))))
    }

    fn spawn(options: &WorkerOptions, alive: Counted) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&options.program);
        let mut arguments = options.arguments.iter();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command
            .args(arguments)
            .env_clear()
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A signal from a terminal is for the server, which finishes what is in flight (I-7).
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn()?;
        // With it goes our copy of the worker's end of the socket, without which its end would not be seen.
        drop(command);
        let (incoming, outgoing) = UnixStream::from_std(ours)?.into_split();
        Ok(Self {
            child,
            frames: Frames::new(incoming),
            outgoing,
            used: Instant::now(),
            _alive: alive,
        })
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        send(&mut self.outgoing, kind, payload).await
    }

    /// The next frame; `None` when the worker has ended.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        self.frames.next().await
    }

    /// Whether it has not ended yet.
    pub(super) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its number among the system's processes.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Memory that it holds now, in bytes; `None` where the system does not tell.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.id()?)).ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * PAGE_BYTES)
    }

    /// Waits for the end of a worker whose socket has ended, and says what it was.
    pub(super) async fn death(mut self) -> Death {
        let status = match timeout(END_TIME, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => self.end().await,
        };
        let how = shown(status);
        let signal = status.and_then(|status| status.signal());
        let (reason, outside) = match signal {
            Some(6) => ("abort", false),
            Some(4 | 7 | 8 | 11) => ("crash", false),
            Some(_) => ("killed", true),
            None => ("exit", false),
        };
        let error = if outside {
            QueryError::WorkerKilled(how)
        } else {
            QueryError::WorkerDied(how)
        };
        Death { reason, error }
    }

    /// Kills it, and waits until it is gone.
    pub(super) async fn end(&mut self) -> Option<ExitStatus> {
        if let Err(error) = self.child.start_kill() {
            tracing::debug!(%error, "a worker of SQL had ended already");
        }
        self.child.wait().await.ok()
    }
}

/// Bytes of a page where `/proc` counts in pages; larger ones only make a worker seem smaller than it is.
const PAGE_BYTES: u64 = 4_096;

fn shown(status: Option<ExitStatus>) -> String {
    let Some(status) = status else {
        return "in a way that the system does not tell".to_owned();
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => match signal {
            4 => "signal 4, SIGILL".to_owned(),
            6 => "signal 6, SIGABRT".to_owned(),
            7 => "signal 7, SIGBUS".to_owned(),
            8 => "signal 8, SIGFPE".to_owned(),
            9 => "signal 9, SIGKILL".to_owned(),
            11 => "signal 11, SIGSEGV".to_owned(),
            15 => "signal 15, SIGTERM".to_owned(),
            other => format!("signal {other}"),
        },
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => status.to_string(),
    }
}
