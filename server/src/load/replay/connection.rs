//! One HTTP/1.1 connection that is kept open, and opened again when it is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::options::Target;

/// Largest answer that is read: a thousand described rejects with the longest messages are far smaller.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// A connection, or the will to open one.
pub(super) struct Connection {
    target: Arc<Target>,
    live: Option<Live>,
    answer_timeout: Duration,
}

/// An open one, with the task that moves its bytes; dropping it closes the socket.
struct Live {
    requests: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum SendError {
    /// Nothing was sent: nobody listens, or not any more.
    NotSent(String),
    /// Something was sent; what came of it only the server knows.
    Unknown(String),
}

impl Connection {
    /// One that is opened with the first request.
    pub(super) fn closed(target: Arc<Target>, answer_timeout: Duration) -> Self {
        Self {
            target,
            live: None,
            answer_timeout,
        }
    }

    /// An open one.
    pub(super) async fn open(target: Arc<Target>, answer_timeout: Duration) -> Result<Self, String> {
        let live = connect(&target).await?;
        Ok(Self {
            target,
            live: Some(live),
            answer_timeout,
        })
    }

    /// Where it goes.
    pub(super) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }

    /// Posts a body and waits for the answer.
    pub(super) async fn post(&mut self, body: Bytes) -> Result<Reply, SendError> {
        match timeout(self.answer_timeout, self.exchange(body)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                self.live = None;
                Err(error)
            }
            Err(_) => {
                self.live = None;
                let seconds = self.answer_timeout.as_secs();
                Err(SendError::Unknown(format!("no answer within {seconds} s")))
            }
        }
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Reply, SendError> {
        let mut request = self.request(body).map_err(SendError::NotSent)?;
        // The server may have closed an idle connection since the last answer; what was not sent is sent again.
        loop {
            let reused = self.live.is_some();
            let live = match &mut self.live {
                Some(live) => live,
                closed => closed.insert(connect(&self.target).await.map_err(SendError::NotSent)?),
            };
            if let Err(error) = live.requests.ready().await {
                self.live = None;
                if reused {
                    continue;
                }
                return Err(SendError::NotSent(error.to_string()));
            }
            match live.requests.try_send_request(request).await {
                Ok(response) => return read(response).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => {
                        self.live = None;
                        request = unsent;
                    }
                    Some(_) => return Err(SendError::NotSent(error.error().to_string())),
                    None => return Err(SendError::Unknown(error.error().to_string())),
                },
            }
        }
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        self.target
            .endpoint()
            .address(Request::post(self.target.path()))
            .header(CONTENT_TYPE, "application/x-ndjson")
            .body(Full::new(body))
            .map_err(|error| error.to_string())
    }
}

async fn connect(target: &Target) -> Result<Live, String> {
    let stream = target.endpoint().connect().await?;
    let (requests, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // An error reaches whoever waits for the answer.
        let _ = connection.await;
    });
    Ok(Live {
        requests,
        _driver: driver,
    })
}

async fn read(response: http::Response<Incoming>) -> Result<Reply, SendError> {
    let (parts, body) = response.into_parts();
    let retry_after = parts
        .headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let body = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| SendError::Unknown(format!("read the answer: {error}")))?;
    Ok(Reply {
        status: parts.status,
        retry_after,
        body: body.to_bytes(),
    })
}
