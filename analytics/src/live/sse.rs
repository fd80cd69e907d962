//! Events as `text/event-stream` (WHATWG HTML, 9.2).
//!
//! Each event has its id, so a client that comes back with `Last-Event-ID` gets every event once. What begins a stream,
//! and a comment now and then, carry the id as well and no data: so a client knows where it is although nothing came
//! that passes its filter. What is missed is an event of the type `missed`, of which `EventSource` tells only those who
//! ask for it.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::unfold;
use http::{HeaderValue, header};
use tokio::sync::watch;
use tokio::time::sleep;

use super::client::Client;
use super::cursor::{Cursor, Item};
use super::{KEEP_ALIVE, RETRY_MS};
use crate::QueryError;

/// Bytes of one piece of the body. The connection queues up to 16 of them for a client that does not read.
const CHUNK_BYTES: usize = 16 << 10;

/// A client's stream.
struct EventStream {
    cursor: Cursor,
    client: Client,
    closing: watch::Receiver<bool>,
    begun: bool,
    ended: bool,
}

/// The answer whose body never ends by itself.
pub(super) fn answer(cursor: Cursor, client: Client, closing: watch::Receiver<bool>) -> Response {
    let stream = EventStream {
        cursor,
        client,
        closing,
        begun: false,
        ended: false,
    };
    let chunks = unfold(stream, |mut stream| async move {
        let chunk = stream.next_chunk().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), stream))
    });
    let mut response = Body::from_stream(chunks).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather an answer before they pass it on are asked not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Waits until the server shuts down.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that it is gone.
    let _ = closing.wait_for(|closing| *closing).await;
}

impl EventStream {
    async fn next_chunk(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut out = Vec::new();
        if !self.begun {
            self.begun = true;
            out.extend_from_slice(format!("retry: {RETRY_MS}\n").as_bytes());
            self.write_id(0, &mut out);
            out.push(b'\n');
            return Some(out);
        }
        let mut text = Vec::new();
        tokio::select! {
            biased;
            () = closed(&mut self.closing) => {
                self.ended = true;
                out.extend_from_slice(format!("retry: {RETRY_MS}\n: the server shuts down\n\n").as_bytes());
            }
            next = self.cursor.next(&mut text) => self.write_items(next, text, &mut out),
            () = sleep(KEEP_ALIVE) => {
                out.extend_from_slice(b": still here\n");
                self.write_id(0, &mut out);
                out.push(b'\n');
            }
        }
        Some(out)
    }

    /// Writes an item, and those after it that are there already.
    fn write_items(&mut self, first: Result<Item, QueryError>, mut text: Vec<u8>, out: &mut Vec<u8>) {
        let mut events = 0;
        let mut next = first.map(Some);
        loop {
            match next {
                Ok(None) => break,
                Ok(Some(Item::Event(number))) => {
                    self.write_id(number, out);
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(&text);
                    out.extend_from_slice(b"\n\n");
                    events += 1;
                }
                Ok(Some(Item::Missed { from, to, number })) => {
                    out.extend_from_slice(b"event: missed\n");
                    self.write_id(number, out);
                    out.extend_from_slice(
                        format!("data: {{\"from\":\"{from}\",\"to\":\"{to}\"}}\n\n").as_bytes(),
                    );
                }
                Err(error) => {
                    tracing::warn!(stream = self.cursor.stream(), %error, "a client who watches is sent away");
                    let detail = serde_json::Value::from(error.to_string());
                    out.extend_from_slice(
                        format!("event: error\ndata: {{\"detail\":{detail}}}\n\n").as_bytes(),
                    );
                    self.ended = true;
                    break;
                }
            }
            if out.len() >= CHUNK_BYTES {
                break;
            }
            text.clear();
            next = self.cursor.take(&mut text);
        }
        self.client.sent(events);
    }

    fn write_id(&self, number: usize, out: &mut Vec<u8>) {
        let mut id = String::new();
        self.cursor.write_id(number, &mut id);
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
}
