//! TLS to the server, by the `sslmode` of its URL, in the words of libpq:
//!
//! | `sslmode` | |
//! |---|---|
//! | `disable` | plain |
//! | `prefer`, the default | TLS when the server offers it, any certificate: against who listens, not against who stands in between |
//! | `require`, `verify-full` | TLS, and a certificate for the host's name that one of Mozilla's roots has signed, or one of the PEM file `sslrootcert` |

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::SourceError;

/// What the server's certificate must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Any,
    WebRoots,
    File(PathBuf),
}

/// Takes what libpq says and the client does not know out of a URL.
pub(super) fn split(url: &str) -> Result<(String, SslMode, Trust), String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must begin with `postgres://`".to_owned());
    }
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut kept, mut mode, mut root) = (Vec::new(), None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", word)) => {
                mode = Some(match word {
                    "disable" => SslMode::Disable,
                    "prefer" => SslMode::Prefer,
                    "require" | "verify-full" => SslMode::Require,
                    _ => {
                        return Err(
                            "`sslmode` is none of `disable`, `prefer`, `require`, `verify-full`".to_owned(),
                        );
                    }
                });
            }
            Some(("sslrootcert", path)) => {
                let decoded = url::form_urlencoded::parse(path.as_bytes()).next();
                root = decoded.map(|(path, _)| PathBuf::from(path.as_ref()));
            }
            _ => kept.push(pair),
        }
    }
    let mode = mode.unwrap_or(if root.is_some() {
        SslMode::Require
    } else {
        SslMode::Prefer
    });
    let trust = match (mode, root) {
        (SslMode::Require, Some(path)) => Trust::File(path),
        (SslMode::Require, None) => Trust::WebRoots,
        (_, Some(_)) => {
            return Err("`sslrootcert` needs `sslmode=require` or `sslmode=verify-full`".to_owned());
        }
        (_, None) => Trust::Any,
    };
    let url = if kept.is_empty() {
        place.to_owned()
    } else {
        format!("{place}?{}", kept.join("&"))
    };
    Ok((url, mode, trust))
}

/// What makes TLS of a connection.
pub(super) fn connector(trust: &Trust) -> Result<MakeRustlsConnect, SourceError> {
    let failed = |message: String| SourceError::Away {
        operation: "read the certificates that the server's must be signed by",
        message,
    };
    let provider = Arc::new(ring::default_provider());
    let versions = || {
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))
    };
    let config = match trust {
        Trust::Any => versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(&provider))))
            .with_no_client_auth(),
        Trust::WebRoots => {
            // An error means that the process has chosen its provider already, which is as good.
            let _ = ring::default_provider().install_default();
            return Ok(MakeRustlsConnect::with_webpki_roots());
        }
        Trust::File(path) => {
            let told = |error: &dyn std::fmt::Display| failed(format!("`{}`: {error}", path.display()));
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| told(&error))? {
                let certificate = certificate.map_err(|error| told(&error))?;
                roots.add(certificate).map_err(|error| told(&error))?;
            }
            if roots.is_empty() {
                return Err(told(&"it has no certificate"));
            }
            versions()?.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Takes any certificate, as `sslmode=prefer` means. That the server has its key is still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
