//! The databases and brokers that sinks write to besides the lake: `[destinations.NAME]`.
//!
//! Somebody chose their names, so they are not in the table of settings; everything else is as there: all problems
//! at once, unknown keys with a hint, no secret in what is printed. A secret comes from the environment
//! (`TIDEMILL_DESTINATIONS_<NAME>_URL`, `…_PASSWORD`), from a file (`url_file`, `password_file`), or stands in the
//! URL.

mod tables;

use std::collections::BTreeMap;
use std::time::Duration;

use event::units::parse_duration;
use event::{StreamDeclaration, StreamName};
use toml::{Table, Value};

use super::channels::ChannelsConfig;
use super::check::hint;
use super::messages::MessagesConfig;
use super::problem::Problems;
use super::reading::Reading;
use super::secret::Secret;

pub use tables::{OnConflict, TableConfig};

/// Keys of a destination.
const KEYS: &[&str] = &[
    "kind",
    "url",
    "url_file",
    "password",
    "password_file",
    "streams",
    "table_prefix",
    "group",
    "load_data",
    "commit_every",
    "tables",
    "exchange",
    "routing_key",
    "queue",
    "message_id",
    "channel",
    "channel_prefix",
];
/// Keys that a variable can set.
const VARIABLE_KEYS: &[&str] = &[
    "url",
    "url_file",
    "password",
    "password_file",
    "group",
    "table_prefix",
];
/// What variables of destinations begin with.
pub(super) const VARIABLE_PREFIX: &str = "TIDEMILL_DESTINATIONS_";

/// The kind of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    /// MySQL or MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgres,
    /// RabbitMQ.
    Rabbitmq,
    /// Redis Pub/Sub.
    Redis,
}

impl DestinationKind {
    const WORDS: [(&'static str, Self); 4] = [
        ("mysql", Self::Mysql),
        ("postgres", Self::Postgres),
        ("rabbitmq", Self::Rabbitmq),
        ("redis", Self::Redis),
    ];

    fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Mysql => &["mysql"],
            Self::Postgres => &["postgres", "postgresql"],
            // The other one is refused with a reason of its own.
            Self::Rabbitmq => &["amqp", "amqps"],
            Self::Redis => &["redis"],
        }
    }
}

/// One database that sinks write to.
#[derive(Clone, Debug)]
pub struct DestinationConfig {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: DestinationKind,
    /// Where it is, with the user, the password and the database.
    pub url: Secret,
    /// The streams that it gets; all when absent.
    pub streams: Option<Vec<StreamName>>,
    /// Begins the names of tables that are not declared.
    pub table_prefix: String,
    /// The consumer group whose members share its partitions.
    pub group: String,
    /// Whether MySQL may be filled by `LOAD DATA LOCAL`.
    pub load_data: bool,
    /// How old the oldest row of a transaction of a database may get before it is committed; the kind's own when absent.
    pub commit_every: Option<Duration>,
    /// Tables that are declared, by stream.
    pub tables: BTreeMap<StreamName, TableConfig>,
    /// Where messages go.
    pub messages: MessagesConfig,
    /// Where Redis publishes.
    pub channels: ChannelsConfig,
    /// As it was written, without what is secret, for `check`.
    pub(super) shown: Table,
}

/// Sets a destination's key from a variable; `false` when the variable is none of a destination's.
pub(super) fn set_from_variable(merged: &mut Table, name: &str, value: &str) -> Result<bool, String> {
    let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
        return Ok(false);
    };
    let rest = rest.to_ascii_lowercase();
    let key = VARIABLE_KEYS.iter().filter(|key| {
        let before = rest.strip_suffix(**key);
        before.is_some_and(|before| before.len() > 1 && before.ends_with('_'))
    });
    // `…_PASSWORD_FILE` ends in no shorter key, so the longest is the only sensible reading.
    let Some(key) = key.max_by_key(|key| key.len()) else {
        return Err(format!(
            "a variable of a destination ends in one of {}",
            VARIABLE_KEYS.join(", ").to_ascii_uppercase()
        ));
    };
    let destination = &rest[..rest.len() - key.len() - 1];
    let declared = merged.get_mut("destinations").and_then(Value::as_table_mut);
    let declared = declared.and_then(|all| all.get_mut(destination)?.as_table_mut());
    let Some(declared) = declared else {
        return Err(format!("no destination `{destination}` is configured"));
    };
    // What comes later goes first, in whichever of the two ways it is given.
    match *key {
        "url" | "url_file" => ["url", "url_file"].map(|key| declared.remove(key)),
        "password" | "password_file" => ["password", "password_file"].map(|key| declared.remove(key)),
        _ => [None, None],
    };
    declared.insert((*key).to_owned(), Value::String(value.to_owned()));
    Ok(true)
}

/// Reads the section of a merged configuration.
pub(super) fn destinations(
    merged: &Table,
    streams: &[StreamDeclaration],
    problems: &mut Problems,
) -> Vec<DestinationConfig> {
    let section = match merged.get("destinations") {
        None => return Vec::new(),
        Some(Value::Table(section)) => section,
        Some(_) => {
            problems.push("destinations", "is a section: write `[destinations.NAME]`");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (name, value) in section {
        let key = format!("destinations.{name}");
        if let Err(error) = StreamName::parse(name) {
            problems.push(&key, error.to_string());
        }
        match value {
            Value::Table(table) => {
                let mut reading = Reading {
                    key,
                    table,
                    streams,
                    problems,
                };
                found.extend(reading.destination(name));
            }
            _ => problems.push(key, "a destination is a section: write `[destinations.NAME]`"),
        }
    }
    found
}

impl Reading<'_> {
    fn commit_every(&mut self, kind: Option<DestinationKind>) -> Option<Duration> {
        let text = self.text("commit_every")?;
        let (min, max) = (Duration::from_millis(1), Duration::from_secs(60));
        match parse_duration(&text) {
            _ if !matches!(
                kind,
                None | Some(DestinationKind::Mysql | DestinationKind::Postgres)
            ) =>
            {
                self.problem("commit_every", "only databases have transactions");
                None
            }
            Ok(span) if (min..=max).contains(&span) => Some(span),
            Ok(_) => {
                self.problem("commit_every", format!("`{text}` is not from `1ms` to `1m`"));
                None
            }
            Err(error) => {
                self.problem("commit_every", error.to_string());
                None
            }
        }
    }

    fn destination(&mut self, name: &str) -> Option<DestinationConfig> {
        self.unknown_keys("", self.table, KEYS);
        let kind = self.kind();
        let url = self.url(kind);
        let streams = self.stream_names();
        let group = self.text("group").unwrap_or_else(|| format!("tidemill.{name}"));
        let table_prefix = self.text("table_prefix").unwrap_or_default();
        if !table_prefix.is_empty() {
            self.check_name("table_prefix", &table_prefix);
        }
        let load_data = match self.table.get("load_data") {
            None => true,
            Some(Value::Boolean(load_data)) => *load_data,
            Some(other) => {
                self.problem("load_data", format!("{other} is not `true` or `false`"));
                true
            }
        };
        let commit_every = self.commit_every(kind);
        let tables = self.tables();
        let messages = self.messages(kind);
        let channels = self.channels(kind);
        let mut shown = self.table.clone();
        for secret in ["url", "password"] {
            shown.remove(secret);
        }
        Some(DestinationConfig {
            name: name.to_owned(),
            kind: kind?,
            url: url?,
            streams,
            table_prefix,
            group,
            load_data,
            commit_every,
            tables,
            messages,
            channels,
            shown,
        })
    }

    fn kind(&mut self) -> Option<DestinationKind> {
        let words = DestinationKind::WORDS.map(|(word, _)| word);
        let Some(written) = self.text("kind") else {
            self.problem("kind", format!("must be one of {}", words.join(", ")));
            return None;
        };
        let found = DestinationKind::WORDS.iter().find(|(word, _)| *word == written);
        if found.is_none() {
            let hint = hint(&written, words.into_iter());
            self.problem(
                "kind",
                format!("`{written}` is not one of {}{hint}", words.join(", ")),
            );
        }
        found.map(|(_, kind)| *kind)
    }

    /// The URL, with the password in it. What is wrong with it is said without showing it.
    fn url(&mut self, kind: Option<DestinationKind>) -> Option<Secret> {
        let schemes = kind.map_or(&[][..], DestinationKind::schemes);
        let is_broker = kind == Some(DestinationKind::Rabbitmq);
        let names_database = !is_broker && kind != Some(DestinationKind::Redis);
        let url = self.secret_url(schemes)?;
        if is_broker && let Err(message) = sources::check_url(url.reveal()) {
            self.problem("url", message);
            return None;
        }
        let path = url::Url::parse(url.reveal()).map(|url| url.path().trim_start_matches('/').to_owned());
        if names_database && path.is_ok_and(|path| path.is_empty()) {
            self.problem(
                "url",
                "names no database: write it after the host, as in `mysql://user@host/database`",
            );
        }
        Some(url)
    }
}
