//! Values that are used and never shown.

use std::collections::BTreeMap;
use std::fmt;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl Secret {
    /// The text, for whom it is meant.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Properties of librdkafka by its own names. Passwords, keys and tokens among them are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(pub BTreeMap<String, String>);

impl Properties {
    /// Names and values; no value where it is a secret.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_str(), (!is_secret(name)).then_some(value.as_str())))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

/// Whether a property's name says that it is a secret, or holds one.
fn is_secret(name: &str) -> bool {
    let words = [
        "password",
        "secret",
        "key.pem",
        "token",
        "jaas",
        "oauthbearer.config",
    ];
    words.iter().any(|word| name.contains(word))
}
