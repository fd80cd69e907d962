//! Checks a merged table against the settings, and reports everything that is wrong at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use event::StreamDeclaration;
use event::units::{format_bytes, format_duration, parse_bytes, parse_duration};
use toml::{Table, Value};

use super::cors::{self, CorsConfig};
use super::destinations::destinations;
use super::event_sources;
use super::problem::Problems;
use super::run::{self, Config};
use super::secret::Properties;
use super::settings::{Kind, SETTINGS, Setting};

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Checked {
    Text(String),
    Flag(bool),
    Number(u64),
    Span(Duration),
    Words(Vec<String>),
    Addresses(Vec<SocketAddr>),
    Properties(Properties),
}

/// A value for every setting, by key.
pub(super) type Values = BTreeMap<&'static str, Checked>;

/// Tables that are read elsewhere: most of their keys are names that somebody chose.
const NAMED_TABLES: &[&str] = &[
    "streams",
    "destinations",
    "sources",
    "routes",
    super::assign::SECTION,
];

pub(super) fn check(merged: &Table) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    unknown_keys(merged, "", &mut problems);
    let mut values = Values::new();
    for setting in SETTINGS {
        let written = lookup(merged, setting.key);
        let default = default_value(setting);
        let value = match written.map(|value| checked(setting, value)) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(message)) => {
                problems.push(setting.key, message);
                default
            }
        };
        values.insert(setting.key, value);
    }
    let (streams, cors) = streams(merged, &mut problems);
    let destinations = destinations(merged, &streams, &mut problems);
    let sources = event_sources::read(merged, &streams, &mut problems);
    let routes = super::routes::routes(merged, &streams, &mut problems);
    let mut config = run::build(&values, streams, destinations, &mut problems);
    event_sources::attach(merged, sources, &mut config, &mut problems);
    config.routes = routes;
    super::assign::attach(merged, &mut config, &mut problems);
    config.cors.streams = cors.streams;
    config.cors.shown = cors.shown;
    super::live::check_routes(&config, &mut problems);
    problems.none()?;
    Ok(config)
}

/// What a setting is when nothing was written.
fn default_value(setting: &Setting) -> Checked {
    let text = Value::String(setting.default.to_owned());
    let value = match setting.kind {
        Kind::Flag => Value::Boolean(setting.default == "true"),
        Kind::Properties => Value::Table(Table::new()),
        Kind::Texts => Value::Array(Vec::new()),
        Kind::Count(..) => setting.default.parse().map_or(text, Value::Integer),
        _ => text,
    };
    checked(setting, &value).expect("a test checks every default")
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((first, rest)) => lookup(table.get(first)?.as_table()?, rest),
    }
}

/// Reads one value as its setting wants it; the error says value and bound.
fn checked(setting: &Setting, value: &Value) -> Result<Checked, String> {
    match setting.kind {
        Kind::Secret => match value.as_str() {
            Some(text) => Ok(Checked::Text(text.to_owned())),
            // Whatever it is, it may be a secret.
            None => Err("is not text".to_owned()),
        },
        Kind::Text => text(value, "text").map(|text| Checked::Text(text.to_owned())),
        Kind::Flag => value
            .as_bool()
            .map(Checked::Flag)
            .ok_or_else(|| format!("{value} is not `true` or `false`")),
        Kind::Count(min, max) => {
            let number = value
                .as_integer()
                .ok_or_else(|| format!("{value} is not a whole number"))?;
            let number = u64::try_from(number).map_err(|_| format!("{number} is below {min}"))?;
            within(number, min, max, ToString::to_string).map(Checked::Number)
        }
        Kind::Bytes(min, max) => {
            let written = text(value, "a size with a unit, as \"128MiB\"")?;
            let bytes = parse_bytes(written).map_err(|error| error.to_string())?;
            within(bytes, min, max, |bytes| format_bytes(*bytes)).map(Checked::Number)
        }
        Kind::Span(min, max) => {
            let written = text(value, "a time with a unit, as \"5s\"")?;
            let span = parse_duration(written).map_err(|error| error.to_string())?;
            within(span, min, max, |span| format_duration(*span)).map(Checked::Span)
        }
        Kind::Word(words) => Ok(Checked::Text(word(text(value, "a word")?, words)?)),
        Kind::Words(words) => {
            let each = list(value)?.into_iter().map(|one| word(&one, words));
            each.collect::<Result<_, _>>().map(Checked::Words)
        }
        Kind::Texts => texts(value).map(Checked::Words),
        Kind::Addresses => {
            let address = |one: String| {
                one.parse::<SocketAddr>()
                    .map_err(|_| format!("`{one}` is not an address with a port, as \"127.0.0.1:8080\""))
            };
            let each = list(value)?.into_iter().map(address);
            each.collect::<Result<_, _>>().map(Checked::Addresses)
        }
        Kind::Properties => properties(value).map(Checked::Properties),
    }
}

/// A table of texts; a number or a flag is taken as it is written. Values are not shown: they may be secrets.
fn properties(value: &Value) -> Result<Properties, String> {
    let table = value
        .as_table()
        .ok_or("is a section: write `\"name\" = \"value\"` below it")?;
    let pair = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Boolean(_) | Value::Float(_) => value.to_string(),
            _ => return Err(format!("`{name}` is not text; a name with dots needs quotes")),
        };
        Ok((name.clone(), text))
    };
    Ok(Properties(table.iter().map(pair).collect::<Result<_, _>>()?))
}

fn text<'a>(value: &'a Value, wanted: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{value} is not {wanted}"))
}

/// One text, or a list of them that is not empty.
fn list(value: &Value) -> Result<Vec<String>, String> {
    match texts(value)? {
        none if none.is_empty() => Err("the list is empty".to_owned()),
        texts => Ok(texts),
    }
}

/// One text, or a list of them.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    values
        .iter()
        .map(|one| text(one, "text").map(str::to_owned))
        .collect()
}

fn word(written: &str, words: &[&'static str]) -> Result<String, String> {
    if words.contains(&written) {
        return Ok(written.to_owned());
    }
    let hint = hint(written, words.iter().copied());
    Err(format!("`{written}` is not one of {}{hint}", words.join(", ")))
}

fn within<T: PartialOrd>(value: T, min: T, max: T, shown: impl Fn(&T) -> String) -> Result<T, String> {
    if value < min {
        Err(format!(
            "`{}` is below the minimum of `{}`",
            shown(&value),
            shown(&min)
        ))
    } else if value > max {
        Err(format!(
            "`{}` is above the maximum of `{}`",
            shown(&value),
            shown(&max)
        ))
    } else {
        Ok(value)
    }
}

/// Reports keys that are no setting, wherever they are.
fn unknown_keys(table: &Table, prefix: &str, problems: &mut Problems) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        if prefix.is_empty() && NAMED_TABLES.contains(&key.as_str()) || Setting::of(&path).is_some() {
            continue;
        }
        let inner = format!("{path}.");
        let is_section = SETTINGS.iter().any(|setting| setting.key.starts_with(&inner));
        match value {
            Value::Table(below) if is_section => unknown_keys(below, &path, problems),
            _ if is_section => problems.push(path, "is a section: write `[…]` with keys below"),
            _ => {
                let sections = SETTINGS
                    .iter()
                    .filter_map(|setting| Some(setting.key.rsplit_once('.')?.0));
                let keys = SETTINGS.iter().map(|setting| setting.key);
                let known = keys.chain(sections).chain(NAMED_TABLES.iter().copied());
                let hint = hint(&path, known);
                problems.push(path, format!("unknown key{hint}"));
            }
        }
    }
}

/// The declared streams; the starter streams when there are none.
fn streams(merged: &Table, problems: &mut Problems) -> (Vec<StreamDeclaration>, CorsConfig) {
    match merged.get("streams") {
        None => (StreamDeclaration::starters(), CorsConfig::default()),
        Some(Value::Table(table)) => {
            let mut table = table.clone();
            let cors = cors::take_of_streams(&mut table, problems);
            let streams = event::stream::parse_streams(&table).unwrap_or_else(|found| {
                for problem in found {
                    problems.push(problem.key, problem.message);
                }
                Vec::new()
            });
            check_rollups(&streams, problems);
            (streams, cors)
        }
        Some(_) => {
            problems.push("streams", "is a section: write `[streams.NAME]`");
            (Vec::new(), CorsConfig::default())
        }
    }
}

/// Whether the SQL of every rollup fits its source and its fields.
fn check_rollups(streams: &[StreamDeclaration], problems: &mut Problems) {
    for stream in streams {
        let Some(rollup) = &stream.rollup else { continue };
        let source = streams.iter().find(|source| source.name == rollup.from);
        if let Some(source) = source
            && let Err(message) = analytics::rollup::check(stream, source)
        {
            problems.push(format!("streams.{}.rollup.sql", stream.name), message);
        }
    }
}

/// ", did you mean `x`?" when something known is close.
pub(super) fn hint<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |key: &str| {
        // `size` alone should find `lake.roll.size`, with a whole key in front of a part of one.
        let whole = 2 * edits(written, key);
        let part = 2 * edits(&last(written), &last(key)) + 1;
        whole.min(part)
    };
    match known.map(|key| (distance(key), key)).min() {
        Some((edits, key)) if edits <= 2 * (written.len() / 4).max(1) + 1 => {
            format!(", did you mean `{key}`?")
        }
        _ => String::new(),
    }
}

/// How many letters must be added, dropped or changed.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
