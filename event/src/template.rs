//! JSON with places that are filled in later: the bodies and events of routes that a configuration declares.
//!
//! A text that is nothing but `$name` is a place; everything else stands for itself, and `$$` at the beginning of a
//! text is one `$`. What goes into a place is JSON already and is not looked at, so a template is written in one pass
//! and nothing is escaped twice.
//!
//! ```text
//! {"status": "success", "data": "$events"}   ──►   {"status":"success","data":   $events   }
//! ```

use serde_json::Value;

/// JSON with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes that stand for themselves.
    Text(Vec<u8>),
    /// The name of a place, without its `$`.
    Place(String),
}

impl Template {
    /// Reads a template from JSON.
    #[must_use]
    pub fn new(value: &Value) -> Self {
        let mut template = Self { parts: Vec::new() };
        template.add(value);
        template
    }

    /// Nothing but one place.
    #[must_use]
    pub fn place(name: &str) -> Self {
        Self {
            parts: vec![Part::Place(name.to_owned())],
        }
    }

    /// An object of places: each key with what goes there.
    #[must_use]
    pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut template = Self { parts: Vec::new() };
        for (number, (key, place)) in members.into_iter().enumerate() {
            template.text(if number == 0 { b"{" } else { b"," });
            template.key(key);
            template.parts.push(Part::Place(place.to_owned()));
        }
        if template.parts.is_empty() {
            template.text(b"{");
        }
        template.text(b"}");
        template
    }

    /// A template of these parts.
    #[must_use]
    pub fn of_parts(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// Its parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The names of its places, in order.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Place(name) => Some(name.as_str()),
        })
    }

    /// Writes it; `fill` writes the JSON of a place.
    ///
    /// # Errors
    /// What `fill` fails with.
    pub fn write<E>(
        &self,
        out: &mut Vec<u8>,
        mut fill: impl FnMut(&str, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Place(name) => fill(name, out)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => match text.strip_prefix('$') {
                Some(name) if is_name(name) => self.parts.push(Part::Place(name.to_owned())),
                Some(rest) if rest.starts_with('$') => self.json(&Value::from(rest)),
                _ => self.json(value),
            },
            Value::Array(values) => {
                self.text(b"[");
                for (number, value) in values.iter().enumerate() {
                    if number > 0 {
                        self.text(b",");
                    }
                    self.add(value);
                }
                self.text(b"]");
            }
            Value::Object(members) => {
                self.text(b"{");
                for (number, (key, value)) in members.iter().enumerate() {
                    if number > 0 {
                        self.text(b",");
                    }
                    self.key(key);
                    self.add(value);
                }
                self.text(b"}");
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.json(value),
        }
    }

    fn key(&mut self, key: &str) {
        self.json(&Value::from(key));
        self.text(b":");
    }

    fn json(&mut self, value: &Value) {
        self.text(value.to_string().as_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        match self.parts.last_mut() {
            Some(Part::Text(last)) => last.extend_from_slice(text),
            _ => self.parts.push(Part::Text(text.to_vec())),
        }
    }
}

/// Whether a text after `$` names a place: what is no name stands for itself.
fn is_name(text: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && text.bytes().all(of_name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(value: Value) -> String {
        let mut out = Vec::new();
        let written = Template::new(&value).write(&mut out, |name, out| {
            out.extend_from_slice(format!("<{name}>").as_bytes());
            Ok::<_, ()>(())
        });
        written.expect("never fails");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn places_are_filled_and_everything_else_stands_for_itself() {
        assert_eq!(filled(json!("$events")), "<events>");
        assert_eq!(
            filled(json!({"status": "success", "data": "$events", "n": [1, "$a.b", null]})),
            r#"{"status":"success","data":<events>,"n":[1,<a.b>,null]}"#
        );
    }

    #[test]
    fn a_text_with_a_dollar_that_names_nothing_stays_a_text() {
        assert_eq!(
            filled(json!(["$$events", "$5", "$", "costs $events", "$a b"])),
            r#"["$events","$5","$","costs $events","$a b"]"#
        );
    }

    #[test]
    fn an_object_of_places_has_the_given_order() {
        let template = Template::object([("b", "x"), ("a\"", "y")]);
        assert_eq!(template.places().collect::<Vec<_>>(), ["x", "y"]);
        let mut out = Vec::new();
        let fill = |_: &str, out: &mut Vec<u8>| -> Result<(), ()> {
            out.push(b'1');
            Ok(())
        };
        template.write(&mut out, fill).expect("never fails");
        assert_eq!(out, br#"{"b":1,"a\"":1}"#);
        assert_eq!(Template::object([]).parts(), [Part::Text(b"{}".to_vec())]);
    }
}
