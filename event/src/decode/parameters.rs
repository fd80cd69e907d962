//! Events that are the parameters of a URL: `event_name=signup&user_id=7` is one event.
//!
//! Each text is written as the JSON value that its field takes, and the decoder judges the event as any other; so
//! what is accepted, rejected and kept is one and the same thing however an event comes. A parameter is named as the
//! field's way in an event: `metadata.page_url` where the field says `from = "metadata.page_url"`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::line::LineDecoder;
use super::{BodyError, Decoded, Decoder, Format};
use crate::{FieldType, StreamDeclaration};

/// Reads parameters as events of one stream.
#[derive(Debug)]
pub struct ParameterDecoder {
    /// The stream with every field at the top of its events, under the name of its parameter.
    flat: Arc<StreamDeclaration>,
    kinds: BTreeMap<String, FieldType>,
}

impl ParameterDecoder {
    /// A decoder for a stream.
    #[must_use]
    pub fn new(stream: &StreamDeclaration) -> Self {
        let mut flat = stream.clone();
        let mut kinds = BTreeMap::new();
        for field in &mut flat.fields {
            field.path = vec![field.path.join(".")];
            kinds.insert(field.path[0].clone(), field.kind.clone());
        }
        Self {
            flat: Arc::new(flat),
            kinds,
        }
    }

    /// Reads names and texts as one event.
    ///
    /// # Errors
    /// [`BodyError`] when a name is there twice, or the text of a `json` field is no JSON. Whatever else is wrong with
    /// the event makes it a reject of line 1.
    pub fn decode<N, T>(&self, parameters: &[(N, T)]) -> Result<Decoded, BodyError>
    where
        N: AsRef<str>,
        T: AsRef<str>,
    {
        let mut event = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, text) in parameters {
            let (name, text) = (name.as_ref(), text.as_ref());
            if !seen.insert(name) {
                let message = format!("`{}` is given twice", shown(name));
                return Err(BodyError::BadParameters { message });
            }
            event.push(if event.is_empty() { b'{' } else { b',' });
            write_text(name, &mut event);
            event.push(b':');
            match self.kinds.get(name) {
                Some(kind) => self.write(name, text, kind, &mut event)?,
                None => write_text(text, &mut event),
            }
        }
        if event.is_empty() {
            event.push(b'{');
        }
        event.push(b'}');
        let mut decoder = Decoder::new(Arc::clone(&self.flat), Format::Json);
        decoder.push(event.into())?;
        decoder.finish()
    }

    /// Writes a text as a value of its field's type where it is one, else as text, which the decoder rejects with
    /// what it expected instead.
    fn write(&self, name: &str, text: &str, kind: &FieldType, event: &mut Vec<u8>) -> Result<(), BodyError> {
        let value = match kind {
            FieldType::Int { .. } | FieldType::Timestamp { unit: Some(_) } => integer(text),
            FieldType::Float { .. } => float(text),
            FieldType::Bool => match text {
                "true" | "1" => Some("true".to_owned()),
                "false" | "0" => Some("false".to_owned()),
                _ => None,
            },
            FieldType::Json => {
                let checked = LineDecoder::new(&self.flat).check_json(text.as_bytes());
                checked.map_err(|failure| BodyError::BadParameters {
                    message: format!("`{name}` is no JSON: {}", failure.message),
                })?;
                Some(text.to_owned())
            }
            FieldType::String { .. }
            | FieldType::Enum { .. }
            | FieldType::Uuid
            | FieldType::Timestamp { unit: None } => None,
        };
        match value {
            Some(value) => event.extend_from_slice(value.as_bytes()),
            None => write_text(text, event),
        }
        Ok(())
    }
}

/// An integer as JSON writes it: of `+7` and `007` too. One that is too large stays as it is, to be called that.
fn integer(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    Some(format!("{sign}{digits}"))
}

/// A number as JSON writes it: of `.5` and `1.` too. What is no finite number is none.
fn float(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    if !text.bytes().all(plain) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    if number.is_finite() {
        serde_json::to_string(&number).ok()
    } else {
        // Beyond what a double holds: the decoder says so.
        Some(if number > 0.0 { "1e999" } else { "-1e999" }.to_owned())
    }
}

fn write_text(text: &str, event: &mut Vec<u8>) {
    serde_json::to_writer(event, text).expect("writing text to memory does not fail");
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}
