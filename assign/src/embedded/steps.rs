//! Steps of assignments as rows of a stream, and back; and what is answered about them.
//!
//! The streams are declared here and nobody can post to them, so whatever they hold was written by this file.

use std::sync::Arc;

use event::decode::EventDecoder;
use event::{Batch, FieldDeclaration, FieldType, Partition, Span, StreamDeclaration, StreamName, TraceId};
use serde_json::value::RawValue;

use super::Place;
use super::state::Assignment;
use crate::Status;
use crate::options::EVENT_ID_BYTES_MAX;
use crate::subject::{Answer, moment, quoted};

/// A change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Somebody has an event now. `from` is the event's place when it comes from its stream, and absent when it
    /// comes from somebody else.
    Opened {
        assignment: Arc<Assignment>,
        from: Option<Place>,
    },
    /// An assignment has ended.
    Closed {
        assignment: Arc<Assignment>,
        status: Status,
    },
}

/// The stream of assignments: a row for each step.
#[must_use]
pub fn assignments_stream(name: StreamName) -> StreamDeclaration {
    let place = || FieldType::Int {
        min: 0,
        max: i64::MAX,
    };
    let statuses = Status::ALL.map(|status| status.as_str().to_owned());
    declared(
        name,
        "Steps of assignments: who got which event, and what became of it",
        vec![
            field("assignment_id", text(), false),
            field("event_id", text(), false),
            field("user_id", text(), false),
            field(
                "status",
                FieldType::Enum {
                    values: statuses.to_vec(),
                },
                false,
            ),
            field("at", FieldType::Timestamp { unit: None }, false),
            field("event", FieldType::Json, true),
            field("source", text(), true),
            field("source_offset", place(), true),
            field("source_row", place(), true),
        ],
    )
}

/// The stream of answers: what whoever sent an event is told about it.
#[must_use]
pub fn answers_stream(name: StreamName, id: &str) -> StreamDeclaration {
    let values = ["assigned", "completed", "rejected"].map(str::to_owned).to_vec();
    declared(
        name,
        "What became of events that were handed to people",
        vec![
            field(id, text(), false),
            field("status", FieldType::Enum { values }, false),
            field("assignment_id", text(), false),
            field("user_id", text(), false),
            field("at", FieldType::Timestamp { unit: None }, false),
        ],
    )
}

fn declared(name: StreamName, description: &str, fields: Vec<FieldDeclaration>) -> StreamDeclaration {
    StreamDeclaration {
        name,
        description: description.to_owned(),
        time: Some("at".to_owned()),
        fields,
        ..StreamDeclaration::rejects()
    }
}

fn field(name: &str, kind: FieldType, optional: bool) -> FieldDeclaration {
    FieldDeclaration {
        name: name.to_owned(),
        kind,
        optional,
        description: String::new(),
        path: vec![name.to_owned()],
    }
}

fn text() -> FieldType {
    FieldType::String {
        max_bytes: EVENT_ID_BYTES_MAX,
    }
}

/// Writes steps as batches of the two streams.
pub(super) struct StepWriter {
    pub(super) assignments: Arc<StreamDeclaration>,
    pub(super) answers: Arc<StreamDeclaration>,
    /// The name of the stream of events.
    pub(super) source: StreamName,
    /// The field that has the event's id.
    pub(super) id: String,
}

impl StepWriter {
    /// One group for the journal.
    ///
    /// # Errors
    /// What is wrong with a step: a broken invariant of this crate.
    pub(super) fn group(&self, steps: &[Step], at: i64) -> Result<Vec<Batch>, String> {
        let mut assignments = Rows::new(&self.assignments, at);
        let mut answers = Rows::new(&self.answers, at);
        for step in steps {
            let whole = self.row(step, at, true);
            // An event that is as deep or as long as one may be is too much inside of another one. Its place says
            // where it is.
            if assignments.push(&whole).is_err() {
                assignments.push(&self.row(step, at, false))?;
            }
            if let Some(answer) = self.answer(step, at) {
                answers.push(&answer)?;
            }
        }
        Ok(assignments.finish().into_iter().chain(answers.finish()).collect())
    }

    fn row(&self, step: &Step, at: i64, whole: bool) -> String {
        let (assignment, status) = match step {
            Step::Opened { assignment, .. } => (assignment, Status::Open),
            Step::Closed { assignment, status } => (assignment, *status),
        };
        let mut row = format!(
            r#"{{"assignment_id":{},"event_id":{},"user_id":{},"status":"{}","at":{}"#,
            quoted(&assignment.id),
            quoted(&assignment.event_id),
            quoted(&assignment.user),
            status.as_str(),
            moment(at),
        );
        if let Step::Opened { assignment, from } = step {
            if whole && let Some(event) = &assignment.event {
                row.push_str(r#","event":"#);
                row.push_str(event);
            }
            if let Some(place) = from {
                let source = quoted(self.source.as_str());
                let Place { offset, row: number } = place;
                row.push_str(&format!(
                    r#","source":{source},"source_offset":{offset},"source_row":{number}"#
                ));
            }
        }
        row.push('}');
        row
    }

    /// What is said about a step. That an assignment was taken from somebody is said by the next one.
    fn answer(&self, step: &Step, at: i64) -> Option<String> {
        let (assignment, status) = match step {
            Step::Opened { assignment, .. } => (assignment, "assigned"),
            Step::Closed {
                status: Status::Reassigned,
                ..
            } => return None,
            Step::Closed { assignment, status } => (assignment, status.as_str()),
        };
        let answer = Answer {
            id_field: &self.id,
            event: &assignment.event_id,
            status,
            assignment: &assignment.id,
            user: &assignment.user,
            at,
        };
        Some(answer.json())
    }
}

/// Rows of one stream that become batches.
struct Rows<'a> {
    stream: &'a StreamDeclaration,
    events: EventDecoder,
    at: i64,
    batches: Vec<Batch>,
}

impl<'a> Rows<'a> {
    fn new(stream: &'a StreamDeclaration, at: i64) -> Self {
        Self {
            stream,
            events: EventDecoder::new(stream),
            at,
            batches: Vec::new(),
        }
    }

    fn push(&mut self, row: &str) -> Result<(), String> {
        let pushed = self.events.push(row.as_bytes());
        if self.events.is_full() {
            self.close();
        }
        pushed.map_err(|reject| format!("a row of `{}`: {}", self.stream.name, reject.message))
    }

    fn close(&mut self) {
        let Some(rows) = self.events.take() else { return };
        let span = Span {
            rows: u32::try_from(rows.num_rows()).unwrap_or(u32::MAX),
            trace_id: TraceId::random(),
            received_at: self.at,
            idempotency_key: None,
            producer: None,
        };
        self.batches.push(Batch {
            stream: self.stream.name.clone(),
            partition: Partition(0),
            version: self.stream.version,
            spans: vec![span],
            rows,
        });
    }

    fn finish(mut self) -> Vec<Batch> {
        self.close();
        self.batches
    }
}

/// A step that was read.
#[derive(Debug, serde::Deserialize)]
pub(super) struct StoredStep {
    pub(super) assignment_id: String,
    pub(super) event_id: String,
    pub(super) user_id: String,
    pub(super) status: String,
    pub(super) event: Option<Box<RawValue>>,
    pub(super) source: Option<String>,
    pub(super) source_offset: Option<u64>,
    pub(super) source_row: Option<u32>,
}

impl StoredStep {
    /// Reads a row of the stream.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}
