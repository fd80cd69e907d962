//! Where events come from besides HTTP: `[sources.NAME]`.
//!
//! | `kind` | keys |
//! |---|---|
//! | both | `stream`, `url` or `url_file`, `password` or `password_file` |
//! | `postgres` | `table`, `id`, `columns` (field → column, or a list; every field when absent), `order`, `every` ("5s") or `cron` ("*/10 * * * * *", UTC), `batch` (500), `[….state]`, `[….responses]` |
//! | `….state` | `column` ("state"), `pending` ("pending"; `""` is null), `sent` ("sent"), `refused` ("refused"), `reason` (a column; none) |
//! | `….responses` | `url`, `queue`, `id` (the source's `id`), `status` ("status"), `states` (status → value of the column; the status itself when absent), `prefetch` (100) |
//! | `rabbitmq` | `queue`, `prefetch` (200) |
//!
//! A secret comes from a file, or from the environment by `${NAME}`.

use std::collections::BTreeMap;
use std::time::Duration;

use event::units::{format_duration, parse_duration};
use event::{StreamDeclaration, StreamName};
use toml::{Table, Value};

use super::check::{Checked, hint};
use super::problem::Problems;
use super::reading::Reading;
use super::run::Config;
use super::secret::Secret;

const KINDS: [&str; 2] = ["postgres", "rabbitmq"];
const BOTH_KEYS: [&str; 6] = ["kind", "stream", "url", "url_file", "password", "password_file"];
const OUTBOX_KEYS: [&str; 9] = [
    "table",
    "id",
    "columns",
    "order",
    "every",
    "cron",
    "batch",
    "state",
    "responses",
];
const QUEUE_KEYS: [&str; 2] = ["queue", "prefetch"];
const STATE_KEYS: [&str; 5] = ["column", "pending", "sent", "refused", "reason"];
const RESPONSES_KEYS: [&str; 9] = [
    "url",
    "url_file",
    "password",
    "password_file",
    "queue",
    "id",
    "status",
    "states",
    "prefetch",
];
/// Bounds of `every`.
const EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(86_400));
/// Bounds of `batch`: a transaction holds so many locks and so much memory.
const BATCH: (i64, i64) = (1, 10_000);
/// Bounds of `prefetch`: messages in memory.
const PREFETCH: (i64, i64) = (1, 10_000);

/// One source.
#[derive(Clone, Debug)]
pub struct EventSourceConfig {
    /// Its name.
    pub name: String,
    /// The stream that its events go to.
    pub stream: StreamName,
    /// Where it is, with the user and the password.
    pub url: Secret,
    /// What it is.
    pub kind: EventSourceKind,
    /// As it was written, without what is secret, for `check`.
    pub(super) shown: Table,
}

/// What a source is.
#[derive(Clone, Debug)]
pub enum EventSourceKind {
    /// A table of PostgreSQL.
    Outbox(Box<OutboxConfig>),
    /// A queue of RabbitMQ.
    Queue(QueueConfig),
}

/// A table of PostgreSQL that others write events to.
#[derive(Clone, Debug)]
pub struct OutboxConfig {
    /// The table.
    pub table: String,
    /// The column that identifies a row.
    pub id: String,
    /// Field → column; every field from the column of its name when absent.
    pub columns: Option<BTreeMap<String, String>>,
    /// The column that rows are ordered by.
    pub order: Option<String>,
    /// When it looks.
    pub schedule: sources::Schedule,
    /// Most rows of one transaction.
    pub batch: u32,
    /// The column that says what became of a row.
    pub state: sources::StateColumn,
    /// Answers that change the state of rows.
    pub responses: Option<ResponsesConfig>,
}

/// A queue of answers.
#[derive(Clone, Debug)]
pub struct ResponsesConfig {
    /// Where the broker is.
    pub url: Secret,
    /// The queue.
    pub queue: QueueConfig,
    /// The member that has the row's id.
    pub id: String,
    /// The member that has the status.
    pub status: String,
    /// Status → value of the state column.
    pub states: Option<BTreeMap<String, String>>,
}

/// A queue that is consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Its name.
    pub queue: String,
    /// Most messages that are taken and not acknowledged yet.
    pub prefetch: u16,
}

/// Reads the section of a merged configuration.
pub(super) fn read(
    merged: &Table,
    streams: &[StreamDeclaration],
    problems: &mut Problems,
) -> Vec<EventSourceConfig> {
    let section = match merged.get("sources") {
        None => return Vec::new(),
        Some(Value::Table(section)) => section,
        Some(_) => {
            problems.push("sources", "is a section: write `[sources.NAME]`");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (name, value) in section {
        let key = format!("sources.{name}");
        if let Err(error) = StreamName::parse(name) {
            problems.push(&key, error.to_string());
        }
        let Value::Table(table) = value else {
            problems.push(key, "a source is a section: write `[sources.NAME]`");
            continue;
        };
        let reading = Reading {
            key,
            table,
            streams,
            problems,
        };
        found.extend(source(reading, name));
    }
    found
}

/// Gives a configuration its sources, and decides whether the role is this process's: it is one of `all` when there is
/// something to do.
pub(super) fn attach(
    merged: &Table,
    found: Vec<EventSourceConfig>,
    config: &mut Config,
    problems: &mut Problems,
) {
    let words = match config.values.get("roles") {
        Some(Checked::Words(words)) => words.as_slice(),
        _ => &[],
    };
    if words.iter().any(|word| word == "sources") && !merged.contains_key("sources") {
        problems.push("roles", "`sources` needs a section `[sources.NAME]`");
    }
    config.roles.sources &= !found.is_empty();
    config.sources = found;
}

fn source(mut reading: Reading<'_>, name: &str) -> Option<EventSourceConfig> {
    let stream = reading.required("stream");
    let stream = stream.and_then(|stream| reading.stream("stream", &stream).cloned());
    let written = reading.required("kind");
    let (kind, url) = match written.as_deref() {
        Some("postgres") => {
            reading.known_keys(&[&BOTH_KEYS[..], &OUTBOX_KEYS]);
            let url = reading.secret_url(&["postgres", "postgresql"]);
            let outbox = stream.as_ref().and_then(|stream| reading.outbox(stream));
            (
                outbox.map(|outbox| EventSourceKind::Outbox(Box::new(outbox))),
                url,
            )
        }
        Some("rabbitmq") => {
            reading.known_keys(&[&BOTH_KEYS[..], &QUEUE_KEYS]);
            let url = reading.amqp_url();
            (reading.queue(200).map(EventSourceKind::Queue), url)
        }
        Some(other) => {
            let hint = hint(other, KINDS.into_iter());
            reading.problem(
                "kind",
                format!("`{other}` is not one of {}{hint}", KINDS.join(", ")),
            );
            (None, None)
        }
        None => (None, None),
    };
    Some(EventSourceConfig {
        name: name.to_owned(),
        stream: stream?.name,
        url: url?,
        kind: kind?,
        shown: without_secrets(reading.table),
    })
}

impl Reading<'_> {
    fn outbox(&mut self, stream: &StreamDeclaration) -> Option<OutboxConfig> {
        let (table, id) = (self.required("table"), self.required("id"));
        let table = table.filter(|table| self.table_name(table));
        for key in ["id", "order"] {
            if let Some(name) = self.text(key) {
                self.check_name(key, &name);
            }
        }
        let columns = self.table.get("columns").map(|columns| {
            let lake = event::schema::lake(stream);
            self.columns("columns", columns, &lake).into_iter().collect()
        });
        let schedule = self.schedule();
        let batch = self.count("batch", BATCH, 500);
        let state = self.state();
        let id = id?;
        let responses = self.responses(&id);
        Some(OutboxConfig {
            table: table?,
            id,
            columns,
            order: self.text("order"),
            schedule: schedule?,
            batch: u32::try_from(batch).unwrap_or(1),
            state: state?,
            responses: responses?,
        })
    }

    /// `schema.table`, or a table alone.
    fn table_name(&mut self, name: &str) -> bool {
        let parts: Vec<_> = name.split('.').collect();
        if parts.len() > 2 {
            self.problem("table", format!("`{name}` is not `table` or `schema.table`"));
            return false;
        }
        for part in parts {
            self.check_name("table", part);
        }
        true
    }

    fn schedule(&mut self) -> Option<sources::Schedule> {
        match (self.text("every"), self.text("cron")) {
            (Some(_), Some(_)) => {
                self.problem("cron", "and `every` are both given: keep one");
                None
            }
            (None, Some(expression)) => match sources::Schedule::cron(&expression) {
                Ok(schedule) => Some(schedule),
                Err(error) => {
                    self.problem("cron", error.to_string());
                    None
                }
            },
            (every, None) => {
                let every = every.unwrap_or_else(|| "5s".to_owned());
                let interval = parse_duration(&every).map_err(|error| error.to_string());
                match interval {
                    Ok(interval) if (EVERY.0..=EVERY.1).contains(&interval) => {
                        Some(sources::Schedule::every(interval))
                    }
                    Ok(_) => {
                        let (least, most) = (format_duration(EVERY.0), format_duration(EVERY.1));
                        self.problem(
                            "every",
                            format!("`{every}` is not between `{least}` and `{most}`"),
                        );
                        None
                    }
                    Err(message) => {
                        self.problem("every", message);
                        None
                    }
                }
            }
        }
    }

    fn state(&mut self) -> Option<sources::StateColumn> {
        let none = Table::new();
        let mut section = self.section("state", &none)?;
        section.known_keys(&[&STATE_KEYS]);
        let mut word = |key: &str, default: &str| section.text(key).unwrap_or_else(|| default.to_owned());
        let column = word("column", "state");
        let pending = word("pending", "pending");
        let (sent, refused) = (word("sent", "sent"), word("refused", "refused"));
        let reason = section.text("reason");
        for (key, name) in [("column", Some(&column)), ("reason", reason.as_ref())] {
            if let Some(name) = name {
                section.check_name(key, name);
            }
        }
        for (key, value) in [("sent", &sent), ("refused", &refused)] {
            if *value == pending {
                section.problem(
                    key,
                    format!("is `{value}`, as `pending`: rows would be sent for ever"),
                );
            }
        }
        Some(sources::StateColumn {
            column,
            pending: (!pending.is_empty()).then_some(pending),
            sent,
            refused,
            reason,
        })
    }

    /// `Some(None)` when there are none, `None` when they cannot be had.
    fn responses(&mut self, id: &str) -> Option<Option<ResponsesConfig>> {
        if !self.table.contains_key("responses") {
            return Some(None);
        }
        let none = Table::new();
        let mut section = self.section("responses", &none)?;
        section.known_keys(&[&RESPONSES_KEYS]);
        let url = section.amqp_url();
        let queue = section.queue(100);
        let states = section.states();
        let responses = ResponsesConfig {
            id: section.text("id").unwrap_or_else(|| id.to_owned()),
            status: section.text("status").unwrap_or_else(|| "status".to_owned()),
            url: url?,
            queue: queue?,
            states: states?,
        };
        Some(Some(responses))
    }

    fn states(&mut self) -> Option<Option<BTreeMap<String, String>>> {
        let Some(written) = self.table.get("states") else {
            return Some(None);
        };
        let pairs = written.as_table().filter(|table| !table.is_empty());
        let pair = |(status, value): (&String, &Value)| Some((status.clone(), value.as_str()?.to_owned()));
        let states = pairs.and_then(|table| table.iter().map(pair).collect());
        if states.is_none() {
            self.problem("states", "must be `{ status = \"value of the state column\" }`");
        }
        states.map(Some)
    }

    fn queue(&mut self, prefetch: i64) -> Option<QueueConfig> {
        let prefetch = self.count("prefetch", PREFETCH, prefetch);
        Some(QueueConfig {
            queue: self.required("queue")?,
            prefetch: u16::try_from(prefetch).unwrap_or(1),
        })
    }

    fn amqp_url(&mut self) -> Option<Secret> {
        let url = self.secret_url(&["amqp", "amqps"])?;
        match sources::check_url(url.reveal()) {
            Ok(()) => Some(url),
            Err(message) => {
                self.problem("url", message);
                None
            }
        }
    }

    /// A section below this one; `none` stands for one that is not there.
    fn section<'a>(&'a mut self, key: &str, none: &'a Table) -> Option<Reading<'a>> {
        let table = match self.table.get(key) {
            None => none,
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.problem(key, "is a section");
                return None;
            }
        };
        Some(Reading {
            key: format!("{}.{key}", self.key),
            table,
            streams: self.streams,
            problems: &mut *self.problems,
        })
    }

    fn required(&mut self, key: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.problem(key, "is missing");
        }
        let text = self.text(key)?;
        if text.is_empty() {
            self.problem(key, "is empty");
            return None;
        }
        Some(text)
    }

    fn count(&mut self, key: &str, (least, most): (i64, i64), default: i64) -> i64 {
        let Some(written) = self.table.get(key) else {
            return default;
        };
        match written.as_integer() {
            Some(number) if (least..=most).contains(&number) => number,
            _ => {
                self.problem(
                    key,
                    format!("{written} is not a whole number from {least} to {most}"),
                );
                default
            }
        }
    }

    fn known_keys(&mut self, known: &[&[&str]]) {
        let table = self.table;
        self.unknown_keys("", table, &known.concat());
    }
}

fn without_secrets(table: &Table) -> Table {
    let mut shown = table.clone();
    for secret in ["url", "password"] {
        shown.remove(secret);
    }
    if let Some(Value::Table(responses)) = shown.get_mut("responses") {
        for secret in ["url", "password"] {
            responses.remove(secret);
        }
    }
    shown
}
