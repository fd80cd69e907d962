//! What is around events: bodies with places, and answers that are the same each time.

use axum::body::Body;
use axum::response::Response;
use event::Template;
use event::template::Part;
use http::{HeaderValue, header};

use crate::json::write_text;

/// The place of events in a body.
const EVENTS: &str = "events";
/// The place of the cursor of the next page in a body.
const NEXT_CURSOR: &str = "next_cursor";
/// The place of one event in a body.
const EVENT: &str = "event";
/// The place of what is wrong in a body.
const MESSAGE: &str = "message";

/// A declared answer to a request that cannot be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedAnswer {
    /// The status.
    pub status: u16,
    /// Its JSON, with the place `message`; no body when absent.
    pub body: Option<Template>,
}

impl FixedAnswer {
    /// The places that its body may have.
    pub const PLACES: &'static [&'static str] = &[MESSAGE];

    pub(super) fn response(&self, message: &str) -> Response {
        let mut bytes = Vec::new();
        if let Some(body) = &self.body {
            let never: Result<(), std::convert::Infallible> = body.write(&mut bytes, |_, out| {
                write_text(out, message);
                Ok(())
            });
            never.unwrap_or_else(|never| match never {});
        }
        let mut response = Response::new(Body::empty());
        if self.body.is_some() {
            bytes.push(b'\n');
            response = json(Body::from(bytes));
        }
        *response.status_mut() = super::status(self.status);
        response
    }
}

/// A response of JSON.
pub(super) fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// What is around events.
#[derive(Clone, Debug, PartialEq)]
pub struct EventsBody {
    pub(super) before: Vec<u8>,
    pub(super) after: Template,
}

impl EventsBody {
    /// The body with `$events` once and, after it, `$next_cursor` at most once.
    ///
    /// # Errors
    /// What is wrong with the template, for a person.
    pub fn new(template: &Template) -> Result<Self, String> {
        let allowed = [EVENTS, NEXT_CURSOR];
        if let Some(place) = template.places().find(|place| !allowed.contains(place)) {
            return Err(format!(
                "`${place}` is no place: there are `$events` and `$next_cursor`"
            ));
        }
        let parts = template.parts();
        let at = parts
            .iter()
            .position(|part| *part == Part::Place(EVENTS.to_owned()));
        let at = at.ok_or("has no place `$events`")?;
        let (before, after) = (&parts[..at], &parts[at + 1..]);
        let mut text = Vec::new();
        for part in before {
            match part {
                Part::Text(bytes) => text.extend_from_slice(bytes),
                // Known only when all events are through, which are not kept until then.
                Part::Place(place) => return Err(format!("`${place}` must come after `$events`")),
            }
        }
        let after = Template::of_parts(after.to_vec());
        if after.places().any(|place| place == EVENTS) {
            return Err("has `$events` twice".to_owned());
        }
        Ok(Self { before: text, after })
    }

    /// Nothing around them: an array.
    #[must_use]
    pub fn array() -> Self {
        Self {
            before: Vec::new(),
            after: Template::of_parts(Vec::new()),
        }
    }

    /// Whether it tells where the next page begins.
    #[must_use]
    pub fn has_cursor(&self) -> bool {
        self.after.places().next().is_some()
    }

    /// Writes what comes after the events.
    pub(super) fn end(&self, out: &mut Vec<u8>, next_cursor: Option<&str>) {
        let never: Result<(), std::convert::Infallible> = self.after.write(out, |_, out| {
            match next_cursor {
                Some(cursor) => write_text(out, cursor),
                None => out.extend_from_slice(b"null"),
            }
            Ok(())
        });
        never.unwrap_or_else(|never| match never {});
        out.push(b'\n');
    }
}

/// What is around one event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventBody(Template);

impl EventBody {
    /// The body with the place `$event`.
    ///
    /// # Errors
    /// What is wrong with the template, for a person.
    pub fn new(template: &Template) -> Result<Self, String> {
        if let Some(place) = template.places().find(|place| *place != EVENT) {
            return Err(format!("`${place}` is no place: there is `$event`"));
        }
        if template.places().next().is_none() {
            return Err("has no place `$event`".to_owned());
        }
        Ok(Self(template.clone()))
    }

    /// Nothing around it.
    #[must_use]
    pub fn bare() -> Self {
        Self(Template::place(EVENT))
    }

    /// Writes the body around an event.
    pub(super) fn write(&self, out: &mut Vec<u8>, event: &[u8]) {
        let never: Result<(), std::convert::Infallible> = self.0.write(out, |_, out| {
            out.extend_from_slice(event);
            Ok(())
        });
        never.unwrap_or_else(|never| match never {});
        out.push(b'\n');
    }
}
