//! An engine of somebody else in a process of its own, asked line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use benches::Anything;
use serde::Deserialize;
use serde_json::{Value, json};

/// The program around the engines.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/engine.py");

/// A running one; ended when dropped.
pub(crate) struct Engine {
    /// `duckdb` or `chdb`.
    pub(crate) kind: &'static str,
    /// Name and version, as it says.
    pub(crate) name: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What it answered.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    name: String,
    /// Around the engine alone.
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Engine {
    /// Starts one with so many threads.
    pub(crate) fn start(python: &Path, kind: &'static str, threads: usize) -> Result<Self, Anything> {
        let mut child = Command::new(python)
            .args([PROGRAM, kind, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("start `{}`: {error}", python.display()))?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut engine = Self {
            kind,
            name: String::new(),
            child,
            input,
            output,
        };
        engine.name = engine.say(&json!({"do": "version"}))?.name;
        Ok(engine)
    }

    /// Lets a table be these Parquet files.
    pub(crate) fn view(&mut self, name: &str, files: &[String]) -> Result<(), Anything> {
        self.say(&json!({"do": "view", "name": name, "files": files}))
            .map(drop)
    }

    /// Asks, and gives all rows.
    pub(crate) fn ask(&mut self, sql: &str) -> Result<Answer, Anything> {
        self.say(&json!({"do": "ask", "sql": sql}))
    }

    /// Makes a Parquet file of one of NDJSON.
    pub(crate) fn convert(&mut self, from: &Path, to: &Path) -> Result<Answer, Anything> {
        self.say(&json!({"do": "convert", "from": from, "to": to}))
    }

    fn say(&mut self, command: &Value) -> Result<Answer, Anything> {
        writeln!(self.input, "{command}")?;
        self.input.flush()?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(format!("`{}` ended", self.kind).into());
        }
        let said: Value = serde_json::from_str(&line)?;
        match said["error"].as_str() {
            Some(error) => Err(format!("{}: {error}", self.kind).into()),
            None => Ok(serde_json::from_value(said)?),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
