//! MariaDB, which takes `LOAD DATA LOCAL INFILE`.

use std::io::Write;
use std::process::{Command, Stdio};

use super::home::Home;
use super::install;
use super::process::{is_root, output};
use super::server::{Launch, Server};

pub(super) struct MariaDb;

impl MariaDb {
    /// What both the first run and every other one need.
    fn options(home: &Home) -> Result<Vec<String>, String> {
        let mut options = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", home.data()),
            // A server that starts removes the temporary tables of all that have the same directory for them.
            format!("--tmpdir={}", home.directory().display()),
            "--character-set-server=utf8mb4".to_owned(),
        ];
        if is_root()? {
            options.push("--user=root".to_owned());
        }
        Ok(options)
    }

    fn client_arguments(home: &Home) -> Vec<String> {
        vec![
            "--protocol=tcp".to_owned(),
            "--host=127.0.0.1".to_owned(),
            format!("--port={}", home.value("port")),
            "--user=tidemill".to_owned(),
            format!("--password={}", home.value("password")),
            "--database=tidemill".to_owned(),
        ]
    }
}

impl Server for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn prepare(&self, home: &Home) -> Result<(), String> {
        output(
            Command::new(install::program("mariadb-install-db")?)
                .args(Self::options(home)?)
                .args(["--auth-root-authentication-method=normal", "--skip-test-db"]),
        )?;
        // Without a network and before anybody can connect. `root` stays, reachable through the socket in the
        // data directory.
        let sql = format!(
            "FLUSH PRIVILEGES;\n\
             CREATE DATABASE tidemill CHARACTER SET utf8mb4;\n\
             CREATE USER tidemill@'127.0.0.1' IDENTIFIED BY '{}';\n\
             GRANT ALL PRIVILEGES ON *.* TO tidemill@'127.0.0.1' WITH GRANT OPTION;\n",
            home.value("password"),
        );
        bootstrap(home, &sql)
    }

    fn launch(&self, home: &Home) -> Result<Launch, String> {
        Ok(Launch::of(install::program("mariadbd")?)
            .with(Self::options(home)?)
            .with([
                format!("--port={}", home.value("port")),
                "--bind-address=127.0.0.1".to_owned(),
                // Relative to the data directory: the path of a socket has at most 107 bytes.
                "--socket=socket".to_owned(),
                "--pid-file=pid".to_owned(),
                "--skip-name-resolve".to_owned(),
                "--local-infile=1".to_owned(),
                "--innodb-buffer-pool-size=256M".to_owned(),
            ]))
    }

    fn answers(&self, home: &Home) -> Result<(), String> {
        output(
            Command::new("mariadb")
                .arg("--no-defaults")
                .args(Self::client_arguments(home))
                .args(["--connect-timeout=2", "--execute=SELECT 1"]),
        )
        .map(|_| ())
    }

    fn variables(&self, home: &Home) -> Vec<(&'static str, String)> {
        let url = format!(
            "mysql://tidemill:{}@{}/tidemill",
            home.value("password"),
            home.address("port")
        );
        vec![
            ("MYSQL_URL", url),
            ("MYSQL_CLIENT_ARGS", Self::client_arguments(home).join(" ")),
        ]
    }
}

fn bootstrap(home: &Home, sql: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("run `mariadbd --bootstrap`: {error}");
    let mut child = Command::new(install::program("mariadbd")?)
        .args(MariaDb::options(home)?)
        .arg("--bootstrap")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(sql.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`mariadbd --bootstrap` failed ({}): {said}",
        output.status
    ))
}
