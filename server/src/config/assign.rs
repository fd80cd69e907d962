//! The section `[assign]`: which events are handed to people, and what keeps them.
//!
//! Without servers everything is in the embedded journal; with them all of Redis, PostgreSQL and RabbitMQ are needed. An
//! empty text counts as absent, so that a file that comes later can take something back. URLs may hold passwords: they
//! come from the environment (`TIDEMILL_ASSIGN_POSTGRES_URL` …), from a file (`postgres_url_file`), or stand there, and
//! are never shown. A password may also stand beside its URL (`postgres_password`), as it is and not percent-encoded.

use std::path::PathBuf;
use std::time::Duration;

use assign::AssignOptions;
use assign::servers::{ServersOptions, UrlError};
use event::units::parse_duration;
use event::{FieldType, StreamDeclaration, StreamName};
use toml::{Table, Value};

use super::check::{Checked, hint};
use super::problem::Problems;
use super::run::{Config, JournalKind};

/// The section's name.
pub(super) const SECTION: &str = "assign";
/// What variables of the section begin with.
const VARIABLE_PREFIX: &str = "TIDEMILL_ASSIGN_";
/// What is never shown.
const SECRETS: &[&str] = &[
    "redis_url",
    "postgres_url",
    "amqp_url",
    "redis_password",
    "postgres_password",
    "amqp_password",
];
/// Keys of texts.
const TEXTS: &[&str] = &[
    "stream",
    "queue",
    "assignments",
    "answers",
    "id",
    "redis_prefix",
    "redis_url",
    "postgres_url",
    "amqp_url",
    "redis_url_file",
    "postgres_url_file",
    "amqp_url_file",
    "redis_password",
    "postgres_password",
    "amqp_password",
];
/// The other keys.
const OTHERS: &[&str] = &["copy", "limit", "session", "workers", "remember"];

/// Which events are handed to people, and what keeps them.
#[derive(Clone, Debug)]
pub struct AssignConfig {
    /// What is assigned, and how.
    pub options: AssignOptions,
    /// What keeps it.
    pub place: AssignPlace,
    /// The stream of assignments, whose name tokens need for writing.
    pub assignments: StreamName,
    /// As it was written, without what is secret, for `check`.
    pub(super) shown: Table,
}

/// What keeps sessions and assignments.
#[derive(Clone, Debug)]
pub enum AssignPlace {
    /// This process and the journal.
    Embedded {
        /// The stream whose events are assigned.
        stream: StreamName,
        /// The stream of answers.
        answers: StreamName,
        /// How many assignments that have ended are remembered.
        remember: usize,
    },
    /// Redis, PostgreSQL and RabbitMQ.
    Servers(ServersOptions),
}

impl AssignConfig {
    /// The streams that assigning declares, and that nobody else may write to.
    #[must_use]
    pub fn own_streams(&self) -> Vec<StreamName> {
        match &self.place {
            AssignPlace::Embedded { answers, .. } => vec![self.assignments.clone(), answers.clone()],
            AssignPlace::Servers(_) => Vec::new(),
        }
    }

    /// Whether it needs the journal.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(self.place, AssignPlace::Embedded { .. })
    }
}

/// Sets a key of the section from a variable; `false` when the variable is none of it.
pub(super) fn set_from_variable(merged: &mut Table, name: &str, value: &str) -> Result<bool, String> {
    let Some(key) = name.strip_prefix(VARIABLE_PREFIX) else {
        return Ok(false);
    };
    let key = key.to_ascii_lowercase();
    let Some(section) = merged.get_mut(SECTION).and_then(Value::as_table_mut) else {
        return Err("there is no section `[assign]`".to_owned());
    };
    let value = match key.as_str() {
        "limit" | "workers" | "remember" => value.parse().map_or_else(|_| Value::from(value), Value::Integer),
        "session" => Value::from(value),
        text if TEXTS.contains(&text) => Value::from(value),
        _ => {
            return Err(format!(
                "no key of `[assign]` has this variable{}",
                hint(&key, TEXTS.iter().copied())
            ));
        }
    };
    // What comes later goes first, in whichever of the two ways it is given.
    let plain = key.trim_end_matches("_file").to_owned();
    section.remove(&format!("{plain}_file"));
    section.remove(&plain);
    section.insert(key, value);
    Ok(true)
}

/// Reads the section, declares its streams, and decides whether the role is this process's.
pub(super) fn attach(merged: &Table, config: &mut Config, problems: &mut Problems) {
    let words = match config.values.get("roles") {
        Some(Checked::Words(words)) => words.as_slice(),
        _ => &[],
    };
    let asked_for = words.iter().any(|word| word == SECTION);
    let found = match merged.get(SECTION) {
        None => None,
        Some(Value::Table(table)) => Reading { table, problems }.section(),
        Some(_) => {
            problems.push(SECTION, "is a section: write `[assign]`");
            return;
        }
    };
    if asked_for && !merged.contains_key(SECTION) {
        problems.push("roles", "`assign` needs a section `[assign]`");
    }
    let Some(found) = found else {
        config.roles.assign = false;
        return;
    };
    declare(&found, config, problems);
    let taken = config
        .streams
        .iter()
        .flat_map(|stream| stream.routes.iter().map(move |route| (stream, route)));
    for (stream, route) in taken.filter(|(_, route)| assign::http::has(route)) {
        let message = format!("`{route}` is a route of `[assign]`");
        problems.push(format!("streams.{}.routes", stream.name), message);
    }
    for route in config.routes.iter().filter(|_| config.roles.assign) {
        let name = route.name();
        let path = name.split_once(' ').map_or("", |(_, path)| path);
        if assign::http::has(path) {
            problems.push(format!("routes.{name}"), "is a route of `[assign]`".to_owned());
        }
    }
    config.assign = Some(found);
}

/// Adds the streams of an embedded desk to those that there are.
fn declare(found: &AssignConfig, config: &mut Config, problems: &mut Problems) {
    let AssignPlace::Embedded { stream, answers, .. } = &found.place else {
        return;
    };
    if config.journal.kind != JournalKind::Embedded {
        problems.push(
            "assign.stream",
            "needs the embedded journal; on Kafka write `queue`, `amqp_url`, `postgres_url` and `redis_url`",
        );
    }
    if found.assignments == *answers {
        problems.push("assign.answers", "and `assignments` are one stream");
    }
    let id = &found.options.id;
    match config.streams.iter().find(|declared| declared.name == *stream) {
        None => {
            let hint = hint(
                stream.as_str(),
                config.streams.iter().map(|declared| declared.name.as_str()),
            );
            problems.push("assign.stream", format!("no stream `{stream}` is declared{hint}"));
        }
        Some(declared) => check_id(declared, id, problems),
    }
    let own = [
        assign::embedded::assignments_stream(found.assignments.clone()),
        assign::embedded::answers_stream(answers.clone(), id),
    ];
    for stream in own {
        if config.streams.iter().any(|declared| declared.name == stream.name) {
            let message = format!(
                "stream `{}` is declared by `[assign]`: choose another name there",
                stream.name
            );
            problems.push(format!("streams.{}", stream.name), message);
        } else {
            config.streams.push(stream);
        }
    }
}

/// The field that identifies events must be there in each, and be a text or a whole number.
fn check_id(declared: &StreamDeclaration, id: &str, problems: &mut Problems) {
    let Some(field) = declared.field(id) else {
        let hint = hint(id, declared.fields.iter().map(|field| field.name.as_str()));
        problems.push(
            "assign.id",
            format!("stream `{}` has no field `{id}`{hint}", declared.name),
        );
        return;
    };
    let fits = matches!(
        field.kind,
        FieldType::String { .. } | FieldType::Enum { .. } | FieldType::Uuid | FieldType::Int { .. }
    );
    if !fits || field.optional || field.path != [id] {
        let message =
            format!("`{id}` must be a required field at the top, of the type string, uuid, int or enum");
        problems.push("assign.id", message);
    }
}

/// The section that is being read.
struct Reading<'a> {
    table: &'a Table,
    problems: &'a mut Problems,
}

impl Reading<'_> {
    fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(format!("{SECTION}.{key}"), message);
    }

    fn section(&mut self) -> Option<AssignConfig> {
        let before = self.problems.0.len();
        let known = || TEXTS.iter().chain(OTHERS).copied();
        for key in self.table.keys() {
            if !known().any(|known| known == key) {
                self.problem(key, format!("unknown key{}", hint(key, known())));
            }
        }
        let defaults = AssignOptions::default();
        let options = AssignOptions {
            id: self.text("id").unwrap_or(defaults.id),
            copy: self.copy(),
            limit: u32::try_from(self.count("limit", 1, 4_096, u64::from(defaults.limit)))
                .unwrap_or(u32::MAX),
            session: self.session(defaults.session),
        };
        let assignments = self.stream_name("assignments", "assignments");
        let workers = self.count("workers", 1, 256, 16);
        let remember = self.count("remember", 1_000, 10_000_000, 100_000);
        let urls = ["redis", "postgres", "amqp"].map(|server| self.url(server));
        let queue = self.text("queue");
        let place = if queue.is_some() || urls.iter().any(Option::is_some) {
            if let Some(stream) = self.text("stream") {
                let message = format!(
                    "`{stream}` and servers are both given: events come from a stream or from `queue`; a file that \
                     comes later takes it back with `stream = \"\"`"
                );
                self.problem("stream", message);
            }
            self.servers(queue, urls, workers)
        } else {
            let stream = self.text("stream");
            if stream.is_none() {
                self.problem(
                    "stream",
                    "is missing: the stream whose events are handed out, or `queue` and servers",
                );
            }
            Some(AssignPlace::Embedded {
                stream: self.stream_name("stream", "missing")?,
                answers: self.stream_name("answers", "answers")?,
                remember: usize::try_from(remember).unwrap_or(usize::MAX),
            })
        };
        let mut shown = self.table.clone();
        for secret in SECRETS {
            shown.remove(*secret);
        }
        if self.problems.0.len() > before {
            return None;
        }
        Some(AssignConfig {
            options,
            place: place?,
            assignments: assignments?,
            shown,
        })
    }

    fn servers(
        &mut self,
        queue: Option<String>,
        urls: [Option<String>; 3],
        workers: u64,
    ) -> Option<AssignPlace> {
        if queue.is_none() {
            self.problem(
                "queue",
                "is missing: with servers events come from a queue of RabbitMQ",
            );
        }
        for (key, url) in ["redis_url", "postgres_url", "amqp_url"].into_iter().zip(&urls) {
            if url.is_none() {
                let message =
                    "is missing: with servers `redis_url`, `postgres_url` and `amqp_url` are all needed";
                self.problem(key, message);
            }
        }
        let [redis, postgres, amqp] = urls;
        let servers = ServersOptions {
            redis_url: redis?,
            redis_prefix: self.text("redis_prefix").unwrap_or_default(),
            postgres_url: postgres?,
            amqp_url: amqp?,
            queue: queue?,
            answers: self.text("answers").unwrap_or_else(|| "answers".to_owned()),
            workers: u16::try_from(workers).unwrap_or(u16::MAX),
        };
        if servers.queue == servers.answers {
            self.problem(
                "answers",
                format!("and `queue` are one queue, `{}`", servers.queue),
            );
        }
        for wrong in servers.check().err().unwrap_or_default() {
            let key = match wrong {
                UrlError::Redis => "redis_url",
                UrlError::Postgres => "postgres_url",
                UrlError::Amqp => "amqp_url",
            };
            self.problem(key, wrong.to_string());
        }
        Some(AssignPlace::Servers(servers))
    }

    /// A text; nothing when it is empty.
    fn text(&mut self, key: &str) -> Option<String> {
        match self.table.get(key)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text.clone()),
            // The value is not shown: it may be a secret.
            _ => {
                self.problem(key, "is not text");
                None
            }
        }
    }

    fn stream_name(&mut self, key: &str, default: &str) -> Option<StreamName> {
        let name = self.text(key).unwrap_or_else(|| default.to_owned());
        let parsed = StreamName::parse(&name);
        parsed.map_err(|error| self.problem(key, error.to_string())).ok()
    }

    /// The address of a server, or the content of the file that holds it, with the password that is given beside it.
    fn url(&mut self, server: &str) -> Option<String> {
        let (key, file_key) = (format!("{server}_url"), format!("{server}_url_file"));
        let url = match (self.text(&key), self.text(&file_key)) {
            (Some(_), Some(_)) => {
                self.problem(&file_key, format!("and `{key}` are both given: keep one"));
                return None;
            }
            (Some(url), None) => url,
            (None, Some(file)) => match std::fs::read_to_string(PathBuf::from(&file)) {
                Ok(url) => url.trim_end_matches(['\r', '\n']).to_owned(),
                Err(error) => {
                    self.problem(&file_key, format!("read `{file}`: {error}"));
                    return None;
                }
            },
            (None, None) => return None,
        };
        let password_key = format!("{server}_password");
        let Some(password) = self.text(&password_key) else {
            return Some(url);
        };
        // What is no URL is told so by whoever checks it.
        let Ok(mut parsed) = url::Url::parse(&url) else {
            return Some(url);
        };
        if parsed.set_password(Some(&password)).is_err() {
            self.problem(&password_key, format!("needs a host in `{key}`"));
        }
        Some(parsed.into())
    }

    fn count(&mut self, key: &str, min: u64, max: u64, default: u64) -> u64 {
        let Some(value) = self.table.get(key) else {
            return default;
        };
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => number,
            None => {
                self.problem(key, format!("{value} is not a whole number from {min} to {max}"));
                default
            }
        }
    }

    fn session(&mut self, default: Duration) -> Duration {
        let (min, max) = (Duration::from_millis(500), Duration::from_secs(86_400));
        let Some(text) = self.text("session") else {
            return default;
        };
        match parse_duration(&text) {
            Ok(session) if (min..=max).contains(&session) => session,
            Ok(_) => {
                self.problem("session", format!("`{text}` is not from `500ms` to `1d`"));
                default
            }
            Err(error) => {
                self.problem("session", error.to_string());
                default
            }
        }
    }

    fn copy(&mut self) -> Vec<String> {
        let Some(value) = self.table.get("copy") else {
            return Vec::new();
        };
        let fields = value.as_array();
        let texts = fields.and_then(|fields| {
            fields
                .iter()
                .map(|field| field.as_str().map(str::to_owned))
                .collect()
        });
        texts.unwrap_or_else(|| {
            self.problem("copy", format!("{value} is not a list of fields"));
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests;
