//! What the parameters of a view mean: `parameters`, `required`, `aliases`, `lenient`, `zone`.

use std::collections::BTreeMap;

use analytics::views::{Aliases, Lenient, Meaning, Parameters};
use event::{FieldType, StreamDeclaration};
use toml::Value;

use super::super::check::hint;
use super::RoutePath;
use super::reading::Reading;

/// Words of `lenient`.
const LENIENT: &[&str] = &["numbers", "values", "parameters"];
/// Words of `zone`.
const ZONES: &[&str] = &["required", "utc"];

/// Reads them. `meanings` are the words that a parameter may mean besides the fields of a stream; `required` are those
/// that must be given.
pub(super) fn read(
    reading: &mut Reading<'_>,
    path: &RoutePath,
    streams: &[&StreamDeclaration],
    meanings: &[&'static str],
    required: &[&str],
) -> Parameters {
    let mut found = Parameters::default();
    for (name, value) in reading.table("parameters").into_iter().flatten() {
        if let Some(meaning) = meaning(reading, name, value, streams, meanings) {
            add(reading, &mut found, name, meaning);
        }
    }
    for name in path.parameters() {
        if !found.named.iter().any(|(known, _)| known == name)
            && let Some(meaning) = meaning(reading, name, &Value::from(name), streams, meanings)
        {
            add(reading, &mut found, name, meaning);
        }
    }
    for name in reading.texts("required").unwrap_or_default() {
        if !found.named.iter().any(|(known, _)| known == name) {
            reading.problem("required", format!("`{name}` is none of the parameters"));
        }
        found.required.push(name.to_owned());
    }
    let must = found
        .named
        .iter()
        .filter(|(_, meaning)| required.iter().any(|word| is(meaning, word)));
    let must: Vec<_> = must.map(|(name, _)| name.clone()).collect();
    found.required.extend(must);
    found.lenient = lenient(reading);
    found.utc = reading.word("zone", ZONES) == Some("utc");
    found.aliases = aliases(reading, streams, &found);
    found
}

fn add(reading: &mut Reading<'_>, found: &mut Parameters, name: &str, meaning: Meaning) {
    if let Some((other, _)) = found.named.iter().find(|(_, known)| *known == meaning) {
        let message = format!("`{other}` and `{name}` mean the same");
        reading.problem("parameters", message);
    }
    found.named.push((name.to_owned(), meaning));
}

fn is(meaning: &Meaning, word: &str) -> bool {
    word_meaning(word).is_some_and(|known| known == *meaning)
}

fn word_meaning(word: &str) -> Option<Meaning> {
    Some(match word {
        "start" => Meaning::Start,
        "end" => Meaning::End,
        "limit" => Meaning::Limit,
        "offset" => Meaning::Offset,
        "cursor" => Meaning::Cursor,
        "index" => Meaning::Index,
        "interval" => Meaning::Interval,
        "by" => Meaning::By,
        _ => return None,
    })
}

/// What one parameter means: a word, a field, or `{ field = "limit" }` for a field that is called like a word.
fn meaning(
    reading: &mut Reading<'_>,
    name: &str,
    value: &Value,
    streams: &[&StreamDeclaration],
    meanings: &[&'static str],
) -> Option<Meaning> {
    let key = format!("parameters.{name}");
    let (written, only_field) = match value {
        Value::String(written) => (written.as_str(), false),
        Value::Table(table) if table.len() == 1 => match table.get("field").and_then(Value::as_str) {
            Some(field) => (field, true),
            None => {
                reading.problem(&key, "means a word, a field, or `{ field = \"…\" }`");
                return None;
            }
        },
        other => {
            reading.problem(
                &key,
                format!("{other} is no meaning: a word, a field, or `{{ field = \"…\" }}`"),
            );
            return None;
        }
    };
    if !only_field && meanings.contains(&written) {
        return word_meaning(written);
    }
    let fields = streams
        .iter()
        .flat_map(|stream| &stream.fields)
        .map(|field| field.name.as_str());
    let field = match streams {
        [stream] => stream.field(written),
        _ => None,
    };
    match field.map(|field| &field.kind) {
        Some(FieldType::Json) => {
            reading.problem(&key, format!("`{written}` is JSON, which cannot be asked for"));
            None
        }
        Some(_) => Some(Meaning::Field(written.to_owned())),
        None => {
            let hint = hint(written, meanings.iter().copied().chain(fields));
            let words = meanings.join(", ");
            let why = match streams {
                [stream] => format!("is no field of `{}` and", stream.name),
                [] => "is".to_owned(),
                _ => "is, for several streams,".to_owned(),
            };
            reading.problem(&key, format!("`{written}` {why} not one of {words}{hint}"));
            None
        }
    }
}

fn lenient(reading: &mut Reading<'_>) -> Lenient {
    let words = match reading.value("lenient") {
        None => return Lenient::default(),
        Some(Value::Boolean(all)) => {
            return Lenient {
                numbers: *all,
                values: *all,
                parameters: *all,
            };
        }
        Some(_) => reading.texts("lenient").unwrap_or_default(),
    };
    for word in words.iter().filter(|word| !LENIENT.contains(word)) {
        let hint = hint(word, LENIENT.iter().copied());
        reading.problem(
            "lenient",
            format!("`{word}` is not one of {}{hint}", LENIENT.join(", ")),
        );
    }
    Lenient {
        numbers: words.contains(&"numbers"),
        values: words.contains(&"values"),
        parameters: words.contains(&"parameters"),
    }
}

/// `aliases.FIELD.NAME = ["value", …]`.
fn aliases(
    reading: &mut Reading<'_>,
    streams: &[&StreamDeclaration],
    parameters: &Parameters,
) -> BTreeMap<String, Aliases> {
    let mut found: BTreeMap<String, Aliases> = BTreeMap::new();
    for (field, names) in reading.table("aliases").into_iter().flatten() {
        let key = format!("aliases.{field}");
        let meaning = Meaning::Field(field.clone());
        if !parameters.named.iter().any(|(_, known)| *known == meaning) {
            reading.problem(&key, format!("no parameter means the field `{field}`"));
            continue;
        }
        let Value::Table(names) = names else {
            reading.problem(
                &key,
                "is a section, as `HOVER = [\"HOVER_ENTER\", \"HOVER_LEAVE\"]`",
            );
            continue;
        };
        let kind = streams
            .iter()
            .find_map(|stream| stream.field(field))
            .map(|field| &field.kind);
        let of_field = found.entry(field.clone()).or_default();
        for (name, values) in names {
            match values_of_alias(values, kind) {
                Ok(values) => drop(of_field.insert(name.clone(), values)),
                Err(message) => reading.problem(&format!("{key}.{name}"), message),
            }
        }
    }
    found
}

fn values_of_alias(values: &Value, kind: Option<&FieldType>) -> Result<Vec<String>, String> {
    let list = values.as_array().filter(|list| !list.is_empty());
    let texts: Option<Vec<_>> = list.and_then(|list| list.iter().map(Value::as_str).collect());
    let texts = texts.ok_or_else(|| format!("{values} is not a list of values as text"))?;
    if let Some(FieldType::Enum { values }) = kind
        && let Some(other) = texts
            .iter()
            .find(|text| !values.iter().any(|value| value == *text))
    {
        let hint = hint(other, values.iter().map(String::as_str));
        return Err(format!("`{other}` is not one of the field's values{hint}"));
    }
    Ok(texts.into_iter().map(str::to_owned).collect())
}
