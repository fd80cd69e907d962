//! Where a lake lies, as people write it, and what is needed to get there.
//!
//! Nothing here shows a secret: not in `Debug`, not in an error. A URL is only shown when it has no user part.

use std::fmt;
use std::path::PathBuf;

use url::Url;

/// A directory of this machine (or one that several machines share), or a part of an S3 bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    Directory(PathBuf),
    /// A bucket of S3 or of a store that speaks as it does.
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// What the names of all objects begin with, without `/` at either end; may be empty.
        prefix: String,
    },
}

/// Why a text names no place for a lake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It begins with a scheme that is not known. The rest is not shown, because it may carry credentials.
    #[error("`{scheme}://` is no place for a lake: write a directory, `file:///…` or `s3://bucket/prefix`")]
    Scheme {
        /// What it begins with.
        scheme: String,
    },
    /// A `file://` URL without an absolute path.
    #[error("a `file://` URL needs an absolute path, as `file:///var/lake`")]
    Relative,
    /// An `s3://` URL that is more, or less, than bucket and prefix.
    #[error("an `s3://` URL is `s3://bucket` or `s3://bucket/prefix`: {reason}")]
    Bucket {
        /// What is wrong.
        reason: &'static str,
    },
}

impl Location {
    /// Reads `s3://bucket/prefix`, `file:///directory` or the path of a directory.
    ///
    /// # Errors
    /// [`LocationError`]; it never shows credentials.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        match text.split_once("://") {
            None => Ok(Self::Directory(PathBuf::from(text))),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Directory(PathBuf::from(path))),
            Some(("file", _)) => Err(LocationError::Relative),
            Some(("s3" | "s3a", _)) => Self::parse_bucket(text),
            Some((scheme, _)) => Err(LocationError::Scheme {
                scheme: scheme.to_owned(),
            }),
        }
    }

    fn parse_bucket(text: &str) -> Result<Self, LocationError> {
        let wrong = |reason| LocationError::Bucket { reason };
        let url = Url::parse(text).map_err(|_| wrong("it cannot be read"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("credentials come from the environment, not from the URL"));
        }
        if url.port().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("port, query and fragment have no meaning"));
        }
        let bucket = url.host_str().unwrap_or_default();
        if bucket.is_empty() {
            return Err(wrong("the bucket is missing"));
        }
        let prefix = url.path().trim_matches('/');
        let plain = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed)
        };
        if !prefix.is_empty() && !prefix.split('/').all(plain) {
            return Err(wrong(
                "a prefix has letters, digits, `-`, `_`, `.`, `=` and single `/`",
            ));
        }
        Ok(Self::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::Directory(path)
    }
}

impl From<&std::path::Path> for Location {
    fn from(path: &std::path::Path) -> Self {
        Self::Directory(path.to_owned())
    }
}

/// How a bucket is reached: names and values as the `AWS_…` environment variables have them.
///
/// | name | meaning |
/// |---|---|
/// | `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT`, else `S3_ENDPOINT` | the server; Amazon's own when absent |
/// | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | credentials; those of the machine or its web identity when absent |
/// | `AWS_REGION`, `AWS_DEFAULT_REGION` | the region; `us-east-1` when absent |
/// | `AWS_ALLOW_HTTP` | taken as `true` when the endpoint begins with `http://` |
///
/// Anything else that object_store reads from the environment works too. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreSettings {
    values: Vec<(String, String)>,
}

impl StoreSettings {
    /// Takes what is for an object store of names and values, such as those of `std::env::vars()`.
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| name.starts_with("AWS_") || name == "S3_ENDPOINT";
        let values = values.into_iter().filter(|(name, _)| ours(name));
        Self {
            values: values.collect(),
        }
    }

    /// The process's environment. For whoever reads the configuration; the lake itself never looks there.
    #[must_use]
    pub fn of_environment() -> Self {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        Self::new(std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn get(&self, wanted: &str) -> Option<&str> {
        let mut found = self
            .iter()
            .filter(|(name, value)| *name == wanted && !value.is_empty());
        found.next().map(|(_, value)| value)
    }
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_buckets_are_told_apart() {
        let bucket = |bucket: &str, prefix: &str| Location::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        assert_eq!(
            Location::parse("data/lake"),
            Ok(Location::Directory("data/lake".into()))
        );
        assert_eq!(
            Location::parse("file:///lake"),
            Ok(Location::Directory("/lake".into()))
        );
        assert_eq!(Location::parse("s3://events"), Ok(bucket("events", "")));
        assert_eq!(Location::parse("s3://events/a/b/"), Ok(bucket("events", "a/b")));
        assert_eq!(Location::parse("file://lake"), Err(LocationError::Relative));
        for wrong in [
            "s3://",
            "s3:///x",
            "s3://b/a//b",
            "s3://b/ä",
            "s3://b:1/x",
            "s3://b/x?y=1",
            "s3://b/%20",
        ] {
            assert!(
                matches!(Location::parse(wrong), Err(LocationError::Bucket { .. })),
                "{wrong}"
            );
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let refused = Location::parse("s3://key:hush@bucket/x").expect_err("credentials in a URL");
        assert!(!refused.to_string().contains("hush"));
        let refused = Location::parse("gs://key:hush@bucket/x").expect_err("another scheme");
        assert!(!refused.to_string().contains("hush"));
        let settings = StoreSettings::new([("AWS_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned())]);
        assert_eq!(format!("{settings:?}"), "[\"AWS_SECRET_ACCESS_KEY\"]");
    }
}
