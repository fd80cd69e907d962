//! Answers from a queue → the state of rows.
//!
//! A message is `{"event_id": …, "status": …}` with whatever else. The rows of many are changed in one transaction, and
//! acknowledged after it. The last message about a row wins, as it would one by one; applying one twice, after a
//! connection was lost, changes nothing.
//!
//! What cannot be applied (no JSON, no such row, a status that is not known, a value that the table refuses) is kept in
//! `_rejects` with the reason and refused to the broker, which dead-letters it where the queue says so. It is never
//! redelivered for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::limits::REJECT_RAW_BYTES_MAX;
use event::{Reject, RejectCode};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;

use super::connection::{Connection, Server};
use super::options::{OutboxOptions, ResponsesOptions};
use super::plan::Plan;
use crate::inlet::Inlet;
use crate::progress::Shared;
use crate::rabbitmq::{Broker, Consuming, Message, split};
use crate::{Part, SourceError};

/// Brings answers into one table.
pub(crate) struct Responses {
    inlet: Arc<Inlet>,
    server: Server,
    broker: Broker,
    table: OutboxOptions,
    options: ResponsesOptions,
}

/// What a message says.
struct Response {
    /// Its number among the messages.
    at: usize,
    id: String,
    state: String,
}

/// Why a message could not be applied.
struct Refusal {
    at: usize,
    code: RejectCode,
    field: Option<String>,
    message: String,
}

impl Responses {
    pub(super) fn new(
        inlet: Arc<Inlet>,
        server: Server,
        table: OutboxOptions,
        options: ResponsesOptions,
    ) -> Result<Self, SourceError> {
        let broker = Broker::parse(&options.url);
        let broker = broker.map_err(|error| SourceError::Config(format!("`responses.url` {error}")))?;
        Ok(Self {
            inlet,
            server,
            broker,
            table,
            options,
        })
    }

    async fn take(&self, shared: &Shared, stopping: &watch::Receiver<bool>) -> Result<(), SourceError> {
        let connection = Connection::open(&self.server).await?;
        let plan = Plan::make(&connection, &self.table, self.inlet.stream()).await?;
        let mut consuming =
            Consuming::begin(&self.broker, &self.options.queue, self.options.prefetch).await?;
        shared.works();
        while let Some(messages) = consuming.next(self.options.prefetch.into(), stopping).await? {
            self.apply(&connection, &plan, &consuming, &messages, shared)
                .await?;
        }
        consuming.end().await;
        Ok(())
    }

    async fn apply(
        &self,
        connection: &Connection,
        plan: &Plan,
        consuming: &Consuming,
        messages: &[Message],
        shared: &Shared,
    ) -> Result<(), SourceError> {
        let (mut responses, mut refusals) = (Vec::new(), Vec::new());
        for (at, message) in messages.iter().enumerate() {
            match self.read(at, &message.data) {
                Ok(response) => responses.push(response),
                Err(refusal) => refusals.push(refusal),
            }
        }
        refusals.extend(update(connection, plan, &self.options.id, &responses).await?);
        refusals.sort_by_key(|refusal| refusal.at);
        let refused: Vec<usize> = refusals.iter().map(|refusal| refusal.at).collect();
        if !refusals.is_empty() {
            self.keep(messages, refusals).await?;
        }
        let (good, bad) = split(messages, &refused);
        // The changes are committed, and what could not be applied is durable in `_rejects`.
        consuming.acknowledge(&good).await?;
        consuming.refuse(&bad).await?;
        shared.took(good.len() as u64, bad.len() as u64);
        Ok(())
    }

    fn read(&self, at: usize, body: &[u8]) -> Result<Response, Refusal> {
        let refusal = |code, field: Option<&str>, message: String| Refusal {
            at,
            code,
            field: field.map(str::to_owned),
            message,
        };
        let parsed: Result<Value, _> = serde_json::from_slice(body);
        let parsed = parsed.map_err(|error| refusal(RejectCode::InvalidJson, None, error.to_string()))?;
        let member = |name: &str| match parsed.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            None | Some(Value::Null) => {
                let message = "the response does not have it".to_owned();
                Err(refusal(RejectCode::MissingField, Some(name), message))
            }
            Some(_) => {
                let message = "expected a text or a number".to_owned();
                Err(refusal(RejectCode::TypeMismatch, Some(name), message))
            }
        };
        let (id, status) = (member(&self.options.id)?, member(&self.options.status)?);
        let state = match &self.options.states {
            None => status,
            Some(states) => states.get(&status).cloned().ok_or_else(|| {
                let known: Vec<_> = states.keys().map(String::as_str).collect();
                let status: String = status.chars().take(100).collect();
                let message = format!("`{status}` is not one of {}", known.join(", "));
                refusal(RejectCode::UnknownValue, Some(&self.options.status), message)
            })?,
        };
        if [&id, &state].iter().any(|text| text.contains('\0')) {
            let message = "no text of PostgreSQL can have U+0000".to_owned();
            return Err(refusal(RejectCode::TypeMismatch, Some(&self.options.id), message));
        }
        Ok(Response { at, id, state })
    }

    async fn keep(&self, messages: &[Message], refusals: Vec<Refusal>) -> Result<(), SourceError> {
        tracing::warn!(
            source = self.inlet.source(),
            queue = self.options.queue,
            refused = refusals.len(),
            "responses cannot be applied; `_rejects` has them with the reasons"
        );
        let rejects = refusals.into_iter().map(|refusal| {
            let body = &messages[refusal.at].data;
            Reject {
                line: refusal.at as u64 + 1,
                code: refusal.code,
                field: refusal.field,
                message: format!("response: {}", refusal.message),
                raw: body[..body.len().min(REJECT_RAW_BYTES_MAX)].to_vec(),
            }
        });
        self.inlet.keep(rejects.collect()).await
    }
}

/// Changes the rows, and gives the responses that could not be applied.
async fn update(
    connection: &Connection,
    plan: &Plan,
    id_member: &str,
    responses: &[Response],
) -> Result<Vec<Refusal>, SourceError> {
    // Of several about one row the last one counts.
    let mut last = BTreeMap::new();
    for response in responses {
        last.insert(response.id.as_str(), response.state.as_str());
    }
    let found = match change(connection, plan, &last).await {
        Err(SourceError::Row { .. }) => return one_by_one(connection, plan, id_member, responses).await,
        found => found?,
    };
    let unknown = responses.iter().filter(|response| !found.contains(&response.id));
    Ok(unknown.map(|response| no_such_row(response, id_member)).collect())
}

/// A value of one of them is none for the table: each is tried for itself.
async fn one_by_one(
    connection: &Connection,
    plan: &Plan,
    id_member: &str,
    responses: &[Response],
) -> Result<Vec<Refusal>, SourceError> {
    let mut refusals = Vec::new();
    for response in responses {
        let one = BTreeMap::from([(response.id.as_str(), response.state.as_str())]);
        match change(connection, plan, &one).await {
            Ok(found) if found.is_empty() => refusals.push(no_such_row(response, id_member)),
            Ok(_) => {}
            Err(SourceError::Row { message, .. }) => refusals.push(Refusal {
                at: response.at,
                code: RejectCode::TypeMismatch,
                field: None,
                message,
            }),
            Err(error) => return Err(error),
        }
    }
    Ok(refusals)
}

/// One statement, so one transaction. Gives the ids of the rows that there are.
async fn change(
    connection: &Connection,
    plan: &Plan,
    states: &BTreeMap<&str, &str>,
) -> Result<Vec<String>, SourceError> {
    if states.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, states): (Vec<&str>, Vec<&str>) = states.iter().map(|(id, state)| (*id, *state)).unzip();
    let rows = connection
        .query("change the state of rows", &plan.respond, &[&ids, &states])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn no_such_row(response: &Response, id_member: &str) -> Refusal {
    let id: String = response.id.chars().take(100).collect();
    Refusal {
        at: response.at,
        code: RejectCode::UnknownValue,
        field: Some(id_member.to_owned()),
        message: format!("no row has the id `{id}`"),
    }
}

impl Part for Responses {
    fn work<'a>(
        &'a mut self,
        shared: &'a Shared,
        stopping: &'a watch::Receiver<bool>,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        self.take(shared, stopping).boxed()
    }
}
