//! One section of the configuration under a name that somebody chose, while it is being read: `[destinations.NAME]`,
//! `[sources.NAME]`. What is wrong is said with the key, and never with a secret in it.

use std::path::PathBuf;

use event::{StreamDeclaration, StreamName};
use toml::{Table, Value};

use super::check::hint;
use super::problem::Problems;
use super::secret::Secret;

/// Most bytes of a name in a database: what PostgreSQL keeps of one; MySQL allows 64.
const NAME_BYTES_MAX: usize = 63;

/// One section under a name of somebody's that is being read.
pub(super) struct Reading<'a> {
    pub(super) key: String,
    pub(super) table: &'a Table,
    pub(super) streams: &'a [StreamDeclaration],
    pub(super) problems: &'a mut Problems,
}

impl Reading<'_> {
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(format!("{}.{key}", self.key), message);
    }

    /// A URL that begins with one of some schemes, with the password in it.
    pub(super) fn secret_url(&mut self, schemes: &[&str]) -> Option<Secret> {
        let url = self.secret("url")?;
        let password = self.secret("password");
        let Some(url) = url else {
            self.problem(
                "url",
                "is missing: write `url` or `url_file`, or set the variable",
            );
            return None;
        };
        let mut parsed = match url::Url::parse(&url) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.problem("url", format!("is not a URL: {error}"));
                return None;
            }
        };
        if let Some(scheme) = schemes.first()
            && !schemes.contains(&parsed.scheme())
        {
            self.problem("url", format!("must begin with `{scheme}://`"));
            return None;
        }
        if let Some(Some(password)) = password
            && parsed.set_password(Some(&password)).is_err()
        {
            self.problem("password", "needs a URL with a host");
        }
        Some(Secret(parsed.into()))
    }

    /// A text or the content of a file; `Some(None)` when neither is given, `None` when it cannot be had.
    pub(super) fn secret(&mut self, key: &str) -> Option<Option<String>> {
        let file_key = format!("{key}_file");
        match (self.text(key), self.text(&file_key)) {
            (Some(_), Some(_)) => {
                self.problem(&file_key, format!("and `{key}` are both given: keep one"));
                None
            }
            (Some(text), None) => Some(Some(text)),
            (None, Some(file)) => match std::fs::read_to_string(PathBuf::from(&file)) {
                Ok(text) => Some(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => {
                    self.problem(&file_key, format!("read `{file}`: {error}"));
                    None
                }
            },
            (None, None) => Some(None),
        }
    }

    pub(super) fn stream_names(&mut self) -> Option<Vec<StreamName>> {
        let names = self.texts("streams", self.table.get("streams")?, "streams")?;
        let mut found = Vec::new();
        for name in names {
            found.extend(self.stream("streams", &name).map(|stream| stream.name.clone()));
        }
        Some(found)
    }

    pub(super) fn stream(&mut self, key: &str, name: &str) -> Option<&StreamDeclaration> {
        let found = self.streams.iter().find(|stream| stream.name.as_str() == name);
        if found.is_none() {
            let hint = hint(name, self.streams.iter().map(|stream| stream.name.as_str()));
            self.problem(key, format!("no stream `{name}` is declared{hint}"));
        }
        found
    }

    pub(super) fn check_name(&mut self, key: &str, name: &str) {
        let begins = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !begins || !plain || name.len() > NAME_BYTES_MAX {
            let message = format!(
                "`{name}` is no name: a letter or _ first, then letters, digits and _, {NAME_BYTES_MAX} at most"
            );
            self.problem(key, message);
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.table.get(key)? {
            Value::String(text) => Some(text.clone()),
            // The value is not shown: it may be a secret.
            _ => {
                self.problem(key, "is not text");
                None
            }
        }
    }

    pub(super) fn texts(&mut self, key: &str, value: &Value, what: &str) -> Option<Vec<String>> {
        let texts = value.as_array().filter(|list| !list.is_empty());
        let texts = texts.map(|list| list.iter().map(|one| one.as_str().map(str::to_owned)).collect());
        let texts: Option<Vec<String>> = texts.flatten();
        if texts.is_none() {
            self.problem(key, format!("{value} is not a list of {what}"));
        }
        texts
    }

    pub(super) fn unknown_keys(&mut self, prefix: &str, table: &Table, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = hint(key, known.iter().copied());
            let path = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            self.problem(&path, format!("unknown key{hint}"));
        }
    }
}
