//! Events as messages of a WebSocket (RFC 6455).
//!
//! Every event is a text message: with ids `{"id": "0:5:0", "event": …}`, after a first message that says where the
//! client begins; without ids the event alone, for clients that expect nothing else. What is missed is
//! `{"missed": {"from", "to"}}`. Whatever a client sends is read and not looked at.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures::SinkExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::PING_EVERY;
use super::client::Client;
use super::cursor::{Cursor, Item};
use crate::QueryError;

/// A client that has sent nothing for this long, although it was pinged twice, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// How long the end of a connection may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Bytes of messages that are written before they are flushed.
const BATCH_BYTES: usize = 16 << 10;
/// Largest message that a client may send: none is expected.
pub(super) const RECEIVED_BYTES_MAX: usize = 4 << 10;

/// One client.
pub(super) struct Session {
    pub(super) cursor: Cursor,
    pub(super) client: Client,
    pub(super) closing: watch::Receiver<bool>,
    /// Whether messages carry ids.
    pub(super) ids: bool,
}

/// Why a session ends.
enum End {
    /// The client is gone, or does not take what it is sent.
    Gone,
    /// The server says so, with a code and a reason.
    Closed(u16, &'static str),
}

impl Session {
    /// Sends events until one side ends it.
    pub(super) async fn run(mut self, mut socket: WebSocket) {
        if let End::Closed(code, reason) = self.send_all(&mut socket).await {
            let frame = CloseFrame {
                code,
                reason: Utf8Bytes::from_static(reason),
            };
            let closed = async {
                socket.send(Message::Close(Some(frame))).await?;
                while let Some(received) = socket.recv().await {
                    received?;
                }
                Ok::<_, axum::Error>(())
            };
            // Whoever does not answer has had its time.
            drop(timeout(CLOSE_TIME, closed).await);
        }
    }

    async fn send_all(&mut self, socket: &mut WebSocket) -> End {
        let mut closing = self.closing.clone();
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => End::Closed(close_code::AWAY, "the server shuts down"),
            end = self.exchange(socket) => end,
        }
    }

    async fn exchange(&mut self, socket: &mut WebSocket) -> End {
        if self.ids {
            let mut id = String::new();
            self.cursor.write_id(0, &mut id);
            if socket
                .send(text(format!("{{\"position\":\"{id}\"}}")))
                .await
                .is_err()
            {
                return End::Gone;
            }
        }
        let mut heard = Instant::now();
        let mut ping_at = heard + PING_EVERY;
        loop {
            let mut out = Vec::new();
            tokio::select! {
                received = socket.recv() => match received {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return End::Gone,
                    Some(Ok(_)) => heard = Instant::now(),
                },
                () = sleep_until(ping_at) => {
                    if heard.elapsed() > SILENCE_MAX || socket.send(Message::Ping(Bytes::new())).await.is_err() {
                        return End::Gone;
                    }
                    ping_at = Instant::now() + PING_EVERY;
                }
                next = self.cursor.next(&mut out) => match self.send_items(socket, next, out).await {
                    Ok(()) => {}
                    Err(end) => return end,
                },
            }
        }
    }

    /// Sends an item, and those after it that are there already.
    async fn send_items(
        &mut self,
        socket: &mut WebSocket,
        first: Result<Item, QueryError>,
        mut event: Vec<u8>,
    ) -> Result<(), End> {
        let (mut events, mut bytes) = (0, 0);
        let mut next = first.map(Some);
        loop {
            let message = match next {
                Ok(None) => break,
                Ok(Some(Item::Event(number))) => {
                    events += 1;
                    self.event(number, event)
                }
                Ok(Some(Item::Missed { from, to, .. })) => {
                    text(format!("{{\"missed\":{{\"from\":\"{from}\",\"to\":\"{to}\"}}}}"))
                }
                Err(error) => {
                    tracing::warn!(stream = self.cursor.stream(), %error, "a client who watches is sent away");
                    return Err(End::Closed(close_code::ERROR, "the stream cannot be read"));
                }
            };
            bytes += match &message {
                Message::Text(text) => text.len(),
                _ => 0,
            };
            socket.feed(message).await.map_err(|_| End::Gone)?;
            if bytes >= BATCH_BYTES {
                break;
            }
            event = Vec::new();
            next = self.cursor.take(&mut event);
        }
        self.client.sent(events);
        socket.flush().await.map_err(|_| End::Gone)
    }

    fn event(&self, number: usize, event: Vec<u8>) -> Message {
        // What was made of texts of JSON is one.
        let event = String::from_utf8_lossy(&event);
        if !self.ids {
            return text(event.into_owned());
        }
        let mut id = String::new();
        self.cursor.write_id(number, &mut id);
        text(format!("{{\"id\":\"{id}\",\"event\":{event}}}"))
    }
}

fn text(text: String) -> Message {
    Message::Text(text.into())
}
