//! `[routes."POST /path"]`: a further path that takes events of a stream, in the form and with the answers that
//! somebody's clients know.
//!
//! ```toml
//! [routes."POST /track"]
//! stream = "user_events"
//! envelope = "events"                           # the member of the body that has the events
//! envelope_fields = { appName = "app_name" }    # other members → fields of every event
//! content_type = "application/json"             # what a body is that does not say so
//! answer  = { status = 200, body = { status = "ok" } }
//! invalid = { status = 400, body = { error = "Invalid payload" } }
//! ```

use std::collections::BTreeMap;

use event::decode::{Envelope, Format};
use event::{StreamDeclaration, StreamName};
use http::StatusCode;
use ingest::{FixedAnswer, InvalidAnswer, PostRoute, PostSource};
use toml::Value;

use super::reading::Reading;
use super::{AnswerConfig, RoutePath};

/// A path that takes events.
#[derive(Clone, Debug)]
pub struct PostConfig {
    /// The stream that they are for.
    pub stream: StreamName,
    /// Where a request has them.
    pub source: PostSource,
    /// What a body is whose `Content-Type` is missing or none that has events.
    pub untyped: Option<Format>,
    /// What is answered when at least one is stored; our counts when absent.
    pub answer: Option<AnswerConfig>,
    /// What is answered where it would be 400 or 422.
    pub invalid: Option<AnswerConfig>,
}

const KEYS: &[&str] = &[
    "stream",
    "envelope",
    "envelope_fields",
    "from",
    "content_type",
    "answer",
    "invalid",
];

/// What the body of `invalid` may have: what was wrong, in words.
const INVALID_PLACES: &[&str] = &[ingest::MESSAGE_PLACE];

/// Reads the section.
pub(super) fn read(reading: &mut Reading<'_>, path: &RoutePath) -> Option<PostConfig> {
    reading.unknown_keys(KEYS);
    reading.no_parameters(path);
    let answer = reading.answer("answer", 200, &[]);
    let invalid = reading.answer("invalid", 400, INVALID_PLACES);
    for (key, answer, hundred, meaning) in [
        ("answer.status", &answer, 2, "a success, from 200 to 299"),
        (
            "invalid.status",
            &invalid,
            4,
            "the client's fault, from 400 to 499",
        ),
    ] {
        let status = answer.as_ref().map(|answer| answer.status);
        if let Some(status) = status.filter(|status| status / 100 != hundred) {
            reading.problem(key, format!("`{status}` is not {meaning}"));
        }
    }
    let stream = reading.stream();
    let source = source(reading, stream);
    let untyped = untyped(reading, &source);
    Some(PostConfig {
        stream: stream?.name.clone(),
        source,
        untyped,
        answer,
        invalid,
    })
}

/// `content_type`: what a body counts as that does not say what it is.
fn untyped(reading: &mut Reading<'_>, source: &PostSource) -> Option<Format> {
    let format = match reading.word("content_type", &["application/json", "application/x-ndjson"])? {
        "application/json" => Format::Json,
        _ => Format::Ndjson,
    };
    match source {
        PostSource::Query => reading.problem("content_type", "and `from = \"query\"` contradict each other"),
        PostSource::Envelope(_) if format == Format::Ndjson => {
            reading.problem(
                "content_type",
                "an envelope is a JSON document: `application/json`",
            );
        }
        PostSource::Envelope(_) | PostSource::Body => {}
    }
    Some(format)
}

fn source(reading: &mut Reading<'_>, stream: Option<&StreamDeclaration>) -> PostSource {
    let in_query = reading.word("from", &["body", "query"]) == Some("query");
    let member = reading.text("envelope");
    let fields = fields(reading, stream, member);
    match member {
        Some("") => reading.problem("envelope", "`` is no member: write its name"),
        Some(_) if in_query => reading.problem("envelope", "and `from = \"query\"` contradict each other"),
        None if !fields.is_empty() => reading.problem("envelope_fields", "means nothing without `envelope`"),
        _ => {}
    }
    match member {
        _ if in_query => PostSource::Query,
        Some(member) => PostSource::Envelope(Envelope {
            member: member.to_owned(),
            fields,
        }),
        None => PostSource::Body,
    }
}

/// `envelope_fields = { appName = "app_name" }`: members of the envelope, with the fields that they become.
fn fields(
    reading: &mut Reading<'_>,
    stream: Option<&StreamDeclaration>,
    envelope: Option<&str>,
) -> Vec<(String, String)> {
    let Some(table) = reading.table("envelope_fields") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut taken = BTreeMap::new();
    for (member, value) in table {
        let key = format!("envelope_fields.{member}");
        let Value::String(field) = value else {
            reading.problem(&key, format!("{value} is not the name of a field"));
            continue;
        };
        if Some(member.as_str()) == envelope {
            reading.problem(&key, "is the member that has the events");
        }
        if stream.is_some_and(|stream| stream.field(field).is_none()) {
            reading.problem(&key, format!("the stream has no field `{field}`"));
        }
        if let Some(other) = taken.insert(field, member) {
            reading.problem(&key, format!("`{field}` is filled from `{other}` already"));
        }
        found.push((member.clone(), field.clone()));
    }
    found
}

impl PostConfig {
    /// The route as ingest takes it.
    #[must_use]
    pub fn route(&self, path: &RoutePath) -> PostRoute {
        let status = |answer: &AnswerConfig| {
            StatusCode::from_u16(answer.status).expect("a status was checked to be from 200 to 499")
        };
        PostRoute {
            path: path.to_string(),
            stream: self.stream.clone(),
            source: self.source.clone(),
            untyped: self.untyped,
            answer: self.answer.as_ref().map(|answer| FixedAnswer {
                status: status(answer),
                body: answer.body.clone(),
            }),
            invalid: self.invalid.as_ref().map(|invalid| InvalidAnswer {
                status: status(invalid),
                body: invalid.body.clone(),
            }),
        }
    }
}
