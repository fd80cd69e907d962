//! A status and a body that are declared: `{ status = 400, body = { error = "Invalid payload" } }`.

use event::Template;
use toml::Value;

use super::reading::Reading;

/// A declared answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerConfig {
    /// The status, from 200 to 599.
    pub status: u16,
    /// The JSON body; none when absent. What is wrong with a request goes into its place `$message`.
    pub body: Option<Template>,
}

/// Reads `status` and `body`. `status` is the default.
pub(super) fn read(reading: &mut Reading<'_>, status: u16, places: &[&str]) -> AnswerConfig {
    reading.unknown_keys(&["status", "body"]);
    let status = self::status(reading, status);
    let body = reading.json("body").map(|body| Template::new(&body));
    for place in body.iter().flat_map(Template::places) {
        if !places.contains(&place) {
            reading.problem("body", unknown_place(place, places));
        }
    }
    if status == 204 && body.is_some() {
        reading.problem("body", "an answer with status 204 has none");
    }
    AnswerConfig { status, body }
}

/// The status, or what it is when nothing is written.
pub(super) fn status(reading: &mut Reading<'_>, default: u16) -> u16 {
    let status = reading.count("status", 200, 599);
    status
        .and_then(|status| u16::try_from(status).ok())
        .unwrap_or(default)
}

/// What is said about a place that means nothing.
pub(super) fn unknown_place(place: &str, places: &[&str]) -> String {
    let known: Vec<_> = places.iter().map(|place| format!("`${place}`")).collect();
    let known = match known.as_slice() {
        [] => "there are none here".to_owned(),
        known => format!("there are {}", known.join(", ")),
    };
    format!("`${place}` is no place: {known}; `$${place}` is the text itself")
}

/// A value of a configuration as JSON.
pub(super) fn json(value: &Value) -> Result<serde_json::Value, String> {
    Ok(match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => {
            let number = serde_json::Number::from_f64(*number);
            number.ok_or_else(|| format!("{value} is no JSON"))?.into()
        }
        Value::Boolean(flag) => (*flag).into(),
        Value::Datetime(moment) => moment.to_string().into(),
        Value::Array(values) => values.iter().map(json).collect::<Result<Vec<_>, _>>()?.into(),
        Value::Table(table) => {
            let members = table.iter().map(|(key, value)| Ok((key.clone(), json(value)?)));
            serde_json::Value::Object(members.collect::<Result<_, String>>()?)
        }
    })
}
