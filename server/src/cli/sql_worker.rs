//! `tidemill sql-worker`: runs ad-hoc SQL for the server that started it, one query at a time.
//!
//! It is not for people: settings and questions come through the socket that is its standard input, and with the
//! socket's end it ends.

use std::process::ExitCode;

use analytics::worker::Channel;
use tokio::sync::watch;

use super::Outcome;
use super::failure::{Failure, USAGE};
use crate::config;
use crate::serve::{Signals, sql_workers, watch_credit};

pub(crate) async fn run() -> Outcome {
    // Whoever tells every process to stop means the server, which lets queries in flight finish (I-7).
    let _unheard = Signals::listen()?;
    sql_workers::end_first();
    let mut channel = Channel::standard_input().map_err(|error| {
        let message = format!(
            "`{}` is started by a server, not by hand: {error}",
            sql_workers::COMMAND
        );
        Failure::with_exit(USAGE, message)
    })?;
    let settings = channel.settings().await?;
    let config = config::of_worker(&settings).map_err(|problems| Failure::with_exit(USAGE, problems))?;
    let analytics = crate::serve::open_sql_worker(&config).await?;
    sql_workers::bound_memory(&config)?;
    let (busy, answers) = watch::channel(false);
    let serves = async move { channel.serve(analytics, &busy).await };
    // Ends when there are no questions any more.
    let (served, ()) = tokio::join!(serves, watch_credit(answers));
    served?;
    Ok(ExitCode::SUCCESS)
}
