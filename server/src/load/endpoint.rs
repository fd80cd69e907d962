//! A server as its clients see it: where it is, whether it speaks TLS, and what lets them in.
//!
//! Every command that asks a server goes through here, so that tokens and certificates are treated alike.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long connecting may take, with its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest file of authorities, in bytes: the system's has some hundred kilobytes.
const AUTHORITIES_BYTES_MAX: u64 = 16 << 20;

/// Where systems keep the authorities that they trust.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A connection to a server.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// What lets a client in, and whom it believes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Credentials {
    authorization: Option<HeaderValue>,
    authorities: Option<PathBuf>,
}

/// A server's address, from a URL.
#[derive(Clone)]
pub struct Endpoint {
    authority: String,
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

impl Credentials {
    /// A token to send, and the file of authorities (PEM) whose certificates a server may have; the system's when
    /// absent.
    ///
    /// # Errors
    /// When the token cannot be a header.
    pub fn new(token: Option<&str>, authorities: Option<PathBuf>) -> Result<Self, String> {
        let authorization = match token {
            None => None,
            Some(token) => {
                // The error of the header would show the token.
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| "the token has characters that no token has".to_owned())?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            authorization,
            authorities,
        })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The server of an `http://` or `https://` URL, whose path does not matter here.
    ///
    /// # Errors
    /// What is wrong with the URL or the authorities.
    pub fn parse(url: &str, credentials: &Credentials) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("`{url}`: {error}"))?;
        let (Some(authority), Some(scheme @ ("http" | "https"))) = (uri.authority(), uri.scheme_str()) else {
            return Err(format!("`{url}` is not an address as http://127.0.0.1:8080"));
        };
        let secure = scheme == "https";
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = if secure {
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|_| format!("`{host}` is not a name that a certificate could have"))?;
            Some((name, client_config(credentials.authorities.as_deref())?))
        } else {
            None
        };
        if tls.is_none() && credentials.authorization.is_some() && !is_loopback(&host) {
            tracing::warn!(host, "the token travels in plain: write https://");
        }
        Ok(Self {
            authority: authority.as_str().to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            host,
            authorization: credentials.authorization.clone(),
            tls,
        })
    }

    /// Host and port as the URL has them.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Connection>, String> {
        let opened = timeout(CONNECT_TIMEOUT, self.open()).await;
        opened.unwrap_or_else(|_| Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))
    }

    async fn open(&self) -> Result<Box<dyn Connection>, String> {
        let address = (self.host.as_str(), self.port);
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        // A small request must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some((name, config)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name.clone(), stream).await;
        Ok(Box::new(stream.map_err(|error| format!("TLS: {error}"))?))
    }

    /// Adds what every request to this server has: its host, and the token.
    pub(crate) fn address(&self, request: http::request::Builder) -> http::request::Builder {
        let request = request.header(http::header::HOST, &self.authority);
        match &self.authorization {
            Some(value) => request.header(http::header::AUTHORIZATION, value),
            None => request,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let ip = host.parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn client_config(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let found = AUTHORITIES.iter().map(Path::new).find(|path| path.is_file());
    let path = authorities.or(found);
    let path = path.ok_or("this system has no file of authorities: name one with --ca-file")?;
    let failed =
        |error: &dyn std::fmt::Display| format!("read authorities from `{}`: {error}", path.display());
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(AUTHORITIES_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|error| failed(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = roots.add(certificate.map_err(|error| failed(&error))?);
        // A system may trust what this library cannot read; a file that somebody names must be right.
        if let (Err(error), true) = (added, authorities.is_some()) {
            return Err(failed(&error));
        }
    }
    if roots.is_empty() {
        return Err(failed(&"it has no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_scheme_host_and_port() {
        let parse = |url: &str| Endpoint::parse(url, &Credentials::default());
        let endpoint = parse("http://[::1]:7/x").expect("good");
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("::1", 7));
        assert_eq!(parse("http://a").expect("good").port, 80);
        for wrong in ["ftp://a", "127.0.0.1:8080", "/", "", "https:///x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let credentials = Credentials::new(Some("tidemill_secret"), None).expect("good");
        let endpoint = Endpoint::parse("http://127.0.0.1:1", &credentials).expect("good");
        assert!(!format!("{credentials:?} {endpoint:?}").contains("secret"));
        let error = Credentials::new(Some("se\ncret"), None).expect_err("refused");
        assert!(!error.contains("cret"), "{error}");
    }
}
