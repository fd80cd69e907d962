//! `tidemill health`: asks a server whether it is ready, for health checks in places that have no other client.

use std::time::Duration;

use clap::Args;

use super::credentials::CredentialArgs;
use super::failure::{Failure, USAGE};
use super::{Outcome, output};
use crate::load::ask::ask_at;
use crate::load::endpoint::Endpoint;

/// Shorter than what asks for health waits for this command.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// The server to ask [default: http://127.0.0.1:8080]
    #[arg(long, env = "TIDEMILL_URL", value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
}

/// Prints what `/readyz` says. Succeeds only when the server is ready.
pub(crate) async fn run(arguments: HealthArgs) -> Outcome {
    let url = arguments.url.as_deref().unwrap_or("http://127.0.0.1:8080");
    let endpoint = Endpoint::parse(url, &arguments.credentials.load()?);
    let endpoint = endpoint.map_err(|error| Failure::with_exit(USAGE, format!("--url: {error}")))?;
    let asked = ask_at(&endpoint, http::Request::get("/readyz"), "");
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer.map_err(|_| format!("`{url}` does not answer within {} s", PATIENCE.as_secs()))??;
    let body = String::from_utf8_lossy(&answer.body);
    if !answer.status.is_success() {
        return Err(Failure::from(format!("not ready, {}: {body}", answer.status)));
    }
    output::print(format_args!("{}\n", body.trim_end()))
}
