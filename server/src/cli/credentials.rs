//! Flags of the commands that ask a server: what lets them in, and whom they believe.
//!
//! A token comes from a file or from the variable `TIDEMILL_TOKEN`, and from nothing on the command line, which
//! everybody on the machine can read.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::failure::{Failure, USAGE};
use crate::config::token_of_environment;
use crate::load::endpoint::Credentials;

/// Longest file with a token, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 10;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CredentialArgs {
    /// File with the token to send; the variable TIDEMILL_TOKEN can hold the token itself
    #[arg(long, env = "TIDEMILL_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the authorities whose certificates an https:// server may have [default: the system's]
    #[arg(long, env = "TIDEMILL_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl CredentialArgs {
    /// What they come to.
    pub(crate) fn load(&self) -> Result<Credentials, Failure> {
        let usage = |message: String| Failure::with_exit(USAGE, message);
        let token = match &self.token_file {
            Some(path) => {
                let mut text = String::new();
                File::open(path)
                    .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
                    .map_err(|error| usage(format!("read the token from `{}`: {error}", path.display())))?;
                Some(text)
            }
            None => match token_of_environment().map(std::ffi::OsString::into_string) {
                None => None,
                Some(Ok(text)) => Some(text),
                Some(Err(_)) => return Err(usage("TIDEMILL_TOKEN is not UTF-8".to_owned())),
            },
        };
        let token = token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        Credentials::new(token, self.ca_file.clone()).map_err(usage)
    }
}
