//! TLS in front of HTTP, by rustls: certificate and key from files that may change while connections are open.
//!
//! The provider of cryptography is named here and never taken from the process, where several crates bring one. A
//! handshake takes part in the same bounds as a request's head: the connection has its place among all
//! connections, and the handshake must be through in the time that a head has (I-4). A connection keeps the
//! certificate that it began with; a new pair of files is for those that come later.
//!
//! Both HTTP/2 and HTTP/1.1 are offered by ALPN; which one a client then speaks, its first bytes say, as without
//! TLS. Who speaks plain HTTP to such an address is told so, in plain HTTP.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::access::{AccessError, Reload, Reloading};
use crate::config::TlsConfig;

/// Largest file of a certificate chain or a key, in bytes: a chain of the longest keys has some tens of thousands.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is spoken inside, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// What a client gets that speaks plain HTTP.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: application/problem+json\r\ncontent-length: 130\r\n\r\n\
    {\"type\":\"urn:tidemill:problem:tls-needed\",\"title\":\"Tls needed\",\"status\":400,\
    \"detail\":\"this address speaks HTTPS, write https://\"}\n";

/// How long, and how many bytes, such a client is read on, so that it gets to read the answer.
const PLAIN_LINGER: Duration = Duration::from_secs(1);
const PLAIN_LINGER_BYTES: u64 = 64 << 10;

/// Makes TLS connections of accepted ones.
#[derive(Debug)]
pub(crate) struct Tls {
    current: Arc<Reloading<ServerConfig>>,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`AccessError`] when they cannot be read, are not PEM, or do not belong together.
    pub(crate) fn open(files: &TlsConfig) -> Result<Self, AccessError> {
        let paths: Vec<PathBuf> = vec![files.certificate.clone(), files.key.clone()];
        let secret = Some(files.key.clone());
        let parse = |contents: &[Vec<u8>]| match contents {
            [certificate, key] => server_config(certificate, key),
            _ => Err("two files are needed".to_owned()),
        };
        let current = Reloading::open("certificate and key", paths, FILE_BYTES_MAX, secret, parse)?;
        Ok(Self {
            current: Arc::new(current),
        })
    }

    /// What looks whether the files have changed.
    pub(crate) fn reload(&self) -> Arc<dyn Reload> {
        let current: Arc<Reloading<ServerConfig>> = Arc::clone(&self.current);
        current
    }

    /// Does the handshake within `limit`.
    ///
    /// # Errors
    /// When the client gives up, is too slow, or speaks something else.
    ///
    /// # Cancellation
    /// The connection is closed.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
                tell_plain(stream, first[0]).await;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the client does not speak TLS",
                ));
            }
            TlsAcceptor::from(self.current.current()).accept(stream).await
        };
        let done = timeout(limit, handshake).await;
        let done =
            done.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time")));
        if let Err(error) = &done {
            let reason = match error.kind() {
                io::ErrorKind::TimedOut => "timeout",
                io::ErrorKind::InvalidData => "protocol",
                _ => "closed",
            };
            metrics::counter!("tidemill_tls_handshake_errors_total", "reason" => reason).increment(1);
        }
        done
    }
}

/// Answers a request in plain HTTP; anything else that is no handshake is closed without a word.
async fn tell_plain(mut stream: TcpStream, first: u8) {
    if !first.is_ascii_uppercase() {
        return;
    }
    let told = async {
        stream.write_all(PLAIN_ANSWER).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(PLAIN_LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whether it arrives is the client's concern.
    let _ = timeout(PLAIN_LINGER, told).await;
}

/// What connections are made with.
fn server_config(certificate: &[u8], key: &[u8]) -> Result<ServerConfig, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate file has no `BEGIN CERTIFICATE`".to_owned());
    }
    // What the reader says about a key could show a part of it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        "the key file has no private key as PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)".to_owned()
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("choose versions of TLS: {error}"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("certificate and key cannot be used together: {error}"))?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_has_the_length_that_it_says() {
        let text = std::str::from_utf8(PLAIN_ANSWER).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    }

    #[test]
    fn a_pair_that_does_not_belong_together_is_refused_and_no_key_is_shown() {
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (one, other) = (made(), made());
        let (certificate, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        assert!(server_config(certificate.as_bytes(), key.as_bytes()).is_ok());
        let foreign = other.signing_key.serialize_pem();
        for (certificate, key) in [
            (certificate.as_str(), foreign.as_str()),
            (certificate.as_str(), ""),
            (certificate.as_str(), certificate.as_str()),
            (certificate.as_str(), &key[..key.len() / 2]),
            ("", key.as_str()),
            (&certificate[..certificate.len() / 2], key.as_str()),
            (key.as_str(), certificate.as_str()),
        ] {
            let error = server_config(certificate.as_bytes(), key.as_bytes()).expect_err("refused");
            let secret = key.lines().nth(1).unwrap_or("no key");
            assert!(!error.contains(secret) || key == certificate, "{error}");
        }
    }
}
