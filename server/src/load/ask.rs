//! One question to a running server over a connection of its own, for commands that need an answer or two.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::endpoint::{Credentials, Endpoint};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("ask `{authority}`: {message}")]
pub struct AskError {
    authority: String,
    message: String,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// Sends a request without a `Host` header to host and port, in plain and without a token, and reads the whole
/// answer.
///
/// # Errors
/// [`AskError`] when there is no answer within a minute, or more than 16 MiB of it.
pub async fn ask(
    authority: &str,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Result<Answer, AskError> {
    let endpoint = Endpoint::parse(&format!("http://{authority}"), &Credentials::default());
    let endpoint = endpoint.map_err(|message| AskError {
        authority: authority.to_owned(),
        message,
    })?;
    ask_at(&endpoint, request, body).await
}

/// The same of a server that may want a token or speak TLS.
///
/// # Errors
/// As [`ask`].
pub async fn ask_at(
    endpoint: &Endpoint,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Result<Answer, AskError> {
    let request = endpoint.address(request).body(Full::new(body.into()));
    let exchange = async {
        let stream = endpoint.connect().await?;
        let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(text)?;
        // Ends with this function: one connection, one answer.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = requests
            .send_request(request.map_err(text)?)
            .await
            .map_err(text)?;
        read(response).await
    };
    let answer = tokio::time::timeout(TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
    answer.map_err(|message| AskError {
        authority: endpoint.authority().to_owned(),
        message,
    })
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await.map_err(text)?.to_bytes();
    Ok(Answer { status, body })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
