//! From a request to a client: which stream, from where on, which events, over what.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use event::{StreamDeclaration, StreamName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tokio::sync::oneshot;

use super::channel::Source;
use super::client::{Client, Held};
use super::cursor::Cursor;
use super::place::Begin;
use super::socket::{RECEIVED_BYTES_MAX, Session};
use super::{Live, sse};
use crate::http::pairs;
use crate::parameters::{Filter, moment, wanted};
use crate::{QueryError, Readable, problem};

/// The header in which a browser says which event it saw last.
const LAST_EVENT_ID: &str = "last-event-id";
/// Bytes that a socket gathers on its way out, and in.
const WRITE_BUFFER_BYTES: usize = 16 << 10;
const READ_BUFFER_BYTES: usize = 4 << 10;

/// What a request asks to watch.
struct Question {
    begin: Begin,
    filter: Filter,
    /// Whether messages of a socket carry ids.
    ids: bool,
}

impl Question {
    /// Reads the parameters. `Last-Event-ID` goes before `from`: it is newer.
    fn parse(parts: &Parts, stream: &StreamDeclaration, ids: bool) -> Result<Self, QueryError> {
        let mut question = Self {
            begin: Begin::End,
            filter: Filter::default(),
            ids,
        };
        for (key, text) in pairs(parts.uri.query())? {
            match key.as_str() {
                "from" => question.begin = Begin::parse("from", &text)?,
                "ids" => {
                    question.ids = text.parse().map_err(|_| {
                        QueryError::Invalid(format!("`ids` is `{text}`, expected true or false"))
                    })?;
                }
                "start" => question.filter.start = Some(moment(&key, &text)?),
                "end" => question.filter.end = Some(moment(&key, &text)?),
                field => {
                    let wanted = wanted(stream, field, &text)?;
                    question.filter.equal.push((key, wanted));
                }
            }
        }
        if let Some(id) = parts.headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
            let id = id
                .to_str()
                .map_err(|_| QueryError::Invalid("`Last-Event-ID` is no position".to_owned()))?;
            question.begin = Begin::parse("Last-Event-ID", id)?;
        }
        Ok(question)
    }
}

impl Live {
    /// The stream that a declared path is about. A request for it may be [answered](Self::answer) here.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<&StreamName> {
        self.inner.routes.get(path).map(|source| &source.stream.name)
    }

    /// Whether a request is to watch: about a stream's tail, or a GET of a declared path. Other methods of that path
    /// may be somebody else's.
    #[must_use]
    pub fn takes<B>(&self, request: &Request<B>) -> bool {
        let path = request.uri().path();
        let asks = request.method() == Method::GET || request.method() == Method::HEAD;
        tail_of(path).is_some() || (asks && self.inner.routes.contains_key(path))
    }

    /// Answers a request to watch. Whether it may read the stream is in its [`Readable`].
    pub async fn answer(&self, request: Request<Body>) -> Response {
        let answered = self.watch(request).await;
        answered.unwrap_or_else(IntoResponse::into_response)
    }

    async fn watch(&self, request: Request<Body>) -> Result<Response, QueryError> {
        let (mut parts, _) = request.into_parts();
        let readable = parts
            .extensions
            .get::<Readable>()
            .cloned()
            .unwrap_or_else(Readable::all);
        let path = parts.uri.path();
        let (source, declared) = match tail_of(path) {
            Some(name) => {
                readable.check(name)?;
                let source = self.inner.streams.get(name);
                (source.ok_or_else(|| QueryError::no_stream(name))?, false)
            }
            None => {
                let nowhere = || QueryError::NotFound("there is no such route".to_owned());
                let source = self.inner.routes.get(path).ok_or_else(nowhere)?;
                readable.check(source.stream.name.as_str())?;
                (source, true)
            }
        };
        let upgrade = upgrades(&parts.headers);
        if parts.method != Method::GET && !(parts.method == Method::CONNECT && upgrade) {
            let mut response = problem::answer(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("{} is not allowed here", parts.method),
            );
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET"));
            return Ok(response);
        }
        if declared && !upgrade {
            let mut response = problem::answer(StatusCode::UPGRADE_REQUIRED, "this path is a WebSocket's");
            response
                .headers_mut()
                .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            return Ok(response);
        }
        let question = Question::parse(&parts, &source.stream, !declared)?;
        if !upgrade {
            let (cursor, client) = self.client("sse", source, &question, None).await?;
            return Ok(sse::answer(cursor, client, self.inner.closing.subscribe()));
        }
        let accepted = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(accepted) => accepted,
            Err(refused) => return Ok(problem::answer(refused.status(), &refused.body_text())),
        };
        let held = parts.extensions.get::<Held>().cloned();
        let (cursor, client) = self.client("websocket", source, &question, held).await?;
        let session = Session {
            cursor,
            client,
            closing: self.inner.closing.subscribe(),
            ids: question.ids,
        };
        Ok(self.upgrade(accepted, session))
    }

    /// A place and a cursor for somebody who comes.
    async fn client(
        &self,
        kind: &'static str,
        source: &Source,
        question: &Question,
        held: Option<Held>,
    ) -> Result<(Cursor, Client), QueryError> {
        if *self.inner.closing.borrow() {
            return Err(QueryError::NotNow("the server shuts down".to_owned()));
        }
        let place = Arc::clone(&self.inner.clients).try_acquire_owned().map_err(|_| {
            metrics::counter!("tidemill_live_refused_total").increment(1);
            let limit = self.inner.clients_max;
            QueryError::NotNow(format!("{limit} clients watch already, which is the limit"))
        })?;
        let channel = source.channel(&self.inner.pool).await?;
        self.trim();
        let cursor = Cursor::new(channel, &question.begin, question.filter.clone()).await?;
        let client = Client::new(kind, source.stream.name.as_str(), place, held);
        Ok((cursor, client))
    }

    /// Makes room for rings that have come.
    fn trim(&self) {
        let sources = self.inner.streams.values().chain(self.inner.routes.values());
        sources
            .filter_map(Source::watched)
            .for_each(|channel| channel.trim());
    }

    /// The answer that hands the connection over to a session, which lives on in a task of ours.
    fn upgrade(&self, accepted: WebSocketUpgrade, session: Session) -> Response {
        let (hand, socket) = oneshot::channel::<WebSocket>();
        let mut sessions = self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // Ended ones go here, so there are never many more than clients.
        while sessions.try_join_next().is_some() {}
        sessions.spawn(async move {
            // An error means that the connection ended before it was handed over.
            if let Ok(socket) = socket.await {
                session.run(socket).await;
            }
        });
        drop(sessions);
        accepted
            .max_message_size(RECEIVED_BYTES_MAX)
            .max_frame_size(RECEIVED_BYTES_MAX)
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .on_upgrade(|socket| async move {
                // An error means that the server is gone.
                drop(hand.send(socket));
            })
    }
}

/// The stream of `/v1/streams/{stream}/tail`. Names of streams have nothing that is escaped in a path.
fn tail_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/v1/streams/")?.strip_suffix("/tail")?;
    (!name.contains('/')).then_some(name)
}

fn upgrades(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tail_of_a_stream_is_one() {
        assert_eq!(tail_of("/v1/streams/running/tail"), Some("running"));
        for other in [
            "/v1/streams/running/events",
            "/v1/streams/a/b/tail",
            "/v1/streams/tail",
            "/tail",
        ] {
            assert_eq!(tail_of(other), None, "{other}");
        }
    }
}
