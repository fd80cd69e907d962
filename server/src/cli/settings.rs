//! Flags about the configuration, the same for every command that needs one.

use std::path::PathBuf;

use clap::Args;

use super::failure::{Failure, USAGE};
use crate::config::{self, Config, Sources};

/// The file that is read when it is there and no `--config` is given.
const DEFAULT_FILE: &str = "tidemill.toml";

/// Where settings come from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SettingsArgs {
    /// Configuration file; may be repeated, later ones override by key [default: tidemill.toml, if there]
    #[arg(long, env = "TIDEMILL_CONFIG", value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Directory of journal, catalog and lake
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Allow listeners that other machines reach although there are no tokens
    #[arg(long)]
    allow_remote: bool,
    /// What this process does: all, ingest, sink, analytics, sources, assign; may be repeated
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
}

impl SettingsArgs {
    /// The settings that hold for a data directory when nothing but the directory is said.
    pub(crate) fn for_data_dir(directory: PathBuf) -> Self {
        Self {
            data_dir: Some(directory),
            ..Self::default()
        }
    }

    /// The checked configuration from files, environment and these flags.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        let mut files = self.config.clone();
        if files.is_empty() && std::path::Path::new(DEFAULT_FILE).is_file() {
            tracing::info!(
                file = DEFAULT_FILE,
                "reading the configuration from this directory"
            );
            files.push(DEFAULT_FILE.into());
        }
        let sources = Sources {
            files,
            flags: self.flags()?,
            ..Sources::default()
        };
        config::load(&sources.with_environment()).map_err(|problems| Failure::with_exit(USAGE, problems))
    }

    fn flags(&self) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut flags = Vec::new();
        if let Some(directory) = &self.data_dir {
            let text = directory
                .to_str()
                .ok_or_else(|| Failure::with_exit(USAGE, "--data-dir is not UTF-8"))?;
            flags.push(("data_dir", text.to_owned()));
        }
        if !self.listen.is_empty() {
            flags.push(("listen", self.listen.join(",")));
        }
        if self.allow_remote {
            flags.push(("allow_remote", "true".to_owned()));
        }
        if !self.role.is_empty() {
            flags.push(("roles", self.role.join(",")));
        }
        Ok(flags)
    }
}
