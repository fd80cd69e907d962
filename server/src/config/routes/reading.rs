//! Reads the keys of one route's section, and notes everything that is wrong with them.

use event::{StreamDeclaration, StreamName};
use toml::{Table, Value};

use super::super::check::hint;
use super::super::problem::Problems;
use super::answer::{AnswerConfig, json};

/// One section that is being read.
pub(super) struct Reading<'a> {
    key: String,
    table: &'a Table,
    streams: &'a [StreamDeclaration],
    problems: &'a mut Problems,
}

impl<'a> Reading<'a> {
    /// Begins to read a section; `key` is its name in problems.
    pub(super) fn new(
        key: String,
        table: &'a Table,
        streams: &'a [StreamDeclaration],
        problems: &'a mut Problems,
    ) -> Self {
        Self {
            key,
            table,
            streams,
            problems,
        }
    }

    /// Notes what is wrong with a key; with the section itself when the key is empty.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        let separator = if key.is_empty() { "" } else { "." };
        self.problems
            .push(format!("{}{separator}{key}", self.key), message);
    }

    /// Notes keys that are none of these.
    pub(super) fn unknown_keys(&mut self, known: &[&str]) {
        for key in self.table.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = hint(key, known.iter().copied());
            self.problem(key, format!("unknown key{hint}"));
        }
    }

    /// What is written for a key.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key)
    }

    /// A text.
    pub(super) fn text(&mut self, key: &str) -> Option<&'a str> {
        match self.table.get(key)? {
            Value::String(text) => Some(text),
            other => {
                self.problem(key, format!("{other} is not text"));
                None
            }
        }
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<&'a str>> {
        let value = self.table.get(key)?;
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        let texts: Option<Vec<_>> = values.iter().map(Value::as_str).collect();
        if texts.is_none() {
            self.problem(key, format!("{value} is not a list of texts"));
        }
        texts
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.table.get(key)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.problem(key, format!("{value} is not `true` or `false`"));
        }
        flag
    }

    /// A whole number within bounds, which are included.
    pub(super) fn count(&mut self, key: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.table.get(key)?;
        let count = value.as_integer().and_then(|count| u64::try_from(count).ok());
        let count = count.filter(|count| (min..=max).contains(count));
        if count.is_none() {
            self.problem(key, format!("{value} is not a whole number from {min} to {max}"));
        }
        count
    }

    /// One of some words.
    pub(super) fn word(&mut self, key: &str, words: &[&'static str]) -> Option<&'static str> {
        let written = self.text(key)?;
        let found = words.iter().copied().find(|word| *word == written);
        if found.is_none() {
            let hint = hint(written, words.iter().copied());
            self.problem(
                key,
                format!("`{written}` is not one of {}{hint}", words.join(", ")),
            );
        }
        found
    }

    /// A section.
    pub(super) fn table(&mut self, key: &str) -> Option<&'a Table> {
        match self.table.get(key)? {
            Value::Table(table) => Some(table),
            other => {
                self.problem(
                    key,
                    format!("{other} is not a section, as `{{ name = \"value\" }}`"),
                );
                None
            }
        }
    }

    /// Any value as JSON.
    pub(super) fn json(&mut self, key: &str) -> Option<serde_json::Value> {
        let value = self.table.get(key)?;
        match json(value) {
            Ok(json) => Some(json),
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    /// A status and a body, as `{ status = 400, body = { error = "…" } }`; the body may have these places.
    pub(super) fn answer(&mut self, key: &str, status: u16, places: &[&str]) -> Option<AnswerConfig> {
        let table = self.table(key)?;
        let inner = format!("{}.{key}", self.key);
        let mut reading = Reading::new(inner, table, self.streams, self.problems);
        Some(super::answer::read(&mut reading, status, places))
    }

    /// The stream of that name, built-in ones too when `built_in` says so; what is wrong is noted at `key`.
    pub(super) fn declared(&mut self, key: &str, name: &str) -> Option<&'a StreamDeclaration> {
        let found = self.streams.iter().find(|stream| stream.name.as_str() == name);
        if found.is_none() {
            let streams = self.streams;
            let hint = hint(name, streams.iter().map(|stream| stream.name.as_str()));
            self.problem(key, format!("no stream `{name}` is declared{hint}"));
        }
        found
    }

    /// The stream that `stream` names; a problem when there is none.
    pub(super) fn stream(&mut self) -> Option<&'a StreamDeclaration> {
        if self.table.get("stream").is_none() {
            self.problem("stream", "is missing: which stream is it about?");
            return None;
        }
        let name = self.text("stream")?;
        self.declared("stream", name)
    }

    /// The streams that `streams` or `stream` name, at least one; problems when there are none.
    pub(super) fn streams(&mut self) -> Vec<&'a StreamDeclaration> {
        if self.table.get("streams").is_none() {
            return self.stream().into_iter().collect();
        }
        if self.table.get("stream").is_some() {
            self.problem("streams", "and `stream` are both given: keep one");
        }
        let names = self.texts("streams").unwrap_or_default();
        if names.is_empty() {
            self.problem("streams", "names no stream");
        }
        let mut found: Vec<&StreamDeclaration> = Vec::new();
        for name in names {
            let Some(stream) = self.declared("streams", name) else {
                continue;
            };
            if found.iter().any(|other| other.name == stream.name) {
                self.problem("streams", format!("`{name}` is there twice"));
            }
            found.push(stream);
        }
        found
    }

    /// Notes parameters in the path of a route that has no use for them.
    pub(super) fn no_parameters(&mut self, path: &super::RoutePath) {
        for parameter in path.parameters() {
            self.problem(
                "",
                format!("the path's parameter `{{{parameter}}}` means nothing here"),
            );
        }
    }
}

/// The names of streams.
pub(super) fn names(streams: &[&StreamDeclaration]) -> Vec<StreamName> {
    streams.iter().map(|stream| stream.name.clone()).collect()
}
