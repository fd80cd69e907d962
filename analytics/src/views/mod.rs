//! Views: answers to questions in a form that somebody else chose.
//!
//! A view is a question whose parameters, columns and body have names of the user's own, so that clients of another
//! system go on working. What it asks is what the general routes ask, over the same pins, so its answer is the same
//! but for its form.
//!
//! ```text
//! request ─► parameters.rs  names → filter, limit, offset, index
//!                 │
//!                 ├─► events.rs      in index order, as a stream
//!                 ├─► newest.rs      newest received first
//!                 ├─► nth.rs         one event
//!                 └─► statistics.rs  of one stream or several
//!                 │
//!            shape.rs  columns → JSON of an event;  answer.rs  bodies, refusals
//! ```
//!
//! Views are made from a configuration and are checked there, with the constructors of this module.

mod answer;
mod count;

mod events;
mod newest;
mod nth;
mod parameters;
mod shape;
mod statistics;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use event::StreamName;
use http::StatusCode;

pub use answer::{EventBody, EventsBody, FixedAnswer};
pub use parameters::{Aliases, Lenient, Meaning, Parameters};
pub use shape::EventShape;
pub use statistics::StatisticsBody;

use crate::{Analytics, Fault, QueryError, Readable};

/// Most events that an answer with the newest first can have, with those that its offset skips: they are chosen in
/// memory.
pub const NEWEST_EVENTS_MAX: usize = 100_000;
/// Most events that any answer can have.
pub const EVENTS_MAX: usize = 100_000_000;

/// A question with its form.
#[derive(Clone, Debug)]
pub struct View {
    /// What it asks.
    pub question: ViewQuestion,
    /// What its parameters mean.
    pub parameters: Parameters,
    /// The answer to a request that cannot be understood; a problem document with status 400 when absent.
    pub invalid: Option<FixedAnswer>,
}

/// What a view asks.
#[derive(Clone, Debug)]
pub enum ViewQuestion {
    /// Events that pass.
    Events(EventsView),
    /// The nth event.
    Event(EventView),
    /// Statistics of streams.
    Statistics(StatisticsView),
}

/// In which order events are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By their index: the oldest first.
    #[default]
    Index,
    /// By the time at which they were received, the newest first; among equal ones the highest index.
    Newest,
}

/// Asks for events.
#[derive(Clone, Debug)]
pub struct EventsView {
    /// The stream.
    pub stream: StreamName,
    /// What is told of an event; as the general routes tell it when absent.
    pub shape: Option<EventShape>,
    /// What is around the events.
    pub body: EventsBody,
    /// Their order.
    pub order: Order,
    /// How many when the request does not say it; all that there are when absent.
    pub limit: Option<usize>,
    /// Most that one answer may have; beyond is an error, never a cut.
    pub limit_max: usize,
}

/// Asks for one event.
#[derive(Clone, Debug)]
pub struct EventView {
    /// The stream.
    pub stream: StreamName,
    /// What is told of it; as the general routes tell it when absent.
    pub shape: Option<EventShape>,
    /// What is around it.
    pub body: EventBody,
    /// The answer when there is no such event; a problem document when absent.
    pub missing: Option<FixedAnswer>,
}

/// Asks for statistics.
#[derive(Clone, Debug)]
pub struct StatisticsView {
    /// The streams, in the order in which they are told.
    pub streams: Vec<StreamName>,
    /// What is told of them.
    pub body: StatisticsBody,
}

impl View {
    /// The streams that it reads.
    #[must_use]
    pub fn streams(&self) -> &[StreamName] {
        match &self.question {
            ViewQuestion::Events(events) => std::slice::from_ref(&events.stream),
            ViewQuestion::Event(event) => std::slice::from_ref(&event.stream),
            ViewQuestion::Statistics(statistics) => &statistics.streams,
        }
    }

    /// The answer to a request that failed.
    fn refusal(&self, error: QueryError) -> Response {
        let missing = match &self.question {
            ViewQuestion::Event(event) => event.missing.as_ref(),
            ViewQuestion::Events(_) | ViewQuestion::Statistics(_) => None,
        };
        let declared = match error.fault() {
            Fault::Input => self.invalid.as_ref(),
            Fault::Absent | Fault::Removed => missing,
            Fault::Unacceptable | Fault::Overload | Fault::Timeout | Fault::Outage | Fault::Fatal => None,
        };
        match declared {
            Some(declared) => declared.response(&error.to_string()),
            None => error.into_response(),
        }
    }
}

impl Analytics {
    /// Answers a view. `path` has the values of the path's parameters, `query` is the request's query string, and
    /// `readable` says which streams whoever asks may read.
    pub async fn view(
        &self,
        view: &Arc<View>,
        path: Vec<(String, String)>,
        query: Option<&str>,
        readable: &Readable,
    ) -> Response {
        match self.try_view(view, path, query, readable).await {
            Ok(response) => response,
            Err(error) => view.refusal(error),
        }
    }

    async fn try_view(
        &self,
        view: &Arc<View>,
        path: Vec<(String, String)>,
        query: Option<&str>,
        readable: &Readable,
    ) -> Result<Response, QueryError> {
        let mut declarations = Vec::new();
        for stream in view.streams() {
            readable.check(stream.as_str())?;
            declarations.push(self.shared.stream(stream.as_str())?.as_ref());
        }
        let asked = view.parameters.read(&declarations, path, query)?;
        match &view.question {
            ViewQuestion::Events(events) => events::answer(self, events.clone(), asked).await,
            ViewQuestion::Event(one) => nth::answer(self, one.clone(), asked).await,
            ViewQuestion::Statistics(of) => statistics::answer(self, of.clone(), asked).await,
        }
    }
}

/// What a status is declared as; the configuration allows no other numbers.
fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
