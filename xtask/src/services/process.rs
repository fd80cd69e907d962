//! Processes that outlive the command which starts them.
//!
//! A server gets a session of its own, so that Ctrl-C in the terminal does not reach it, and no file of `up` but
//! its log, so that `cargo xtask services up | cat` ends when `up` ends. A process is known by its id together
//! with the time of its start: an id alone may belong to somebody else after a while. The variable `MARK` in its
//! environment finds what it left behind.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::home::{Home, write_private};
use super::server::Launch;

/// Names the server's directory in the environment of each of its processes.
const MARK: &str = "TIDEMILL_SERVICE";

/// Closes all files but the first three, and becomes the program in a session of its own under the same id.
const DETACH: &str = r#"for fd in /proc/$$/fd/*; do
    fd=${fd##*/}
    if ((fd > 2)); then eval "exec $fd>&-"; fi
done
exec setsid -- "$@""#;

/// An ordered stop takes at most this long; then it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// A process of this machine that was started once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Process {
    /// Its id, which is also the id of its group and its session.
    pub(super) id: u32,
    /// When it began, in ticks since the machine did.
    begun: u64,
}

/// An account of this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
}

impl Account {
    /// The account of that name, when we are root and can become it.
    pub(super) fn of(name: &str) -> Result<Option<Self>, String> {
        if !is_root()? {
            return Ok(None);
        }
        Ok(Some(Self {
            user: number("id", &["-u", name])?,
            group: number("id", &["-g", name])?,
        }))
    }

    /// Makes a command run as that account.
    pub(super) fn take(self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }
}

/// Whether we may become others.
pub(super) fn is_root() -> Result<bool, String> {
    Ok(number("id", &["-u"])? == 0)
}

fn number(program: &str, arguments: &[&str]) -> Result<u32, String> {
    let text = output(Command::new(program).args(arguments))?;
    text.trim()
        .parse()
        .map_err(|_| format!("`{program}` answered `{}`, not a number", text.trim()))
}

/// Runs a command and returns what it prints; what it says when it fails is the error.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("start `{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    Err(format!("`{program}` failed ({}): {}", output.status, said.trim()))
}

impl Process {
    /// Starts a server, away from this process, and remembers it in its directory.
    pub(super) fn start(home: &Home, launch: &Launch, account: Option<Account>) -> Result<Self, String> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(home.log())
            .map_err(|error| format!("open `{}`: {error}", home.log().display()))?;
        let errors = log
            .try_clone()
            .map_err(|error| format!("open the log twice: {error}"))?;
        let mut command = Command::new("bash");
        command
            .args(["-c", DETACH, "tidemill-services"])
            .arg(&launch.program)
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.directory())
            .env(MARK, home.directory())
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(home.data())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        if let Some(account) = account {
            account.take(&mut command);
        }
        let child = command
            .spawn()
            .map_err(|error| format!("start `{}`: {error}", launch.program.display()))?;
        let id = child.id();
        let begun = start_time(id).ok_or("it ended at once")?;
        let process = Self { id, begun };
        let text = format!("{id} {begun} {}\n", boot());
        write_private(&home.directory().join("process"), &text)?;
        Ok(process)
    }

    /// The process that was last started from that directory since the machine was, dead or alive.
    pub(super) fn recorded(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join("process")).ok()?;
        let mut words = text.split_whitespace();
        let process = Self {
            id: words.next()?.parse().ok()?,
            begun: words.next()?.parse().ok()?,
        };
        (words.next()? == boot()).then_some(process)
    }

    /// Whether it runs.
    pub(super) fn is_alive(self) -> bool {
        start_time(self.id) == Some(self.begun)
    }

    /// Asks it to end, waits, and kills it when it takes too long. Its group goes with it.
    pub(super) fn stop(self, signal: &str) {
        let begun = Instant::now();
        send(signal, i64::from(self.id));
        while self.is_alive() && begun.elapsed() < STOP_PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.is_alive() {
            send("KILL", -i64::from(self.id));
        }
    }
}

/// Kills whatever a server left behind: whoever carries its mark, or works in its data without a terminal, which
/// finds programs that write over their environment.
pub(super) fn sweep(home: &Home) {
    let mark = format!("{MARK}={}", home.directory().display());
    let data = PathBuf::from(home.data());
    let begun = Instant::now();
    loop {
        let left: Vec<u32> = processes()
            .into_iter()
            .filter(|id| is_live(*id) && (has_mark(*id, &mark) || works_in(*id, &data)))
            .collect();
        for id in &left {
            send("KILL", i64::from(*id));
        }
        if left.is_empty() || begun.elapsed() > STOP_PATIENCE {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn is_live(id: u32) -> bool {
    fields(id).is_some_and(|fields| is_live_state(&fields))
}

fn has_mark(id: u32, mark: &str) -> bool {
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|variable| variable == mark.as_bytes())
}

fn works_in(id: u32, data: &Path) -> bool {
    let terminal = fields(id).and_then(|fields| fields.get(4).cloned());
    let directory = fs::read_link(format!("/proc/{id}/cwd"));
    terminal.as_deref() == Some("0") && directory.is_ok_and(|directory| directory.starts_with(data))
}

/// Names this run of the machine.
fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// When the process began; nothing when it is not there or only waits to be buried.
fn start_time(id: u32) -> Option<u64> {
    let fields = fields(id)?;
    is_live_state(&fields).then(|| fields.get(19)?.parse().ok())?
}

fn is_live_state(fields: &[String]) -> bool {
    !matches!(fields.first().map(String::as_str), None | Some("Z" | "X"))
}

/// Fields of `/proc/<id>/stat` behind the program's name: state, parent, group, session … start time (the 20th).
fn fields(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// A negative id means the group. Whether it arrives is seen by looking at the process.
fn send(signal: &str, id: i64) {
    let _ = Command::new("bash")
        .args(["-c", r#"kill -s "$0" -- "$1""#, signal, &id.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("starts");
        let begun = start_time(child.id()).expect("runs");
        let process = Process {
            id: child.id(),
            begun,
        };
        let stranger = Process {
            id: child.id(),
            begun: begun + 1,
        };
        assert!(process.is_alive());
        assert!(!stranger.is_alive());
        child.kill().expect("is ours");
        // Not yet waited for: a zombie is dead.
        while process.is_alive() {
            std::thread::yield_now();
        }
        child.wait().expect("ends");
        assert!(!process.is_alive());
    }
}
