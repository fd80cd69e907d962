//! Servers of one test's own, which may be killed: each in a folder of its own, on free ports of this machine only.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that is an ordinary child process.
pub(crate) struct Server {
    start: Vec<String>,
    variables: Vec<(String, String)>,
    pub(crate) url: String,
    port: u16,
    child: Option<Child>,
    folder: PathBuf,
}

/// Redis without any persistence: a restart loses everything.
pub(crate) fn redis(folder: &Path) -> Option<Server> {
    let port = free_port();
    let words = [
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--port",
    ];
    let mut start = vec!["redis-server".to_owned()];
    start.extend(words.map(str::to_owned));
    start.push(port.to_string());
    let folder = made(folder, "redis");
    is_there("/usr/bin/redis-server").then(|| Server {
        start,
        variables: Vec::new(),
        url: format!("redis://127.0.0.1:{port}/"),
        port,
        child: None,
        folder,
    })
}

/// RabbitMQ with a port mapper of its own.
pub(crate) fn rabbitmq(folder: &Path) -> Option<Server> {
    let program = "/usr/lib/rabbitmq/bin/rabbitmq-server";
    let (port, distribution, mapper) = (free_port(), free_port(), free_port());
    let folder = made(folder, "rabbitmq");
    let config = folder.join("rabbitmq.conf");
    let text = format!("listeners.tcp.1 = 127.0.0.1:{port}\ndisk_free_limit.absolute = 50MB\n");
    fs::write(&config, text).expect("written");
    let plugins = folder.join("enabled_plugins");
    fs::write(&plugins, "[].\n").expect("written");
    // The port mapper goes with us: both are in one group of processes.
    let script = format!("epmd -port {mapper} -address 127.0.0.1 & exec {program}");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let variables = [
        ("RABBITMQ_NODENAME", format!("t{port}@localhost")),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("ERL_EPMD_PORT", mapper.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_CONFIG_FILE", path(&config)),
        ("RABBITMQ_CONF_ENV_FILE", path(&folder.join("none"))),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path(&plugins)),
        ("RABBITMQ_MNESIA_BASE", path(&folder)),
        ("RABBITMQ_LOG_BASE", path(&folder)),
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
        ("HOME", path(&folder)),
    ];
    is_there(program).then(|| Server {
        start: ["bash", "-c", &script].map(str::to_owned).to_vec(),
        variables: variables.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        url: format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
        port,
        child: None,
        folder,
    })
}

/// PostgreSQL, under its own account when we are root.
pub(crate) fn postgres(folder: &Path) -> Option<Server> {
    let port = free_port();
    let binaries = newest_postgres()?;
    let folder = made(folder, "postgres");
    let root = is_root();
    if root {
        run(Command::new("chown").arg("postgres").arg(&folder));
    }
    let data = folder.join("data");
    let data = data.to_str().expect("UTF-8");
    let command = |program: &str, words: &[&str]| {
        let mut all: Vec<String> = Vec::new();
        if root {
            all.extend(
                [
                    "setpriv",
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--clear-groups",
                ]
                .map(str::to_owned),
            );
        }
        all.push(binaries.join(program).to_str().expect("UTF-8").to_owned());
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all
    };
    let create = command(
        "initdb",
        &[
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "postgres",
            "-N",
            "--locale=C",
            "-E",
            "UTF8",
        ],
    );
    run(Command::new(&create[0]).args(&create[1..]));
    let listen = [
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
        "-c",
        "shared_buffers=32MB",
    ];
    let port_text = port.to_string();
    let words: Vec<_> = ["-D", data, "-p", &port_text].into_iter().chain(listen).collect();
    Some(Server {
        start: command("postgres", &words),
        variables: Vec::new(),
        url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
        port,
        child: None,
        folder,
    })
}

impl Server {
    /// Starts it; somebody else finds out when it answers.
    pub(crate) fn up(&mut self) {
        use std::os::unix::process::CommandExt;
        // A server that was killed leaves this behind; its number may be somebody else's by now.
        let _ = fs::remove_file(self.folder.join("data/postmaster.pid"));
        until("the port is free", 20, || self.is_down());
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("a log");
        let mut command = Command::new(&self.start[0]);
        command
            .args(&self.start[1..])
            .envs(self.variables.iter().cloned())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            // Its children go with it.
            .process_group(0);
        self.child = Some(command.spawn().expect("start a server"));
    }

    /// Ends it in order, with all that it has to write down.
    pub(crate) fn stop(&mut self) {
        let child = self.child.as_mut().expect("it is up");
        run(Command::new("kill").args(["-TERM", &child.id().to_string()]));
        until("it ends", 60, || child.try_wait().expect("asked").is_some());
        self.kill();
    }

    /// Ends it as a power cut of its processes would.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        for process in group(child.id()) {
            signal(process);
        }
        child.wait().expect("ended");
        until("its children end", 20, || group(child.id()).is_empty());
    }

    /// Starts it once more if it has ended by itself: its port was free for a moment, and somebody's connection may have
    /// had it.
    pub(crate) fn up_again(&mut self) {
        let Some(child) = &mut self.child else { return };
        if child.try_wait().expect("asked").is_some() {
            self.kill();
            self.up();
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_err()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something holds, for so many seconds at most; the failure says what for.
fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        let patience = Duration::from_secs(seconds);
        assert!(begun.elapsed() < patience, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The living processes of a group that we started. `/proc/…/stat` is: id (name) state parent group …
fn group(leader: u32) -> Vec<u32> {
    let of = |process: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut words = after_name.split_whitespace();
        if words.next()? == "Z" {
            return None;
        }
        words.nth(1)?.parse().ok()
    };
    let all = fs::read_dir("/proc").expect("Linux").flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // PostgreSQL's children have groups of their own.
    let child_of = |process: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut words = after_name.split_whitespace();
        if words.next()? == "Z" {
            return None;
        }
        words.next()?.parse().ok()
    };
    all.filter(|process| of(*process) == Some(leader) || child_of(*process) == Some(leader))
        .collect()
}

fn signal(process: u32) {
    let _ = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

fn made(folder: &Path, name: &str) -> PathBuf {
    let made = folder.join(name);
    fs::create_dir_all(&made).expect("a folder");
    made
}

fn is_there(program: &str) -> bool {
    Path::new(program).exists()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("a port").port()
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<_> = versions.map(|entry| entry.path().join("bin")).collect();
    found.retain(|path| path.join("initdb").exists());
    found.sort();
    found.pop()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn run(command: &mut Command) {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}
