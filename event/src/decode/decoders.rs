//! A stream's decoders between two bodies.
//!
//! What a decoder has learned of the lines of one body is right for the next one as well, and making its plan takes
//! longer than decoding a few events. So the working part of a decoder goes back when its body has ended in order.

use std::sync::{Arc, Mutex, PoisonError};

use super::line::LineDecoder;
use super::{Decoder, Form, Format};
use crate::StreamDeclaration;

/// Decoders that wait. More bodies at once than this make decoders that are dropped afterwards.
const IDLE_MAX: usize = 64;

/// The decoders of one stream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Decoders {
    stream: Arc<StreamDeclaration>,
    idle: Arc<Mutex<Vec<LineDecoder>>>,
}

impl Decoders {
    /// Decoders for the events of `stream`; none is made before it is needed.
    #[must_use]
    pub fn new(stream: Arc<StreamDeclaration>) -> Self {
        Self {
            stream,
            idle: Arc::default(),
        }
    }

    /// A decoder for one body, as [`Decoder::new`] gives it, but for what it expects of the first lines.
    #[must_use]
    pub fn decoder(&self, format: Format) -> Decoder {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let lines = idle.unwrap_or_else(|| LineDecoder::new(&self.stream));
        let mut decoder = Decoder::of_form(lines, Form::new(format));
        decoder.home = Some(self.clone());
        decoder
    }

    /// Takes back what has ended a body in order, so that no row is left in it.
    pub(super) fn give_back(&self, lines: LineDecoder) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::UnknownFields;

    /// Bodies that end well and badly, with rejects, ignored fields and half a line.
    #[test]
    fn nothing_of_one_body_shows_in_the_next() {
        let mut stream = StreamDeclaration::starters()
            .into_iter()
            .find(|stream| stream.name.as_str() == "running")
            .expect("a starter stream");
        stream.unknown_fields = UnknownFields::Ignore;
        let stream = Arc::new(stream);
        let decoders = Decoders::new(Arc::clone(&stream));
        let line = r#"{"user_id":"705de3f1-3a80-482b-b8e6-8f23a0d4597a","duration":2567,"distance":7527,"timestamp":"2024-01-01T00:00:00.943Z"}"#;
        let bodies = [
            format!("{line}\n{line}"),
            format!("{}\n{line}\n{{\"duration\":5", line.replace("2567", "\"x\"")),
            line.replace("}", ",\"more\":[1]}"),
            "[".to_owned(),
            format!("[{line}, {line}]"),
            "\n".to_owned(),
            line.to_owned(),
        ];
        for _ in 0..3 {
            for body in &bodies {
                let format = if body.starts_with('[') {
                    Format::Json
                } else {
                    Format::Ndjson
                };
                let read = |mut decoder: Decoder| {
                    decoder.push(Bytes::from(body.clone()))?;
                    decoder.finish()
                };
                let found = read(decoders.decoder(format)).map(|decoded| format!("{decoded:?}"));
                let fresh =
                    read(Decoder::new(Arc::clone(&stream), format)).map(|decoded| format!("{decoded:?}"));
                assert_eq!(found, fresh, "{body}");
            }
        }
    }
}
