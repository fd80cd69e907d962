//! `tidemill sql`: one question, to a running server or straight to a data directory.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

use super::credentials::CredentialArgs;
use super::failure::{Failure, USAGE};
use super::{Outcome, output, settings::SettingsArgs};
use crate::load::endpoint::Endpoint;

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The statement
    statement: String,
    /// The server to ask [default: http://127.0.0.1:8080]
    #[arg(long, env = "TIDEMILL_URL", value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// Read this data directory without a server; nothing is written
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How the rows are written
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
    Ndjson,
    Csv,
    Arrow,
    Parquet,
}

impl Format {
    fn accept(self) -> &'static str {
        match self {
            Self::Table => "text/plain",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

pub(crate) async fn run(arguments: SqlArgs) -> Outcome {
    let request = http::Request::post("/v1/sql")
        .header("content-type", "text/plain")
        .header("accept", arguments.format.accept());
    match &arguments.data_dir {
        Some(directory) => {
            let settings = SettingsArgs::for_data_dir(directory.clone());
            let router = crate::serve::read_only_router(settings.load()?).await?;
            let request = request.body(axum::body::Body::from(arguments.statement))?;
            let response = tower::ServiceExt::oneshot(router, request).await?;
            print(response).await
        }
        None => {
            let url = arguments.url.as_deref().unwrap_or("http://127.0.0.1:8080");
            let endpoint = Endpoint::parse(url, &arguments.credentials.load()?);
            let endpoint = endpoint.map_err(|error| Failure::with_exit(USAGE, format!("--url: {error}")))?;
            let response = ask(&endpoint, request, arguments.statement).await?;
            print(response).await
        }
    }
}

async fn ask(
    endpoint: &Endpoint,
    request: http::request::Builder,
    statement: String,
) -> Result<http::Response<hyper::body::Incoming>, Failure> {
    let stream = endpoint.connect().await.map_err(|error| {
        let authority = endpoint.authority();
        format!("connect to `{authority}`: {error}; is the server running?")
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = endpoint
        .address(request)
        .body(Full::new(bytes::Bytes::from(statement)))?;
    let response = sender.send_request(request).await?;
    // The connection lives as long as the process, which ends with the answer.
    tasks.detach_all();
    Ok(response)
}

/// Writes the answer as it comes. An answer that ends in an error is a failure, however much was written.
async fn print<B>(response: http::Response<B>) -> Outcome
where
    B: hyper::body::Body<Data = bytes::Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status();
    let mut body = response.into_body();
    let mut out = std::io::stdout().lock();
    let mut refusal = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Into::into)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if status.is_success() {
            if let Err(error) = out.write_all(data) {
                return output::ended(Err(error));
            }
        } else {
            refusal.extend_from_slice(data);
        }
    }
    if status.is_success() {
        return output::ended(out.flush());
    }
    let problem: serde_json::Value = serde_json::from_slice(&refusal).unwrap_or_default();
    let detail = problem["detail"].as_str().or(problem["title"].as_str());
    let shown = String::from_utf8_lossy(&refusal);
    Err(Failure::from(format!("{status}: {}", detail.unwrap_or(&shown))))
}
