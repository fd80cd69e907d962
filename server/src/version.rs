//! Which Tidemill this is.

/// The version, as `tidemill --version` and `GET /version` say it.
pub const TEXT: &str = env!("CARGO_PKG_VERSION");
