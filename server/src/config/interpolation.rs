//! `${NAME}` in the values of configuration files: what the environment says, put in before anything is checked.
//!
//! | written | means |
//! |---|---|
//! | `${NAME}` | the variable; a problem when it is not set |
//! | `${NAME:-text}` | the text when it is not set or empty; the text may have variables again |
//! | `$${` | the two characters `${` |
//!
//! A value that came from a variable is text, as every variable is. Where a number, a flag or a list is wanted, it is
//! read as one; what cannot be read so stays text, which the check then reports. A text that is written in a file
//! as it is keeps its kind: `partitions = "3"` remains a mistake.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::problem::Problems;
use super::settings::Setting;
use super::sources::value_of_text;

/// Deepest nesting of defaults that have variables.
const DEPTH_MAX: usize = 8;

/// Keys of sections with chosen names (`[streams.…]`, `[routes.…]` …) that want a number.
const NUMBERS: &[&str] = &[
    "batch",
    "batch_rows",
    "limit",
    "limit_max",
    "max",
    "max_bytes",
    "min",
    "rows",
    "status",
];
/// Such keys that want `true` or `false`.
const FLAGS: &[&str] = &["credentials", "load_data", "optional", "ready"];
/// Such keys that want a list, which is written with commas.
const LISTS: &[&str] = &["columns", "headers", "origins", "streams"];

/// What the path of one value of a list ends in.
const ELEMENT: &str = "[]";
/// What JSON of other people's lies below, in which every text stays one.
const OF_OTHERS: &[&str] = &[".body.", ".shape."];

/// The variables of the environment. Values may be secrets, so they are not shown.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, Option<String>>);

impl Variables {
    /// A variable with its value, or without one when it is not UTF-8.
    pub fn insert(&mut self, name: String, value: Option<String>) {
        self.0.insert(name, value);
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} variables", self.0.len())
    }
}

/// Puts variables into every text of a file's table.
pub(super) fn interpolate(table: &mut Table, variables: &Variables, problems: &mut Problems) {
    for (key, value) in table {
        in_value(key, value, variables, problems);
    }
}

fn in_value(path: &str, value: &mut Value, variables: &Variables, problems: &mut Problems) {
    match value {
        Value::String(text) => match filled(text, variables, 0) {
            Ok(None) => {}
            Ok(Some(Filled { text, variable: true })) => *value = wanted(path, text),
            Ok(Some(Filled {
                text,
                variable: false,
            })) => *value = Value::String(text),
            Err(message) => problems.push(path, message),
        },
        Value::Array(values) => {
            for value in values {
                // One of a list stays one.
                in_value(&format!("{path}.{ELEMENT}"), value, variables, problems);
            }
        }
        Value::Table(table) => {
            for (key, value) in table {
                in_value(&format!("{path}.{key}"), value, variables, problems);
            }
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// A text after variables were put in.
struct Filled {
    text: String,
    /// Whether there was one.
    variable: bool,
}

/// Puts variables into a text; `None` when it has nothing to put in.
fn filled(text: &str, variables: &Variables, depth: usize) -> Result<Option<Filled>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let (mut out, mut rest, mut variable) = (String::new(), text, false);
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let inside =
            inside(&from[2..]).ok_or("has a `${` without its `}`; write `$${` for the text itself")?;
        rest = &from[2 + inside.len() + 1..];
        out.push_str(&value_of(inside, variables, depth)?);
        variable = true;
    }
    out.push_str(rest);
    Ok(Some(Filled { text: out, variable }))
}

/// What stands before the `}` that ends an expression; a default may have expressions of its own.
fn inside(text: &str) -> Option<&str> {
    let (mut open, mut at) = (0_usize, 0);
    loop {
        let rest = &text[at..];
        let end = rest.find('}')?;
        match rest.find("${") {
            Some(begin) if begin < end => {
                open += 1;
                at += begin + 2;
            }
            _ if open > 0 => {
                open -= 1;
                at += end + 1;
            }
            _ => return Some(&text[..at + end]),
        }
    }
}

fn value_of(expression: &str, variables: &Variables, depth: usize) -> Result<String, String> {
    let (name, default) = match expression.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (expression, None),
    };
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !name.bytes().all(of_name)
    {
        // Not shown: it may be a part of a secret.
        return Err(
            "has a `${` without the name of a variable: write `${NAME}` or `${NAME:-default}`, and `$${` for the text \
             itself"
                .to_owned(),
        );
    }
    match (variables.0.get(name), default) {
        (Some(None), _) => Err(format!("the variable `{name}` is not UTF-8")),
        (Some(Some(value)), None) => Ok(value.clone()),
        (Some(Some(value)), Some(_)) if !value.is_empty() => Ok(value.clone()),
        (_, Some(default)) => {
            if depth == DEPTH_MAX {
                return Err(format!("defaults are nested deeper than {DEPTH_MAX}"));
            }
            let found = filled(default, variables, depth + 1)?;
            Ok(found.map_or_else(|| default.to_owned(), |filled| filled.text))
        }
        (None, None) => Err(format!(
            "the variable `{name}` is not set: set it, or write `${{{name}:-default}}`"
        )),
    }
}

/// A text from a variable as what its key wants.
fn wanted(path: &str, text: String) -> Value {
    if let Some(setting) = Setting::of(path) {
        return value_of_text(setting, &text);
    }
    if OF_OTHERS.iter().any(|part| path.contains(part)) {
        return Value::String(text);
    }
    let key = path.rsplit('.').next().unwrap_or_default();
    let read = if NUMBERS.contains(&key) {
        let whole = text.parse().map(Value::Integer).ok();
        whole.or_else(|| text.parse().map(Value::Float).ok())
    } else if FLAGS.contains(&key) {
        text.parse().map(Value::Boolean).ok()
    } else if LISTS.contains(&key) {
        let parts = text.split(',').map(|part| Value::String(part.trim().to_owned()));
        Some(Value::Array(parts.collect()))
    } else {
        None
    };
    read.unwrap_or(Value::String(text))
}

/// A text of the effective configuration as a file would have it, so that it means the same when it is read again.
pub(super) fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let mut variables = Variables::default();
        for (name, value) in [("A", "1"), ("EMPTY", ""), ("B", "${A}")] {
            variables.insert(name.to_owned(), Some(value.to_owned()));
        }
        variables.insert("BAD".to_owned(), None);
        Ok(filled(text, &variables, 0)?.map_or_else(|| text.to_owned(), |filled| filled.text))
    }

    #[test]
    fn variables_defaults_and_literals_are_told_apart() {
        let cases = [
            ("plain $HOME $ $$", "plain $HOME $ $$"),
            ("${A}", "1"),
            ("a${A}b${A}c", "a1b1c"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${A:-x}", "1"),
            ("${NO:-}", ""),
            ("${NO:-a:-b}", "a:-b"),
            ("${NO:-${NEITHER:-${A}}}", "1"),
            ("${NO:-http://h:1/{x}", "http://h:1/{x"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            // What a variable says is not looked into.
            ("${B}", "${A}"),
        ];
        for (written, expected) in cases {
            assert_eq!(of(written).as_deref(), Ok(expected), "{written}");
        }
        for wrong in [
            "${NO}",
            "${A",
            "${}",
            "${1A}",
            "${A-x}",
            "${A B}",
            "${BAD}",
            "${NO:-${A}",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(of("${NO}").expect_err("not set").contains("`NO` is not set"));
    }

    #[test]
    fn what_is_escaped_reads_as_itself() {
        for text in ["${A}", "$${A}", "$$${", "a ${ b", "none"] {
            assert_eq!(of(&escaped(text)).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_variable_becomes_what_its_key_wants() {
        let text = |path: &str, text: &str| wanted(path, text.to_owned());
        assert_eq!(text("journal.kafka.partitions", "3"), Value::Integer(3));
        assert_eq!(text("journal.kafka.brokers", "3"), Value::from("3"));
        assert_eq!(text("lake.lz4", "true"), Value::Boolean(true));
        assert_eq!(text("roles", "ingest, sink"), Value::from(vec!["ingest", "sink"]));
        assert_eq!(text("routes.GET /x.limit", "30"), Value::Integer(30));
        assert_eq!(text("routes.GET /x.limit", "many"), Value::from("many"));
        assert_eq!(text("routes.GET /x.body.status", "30"), Value::from("30"));
        assert_eq!(text("routes.GET /x.columns.[]", "a,b"), Value::from("a,b"));
        assert_eq!(text("destinations.a.password", "1234"), Value::from("1234"));
        assert_eq!(text("destinations.a.load_data", "false"), Value::Boolean(false));
    }
}
