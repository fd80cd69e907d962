//! What is assigned: an event's id and the part of it that is kept; and what is answered about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::options::EVENT_ID_BYTES_MAX;

/// An event as far as assigning knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// What identifies it.
    pub(crate) id: Arc<str>,
    /// What is kept of it, as JSON.
    pub(crate) event: Arc<str>,
}

impl Subject {
    /// Reads an event.
    ///
    /// # Errors
    /// What is wrong with it, when it is no JSON object with an id.
    pub(crate) fn of(json: &[u8], id: &str, copy: &[String]) -> Result<Self, String> {
        let text = std::str::from_utf8(json).map_err(|error| format!("it is not UTF-8: {error}"))?;
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|error| format!("it is not a JSON object: {error}"))?;
        let found = members.get(id).ok_or_else(|| format!("it has no field `{id}`"))?;
        let found = id_text(found).ok_or_else(|| format!("`{id}` is no text and no whole number"))?;
        if found.is_empty() || found.len() > EVENT_ID_BYTES_MAX || found.contains('\0') {
            return Err(format!(
                "`{id}` is empty, has a NUL, or is longer than {EVENT_ID_BYTES_MAX} bytes"
            ));
        }
        let event = if copy.is_empty() {
            text.trim().into()
        } else {
            copied(&members, copy).into()
        };
        Ok(Self {
            id: found.into(),
            event,
        })
    }
}

/// An id as text: a string's content, or an integer's digits.
fn id_text(value: &RawValue) -> Option<String> {
    let text = value.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    text.parse::<i64>().ok().map(|number| number.to_string())
}

/// The named members that there are, in the order in which they are named.
fn copied(members: &BTreeMap<String, &RawValue>, copy: &[String]) -> String {
    let mut text = String::from("{");
    for name in copy {
        if let Some(value) = members.get(name) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&quoted(name));
            text.push(':');
            text.push_str(value.get());
        }
    }
    text.push('}');
    text
}

/// A text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One step of an event, as whoever sent the event is told. The event's id has the name that it has in the event.
pub(crate) struct Answer<'a> {
    pub(crate) id_field: &'a str,
    pub(crate) event: &'a str,
    /// `assigned`, or how it was settled.
    pub(crate) status: &'a str,
    pub(crate) assignment: &'a str,
    pub(crate) user: &'a str,
    /// Microseconds since 1970 UTC.
    pub(crate) at: i64,
}

impl Answer<'_> {
    /// As one JSON object.
    pub(crate) fn json(&self) -> String {
        format!(
            r#"{{{}:{},"status":{},"assignment_id":{},"user_id":{},"at":{}}}"#,
            quoted(self.id_field),
            quoted(self.event),
            quoted(self.status),
            quoted(self.assignment),
            quoted(self.user),
            moment(self.at),
        )
    }
}

/// A moment as quoted RFC 3339.
pub(crate) fn moment(micros: i64) -> String {
    let mut text = Vec::with_capacity(32);
    event::json::write_moment(micros, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_id_and_what_is_kept_of_it() {
        let of = |json: &str, copy: &[&str]| {
            let copy: Vec<_> = copy.iter().map(|name| (*name).to_owned()).collect();
            Subject::of(json.as_bytes(), "event_id", &copy)
                .map(|found| (found.id.to_string(), found.event.to_string()))
        };
        let pair = |id: &str, event: &str| Ok((id.to_owned(), event.to_owned()));
        let whole = r#"{"event_id":"a","n":1.50,"m":{"x":[1]}}"#;
        assert_eq!(of(whole, &[]), pair("a", whole));
        assert_eq!(
            of(whole, &["m", "none", "n"]),
            pair("a", r#"{"m":{"x":[1]},"n":1.50}"#)
        );
        assert_eq!(of(r#"{"event_id":7}"#, &["n"]), pair("7", "{}"));
        for wrong in [
            r#"{}"#,
            r#"{"event_id":""}"#,
            r#"{"event_id":1.5}"#,
            r#"{"event_id":null}"#,
            "[1]",
            "",
            "{",
        ] {
            assert!(of(wrong, &[]).is_err(), "{wrong}");
        }
    }
}
