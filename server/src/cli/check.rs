//! `tidemill check`: is the configuration right, and what does it come to?

use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use super::settings::SettingsArgs;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(arguments: &CheckArgs) -> Outcome {
    let config = arguments.settings.load()?;
    print!("{}", crate::config::effective(&config));
    Ok(ExitCode::SUCCESS)
}
