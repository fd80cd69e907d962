//! A client over a WebSocket, as a stranger would write it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::PATIENCE;

/// An open socket, for tests that wait.
pub(crate) struct Socket {
    runtime: Runtime,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Opens a socket; what the server said when it does not.
    pub(crate) fn open(address: SocketAddr, path: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let request = format!("ws://{address}{path}")
            .into_client_request()
            .expect("a request");
        let opened = runtime.block_on(tokio_tungstenite::connect_async(request));
        let (socket, _) = opened.map_err(|error| error.to_string())?;
        Ok(Self { runtime, socket })
    }

    /// The next message; `None` when the socket has ended, however it did.
    pub(crate) fn next(&mut self) -> Option<Message> {
        let socket = &mut self.socket;
        let next = async { tokio::time::timeout(PATIENCE, socket.next()).await };
        let next = self.runtime.block_on(next);
        next.expect("a message or the end in time")?.ok()
    }

    /// The next text, as JSON.
    pub(crate) fn next_json(&mut self) -> Option<Value> {
        loop {
            match self.next()? {
                Message::Text(text) => {
                    let value: Value = serde_json::from_str(text.as_str()).expect("JSON");
                    if value.get("position").is_none() {
                        return Some(value);
                    }
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// The code with which the server closes it.
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        loop {
            if let Message::Close(frame) = self.next()? {
                return frame.map(|frame| frame.code.into());
            }
        }
    }

    pub(crate) fn send(&mut self, message: Message) -> bool {
        self.runtime.block_on(self.socket.send(message)).is_ok()
    }
}
