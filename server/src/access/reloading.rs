//! Files that may change while the server runs: tokens, certificates.
//!
//! They are read twice a second, and at once on SIGHUP. Reading them whole is cheap, and unlike a look at the time of
//! the last change it misses nothing: not a second write within the clock's granularity, not a link that leads
//! elsewhere. A change is taken when two looks find the same, so a file that is just being written, or a certificate
//! whose key follows a moment later, is not taken half.
//!
//! What cannot be used changes nothing: the last good content stays in force, `tidemill_access_stale` is 1 and the
//! reason is logged, once for each such content. So a mistake in a file never opens or closes anything.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::AccessError;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What can be read again.
pub(crate) trait Reload: Send + Sync {
    /// Reads the files; takes what they hold if it is new, good, and either the same as at the last look or wanted
    /// `at_once`. Blocks on the disk.
    fn look(&self, at_once: bool);
}

/// What a content is recognised by; of a file that cannot be read, the reason.
type Mark = [u8; 32];

type Parse<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// The last good content of some files.
pub(crate) struct Reloading<T> {
    /// For people and metrics.
    what: &'static str,
    files: Vec<PathBuf>,
    file_bytes_max: u64,
    /// The one of them that nobody else should read.
    secret: Option<PathBuf>,
    parse: Parse<T>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// What was judged last, good or bad.
    judged: Mark,
    /// What the last look found.
    found: Mark,
}

impl<T> std::fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync> Reloading<T> {
    /// Reads the files for the first time. `parse` gets their contents in the same order, each of at most
    /// `file_bytes_max` bytes; its errors are logged, so they must show no secret. A warning says when others can
    /// read `secret`.
    ///
    /// # Errors
    /// [`AccessError`] when they cannot be read or `parse` refuses them.
    pub(crate) fn open(
        what: &'static str,
        files: Vec<PathBuf>,
        file_bytes_max: u64,
        secret: Option<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, AccessError> {
        let refused = |message: String| AccessError {
            what,
            files: shown(&files),
            message,
        };
        let contents = read_all(&files, file_bytes_max).map_err(refused)?;
        let first = parse(&contents).map_err(refused)?;
        let mark = mark(&Ok(contents));
        warn_of_others(secret.as_deref());
        metrics::gauge!("tidemill_access_stale", "what" => what).set(0.0);
        Ok(Self {
            what,
            files,
            file_bytes_max,
            secret,
            parse: Box::new(parse),
            current: RwLock::new(Arc::new(first)),
            seen: Mutex::new(Seen {
                judged: mark,
                found: mark,
            }),
        })
    }

    /// What holds now.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn judge(&self, contents: Result<Vec<Vec<u8>>, String>) {
        let (what, files) = (self.what, shown(&self.files));
        match contents.and_then(|contents| (self.parse)(&contents)) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                metrics::gauge!("tidemill_access_stale", "what" => what).set(0.0);
                metrics::counter!("tidemill_access_reloads_total", "what" => what).increment(1);
                tracing::info!(what, files, "read again");
                warn_of_others(self.secret.as_deref());
            }
            Err(error) => {
                metrics::gauge!("tidemill_access_stale", "what" => what).set(1.0);
                metrics::counter!("tidemill_access_reload_errors_total", "what" => what).increment(1);
                tracing::error!(
                    what,
                    files,
                    error,
                    "not usable, what was read before stays in force"
                );
            }
        }
    }
}

impl<T: Send + Sync> Reload for Reloading<T> {
    fn look(&self, at_once: bool) {
        let contents = read_all(&self.files, self.file_bytes_max);
        let found = mark(&contents);
        let settled = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let settled = (at_once || seen.found == found) && seen.judged != found;
            seen.found = found;
            if settled {
                seen.judged = found;
            }
            settled
        };
        if settled {
            self.judge(contents);
        }
    }
}

/// Looks at everything for ever, and on SIGHUP.
pub(crate) async fn keep_fresh(all: Vec<Arc<dyn Reload>>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be listened for; changes of files are still noticed");
            None
        }
    };
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let at_once = tokio::select! {
            _ = ticks.tick() => false,
            _ = asked => true,
        };
        for one in &all {
            let one = Arc::clone(one);
            // A look that panics or hangs must not end the others: the next tick tries again.
            let _ = spawn_blocking(move || one.look(at_once)).await;
        }
    }
}

/// Whether others than the owner can read a file.
fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

fn warn_of_others(secret: Option<&Path>) {
    if let Some(path) = secret.filter(|path| readable_by_others(path)) {
        tracing::warn!(file = %path.display(), "others can read this file: `chmod 600` it");
    }
}

fn shown(files: &[PathBuf]) -> String {
    let each: Vec<_> = files.iter().map(|file| format!("`{}`", file.display())).collect();
    each.join(", ")
}

fn read_all(files: &[PathBuf], file_bytes_max: u64) -> Result<Vec<Vec<u8>>, String> {
    let each = files.iter().map(|file| {
        read(file, file_bytes_max).map_err(|error| format!("read `{}`: {error}", file.display()))
    });
    each.collect()
}

fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Opening what is no file, as a pipe, could wait for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(io::Error::other(format!(
            "it exceeds the limit of `{bytes_max}` bytes"
        )));
    }
    Ok(content)
}

fn mark(contents: &Result<Vec<Vec<u8>>, String>) -> Mark {
    let mut hash = Sha256::new();
    match contents {
        Ok(contents) => {
            for content in contents {
                hash.update((content.len() as u64).to_le_bytes());
                hash.update(content);
            }
        }
        Err(error) => {
            // No content is as long as this says.
            hash.update(u64::MAX.to_le_bytes());
            hash.update(error);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Reloading<u64> {
        let parse = |contents: &[Vec<u8>]| {
            let text = String::from_utf8_lossy(&contents[0]);
            text.trim().parse().map_err(|_| "no number".to_owned())
        };
        Reloading::open("numbers", vec![path.to_owned()], 8, None, parse).expect("a number")
    }

    #[test]
    fn a_change_is_taken_when_it_stays_or_is_asked_for_and_never_when_it_is_broken() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("number");
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        write("1");
        let numbers = open(&file);
        write("2");
        numbers.look(false);
        assert_eq!(*numbers.current(), 1, "it may be half");
        numbers.look(false);
        assert_eq!(*numbers.current(), 2);
        write("3");
        numbers.look(true);
        assert_eq!(*numbers.current(), 3);
        for broken in ["x", "", "1234567890"] {
            write(broken);
            numbers.look(true);
            assert_eq!(*numbers.current(), 3, "{broken:?}");
        }
        std::fs::remove_file(&file).expect("removed");
        numbers.look(true);
        assert_eq!(*numbers.current(), 3);
        write("4");
        numbers.look(false);
        numbers.look(false);
        assert_eq!(*numbers.current(), 4);
    }
}
