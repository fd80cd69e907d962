//! Who may do what, as far as the configuration says: files of tokens and certificates, and which listeners may be
//! reached without.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::problem::Problems;

/// Where tokens and certificates lie. The files themselves are read by the server, again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// The file of tokens; without one everybody may do everything.
    pub tokens_file: Option<PathBuf>,
    /// Certificate and key; without them HTTP is spoken in plain.
    pub tls: Option<TlsConfig>,
}

/// The files of TLS, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate and those that lead to its authority, in this order.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Makes it of the three settings, each empty when absent.
pub(super) fn build(tokens: &str, certificate: &str, key: &str, problems: &mut Problems) -> AccessConfig {
    let file = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    let tls = match (file(certificate), file(key)) {
        (Some(certificate), Some(key)) => Some(TlsConfig { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            problems.push(
                "tls.key_file",
                "is missing: a certificate is of no use without its key",
            );
            None
        }
        (None, Some(_)) => {
            problems.push(
                "tls.certificate_file",
                "is missing: a key is of no use without its certificate",
            );
            None
        }
    };
    AccessConfig {
        tokens_file: file(tokens),
        tls,
    }
}

/// Refuses a listener that other machines reach while everybody may do everything, unless that is wanted.
pub(super) fn check_remote(
    listen: &[SocketAddr],
    allow_remote: bool,
    access: &AccessConfig,
    problems: &mut Problems,
) {
    let guarded = allow_remote || access.tokens_file.is_some();
    if let Some(remote) = listen.iter().find(|address| !address.ip().is_loopback())
        && !guarded
    {
        let message = format!(
            "`{remote}` can be reached from other machines, and everybody may do everything: set `tokens_file` \
             (`tidemill token new` makes tokens), or `allow_remote = true` (--allow-remote) if that is wanted"
        );
        problems.push("listen", message);
    }
}
