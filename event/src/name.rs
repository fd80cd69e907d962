//! Names of streams and fields.
//!
//! A name from outside becomes a folder, a table and a column, so it is refused unless it is harmless as all
//! of them; it is never cleaned up, because two names must not become one.

use std::fmt;
use std::sync::Arc;

use crate::limits::NAME_BYTES_MAX;

/// Says why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name `{name}` is not allowed: it must match ^[a-z][a-z0-9_]{{0,63}}$")]
pub struct NameError {
    /// The name as it was given, cut after 100 characters.
    pub name: String,
}

/// The name of a stream: `^[a-z][a-z0-9_]{0,63}$`, or a built-in one, which begins with `_`.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Takes a name from outside.
    ///
    /// # Errors
    /// [`NameError`] (input) unless it matches the pattern.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check_name(name)?;
        Ok(Self(name.into()))
    }

    /// Takes a name from one of our own files: one that matches the pattern, or a built-in stream's.
    ///
    /// # Errors
    /// [`NameError`] for any other name.
    pub fn parse_stored(name: &str) -> Result<Self, NameError> {
        if name == REJECTS {
            Ok(Self::rejects())
        } else {
            Self::parse(name)
        }
    }

    /// The built-in stream of rejected lines, `_rejects`.
    #[must_use]
    pub fn rejects() -> Self {
        Self(REJECTS.into())
    }

    /// Whether this is a built-in stream, to which nobody can post.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.0.starts_with('_')
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

const REJECTS: &str = "_rejects";

/// Checks the name of a stream or field against `^[a-z][a-z0-9_]{0,63}$`.
///
/// # Errors
/// [`NameError`] when it does not match.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let bytes = name.as_bytes();
    let fits = bytes.len() <= NAME_BYTES_MAX
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_');
    if fits {
        Ok(())
    } else {
        Err(NameError {
            name: name.chars().take(100).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_refused_rather_than_cleaned_up() {
        for name in [
            "",
            "_rejects",
            "A",
            "1a",
            "a-b",
            "a b",
            "../x",
            "a/b",
            "é",
            "a\0",
            &"a".repeat(65),
        ] {
            assert!(StreamName::parse(name).is_err(), "{name:?}");
        }
        for name in ["a", "running", "a1_b", &"a".repeat(64)] {
            assert_eq!(StreamName::parse(name).expect("allowed").as_str(), name);
        }
    }
}
