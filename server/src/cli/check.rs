//! `tidemill check`: is the configuration right, and what does it come to?

use clap::Args;

use super::settings::SettingsArgs;
use super::{Outcome, output};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(arguments: &CheckArgs) -> Outcome {
    let config = arguments.settings.load()?;
    // The server would refuse to start over these, and nothing in them is printed.
    crate::serve::check_access(&config)?;
    output::print(crate::config::effective(&config))
}
