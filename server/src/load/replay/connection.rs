//! One HTTP/1.1 connection that is kept open, and opened again when it is gone.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::options::Target;
use crate::load::endpoint;

/// Largest answer that is read: a thousand described rejects with the longest messages are far smaller.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// A connection, or the will to open one.
pub(super) struct Connection {
    target: Arc<Target>,
    live: Option<Live>,
    answer_timeout: Duration,
}

/// An open one; dropping it closes the socket.
struct Live {
    requests: SendRequest<Full<Bytes>>,
    /// Moves its bytes when it is polled, until it ends: while somebody waits for an answer. It has no task of its own,
    /// which other threads would have to be woken for with every request.
    driver: Option<Driver>,
}

type Driver = Pin<Box<http1::Connection<TokioIo<Box<dyn endpoint::Connection>>, Full<Bytes>>>>;

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
            let Live { requests, driver } = live;
            if let Err(error) = driven(driver, requests.ready()).await {
                self.live = None;
                if reused {
                    continue;
                }
                return Err(SendError::NotSent(error.to_string()));
            }
            match driven(driver, requests.try_send_request(request)).await {
                Ok(response) => return driven(driver, read(response)).await,
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
    Ok(Live {
        requests,
        driver: Some(Box::pin(connection)),
    })
}

/// Waits for what a connection brings, and moves the connection's bytes meanwhile.
async fn driven<T>(driver: &mut Option<Driver>, brought: impl Future<Output = T>) -> T {
    let mut brought = pin!(brought);
    poll_fn(|context| {
        if let Poll::Ready(done) = brought.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if let Some(connection) = driver
            && connection.as_mut().poll(context).is_ready()
        {
            // An error reaches whoever waits for the answer.
            *driver = None;
        }
        brought.as_mut().poll(context)
    })
    .await
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
