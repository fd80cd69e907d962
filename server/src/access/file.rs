//! The file of tokens: entries in TOML, read as a whole or not at all.
//!
//! ```toml
//! [tokens.collector]
//! hash = "sha256:…"                       # of the token's text, as `tidemill token new` writes it
//! write = ["running", "music"]            # named streams
//! read = "all"                            # every stream, `_rejects` as well
//! expires = "2027-01-01T00:00:00Z"        # may be absent
//! ```
//!
//! Errors name entries and keys and never show a value: what was pasted in the wrong place may be a secret.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::StreamName;
use event::moment::rfc3339;
use toml::{Table, Value};

use super::tokens::{NAME_BYTES_MAX, TOKENS_MAX};
use super::{Digest, Grants, Scope, Streams, Token, TokenName, Tokens};

/// What stands for every stream.
const ALL: &str = "all";

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Tokens, String> {
    let file: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before
            .unwrap_or_default()
            .bytes()
            .filter(|byte| *byte == b'\n')
            .count()
            + 1;
        format!("line {line} is not TOML: {}", error.message())
    })?;
    let mut problems = Vec::new();
    for key in file.keys().filter(|key| *key != "tokens") {
        problems.push(format!("`{key}` is unknown; a token is `[tokens.NAME]`"));
    }
    let mut tokens: Vec<Arc<Token>> = Vec::new();
    match file.get("tokens") {
        None => {}
        Some(Value::Table(entries)) if entries.len() > TOKENS_MAX => {
            problems.push(format!(
                "{} tokens exceed the limit of {TOKENS_MAX}",
                entries.len()
            ));
        }
        Some(Value::Table(entries)) => {
            for (name, entry) in entries {
                let Some(token) = token(name, entry, &mut problems) else {
                    continue;
                };
                if let Some(other) = tokens.iter().find(|other| other.hash == token.hash) {
                    problems.push(format!("`{name}` has the hash of `{}`", other.name));
                }
                tokens.push(Arc::new(token));
            }
        }
        Some(_) => problems.push("`tokens` is a section: write `[tokens.NAME]`".to_owned()),
    }
    if problems.is_empty() {
        Ok(Tokens::new(tokens))
    } else {
        Err(problems.join("; "))
    }
}

/// A token's entry.
pub(crate) fn entry(token: &Token) -> String {
    let quoted = |text: &str| Value::String(text.to_owned()).to_string();
    // A name may have a dot.
    let mut entry = format!(
        "[tokens.{}]\nhash = \"{}\"\n",
        quoted(token.name.as_str()),
        token.hash
    );
    for scope in Scope::EVERY {
        match token.grants.of(scope) {
            Streams::No => {}
            Streams::All => entry.push_str(&format!("{scope} = \"{ALL}\"\n")),
            Streams::Named(names) => {
                let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
                entry.push_str(&format!("{scope} = [{}]\n", names.join(", ")));
            }
        }
    }
    if let Some(expires) = token.expires {
        entry.push_str(&format!("expires = \"{}\"\n", written(expires)));
    }
    entry
}

/// One entry; `None` when something is wrong, which is then among the problems.
fn token(name: &str, entry: &Value, problems: &mut Vec<String>) -> Option<Token> {
    let before = problems.len();
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    let mut wrong = |message: String| problems.push(format!("`tokens.{shown}`: {message}"));
    let Value::Table(entry) = entry else {
        wrong("is a section: write `[tokens.NAME]`".to_owned());
        return None;
    };
    let name = TokenName::parse(name).map_err(&mut wrong).ok();
    let (mut hash, mut expires, mut grants) = (None, None, Grants::default());
    for (key, value) in entry {
        let scope = Scope::EVERY.into_iter().find(|scope| scope.as_str() == key);
        match (key.as_str(), scope) {
            (_, Some(scope)) => match streams(value) {
                Ok(streams) => *grants.of_mut(scope) = streams,
                Err(message) => wrong(format!("`{scope}` {message}")),
            },
            ("hash", _) => {
                hash = value.as_str().and_then(Digest::parse);
                if hash.is_none() {
                    wrong("`hash` is not `sha256:` and 64 hexadecimal digits".to_owned());
                }
            }
            ("expires", _) => match moment(value) {
                Some(moment) => expires = Some(moment),
                None => wrong("`expires` is not a time as \"2027-01-01T00:00:00Z\"".to_owned()),
            },
            _ => wrong(format!(
                "`{key}` is unknown; there are hash, write, read, admin, expires"
            )),
        }
    }
    if !entry.contains_key("hash") {
        wrong("`hash` is missing".to_owned());
    }
    if !Scope::EVERY
        .iter()
        .any(|scope| entry.contains_key(scope.as_str()))
    {
        wrong("it may do nothing: write one of write, read, admin".to_owned());
    }
    if problems.len() > before {
        return None;
    }
    Some(Token::new(name?, hash?, grants, expires))
}

/// `"all"`, or a list of names of streams.
fn streams(value: &Value) -> Result<Streams, String> {
    let names = match value {
        Value::String(text) if text == ALL => return Ok(Streams::All),
        Value::Array(names) => names,
        _ => return Err(format!("is not \"{ALL}\" or a list of streams")),
    };
    let mut named = BTreeSet::new();
    for name in names {
        let name = name.as_str().unwrap_or_default();
        let name = StreamName::parse(name).map_err(|_| {
            "names what cannot be a stream of its own; `_rejects` comes with \"all\"".to_owned()
        })?;
        named.insert(name.as_str().to_owned());
    }
    if named.is_empty() {
        return Err("is an empty list: leave it out".to_owned());
    }
    Ok(Streams::Named(named))
}

/// A time as text or as TOML's own.
fn moment(value: &Value) -> Option<SystemTime> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Datetime(moment) => moment.to_string(),
        _ => return None,
    };
    parse_moment(&text)
}

/// RFC 3339 with a zone.
pub(crate) fn parse_moment(text: &str) -> Option<SystemTime> {
    let micros = event::decode::parse_rfc3339(text.as_bytes())?;
    // What lies before 1970 is over as well.
    Some(UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

/// RFC 3339 in UTC, in whole seconds.
pub(crate) fn written(moment: SystemTime) -> String {
    let seconds = moment
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    rfc3339(
        i64::try_from(seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000),
    )
}

#[cfg(test)]
mod tests;
