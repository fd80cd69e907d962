//! A store whose errors are short and show no secrets.
//!
//! What a server answers to a request that it refuses can contain the key's id and what was signed; and everything
//! that fails here ends in a log. So of such an answer only its code and its message are kept, and `Debug` names the
//! bucket alone.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A store, and the secrets that its errors must not show.
pub(super) struct Quiet<S> {
    inner: S,
    name: String,
    secrets: Secrets,
}

/// Texts that are never shown.
#[derive(Clone)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        Self(secrets.map(str::to_owned).collect())
    }

    /// What an error says, shortened.
    pub(super) fn brief(&self, error: &dyn fmt::Display) -> String {
        let text = error.to_string();
        let mut brief = match text.find('<') {
            Some(begin) => {
                let (said, answer) = text.split_at(begin);
                let parts = ["Code", "Message"].map(|name| element(answer, name));
                let parts: Vec<_> = parts.into_iter().flatten().collect();
                format!(
                    "{}{}",
                    said.trim_end(),
                    parts.iter().map(|part| format!(" {part}")).collect::<String>()
                )
            }
            None => text,
        };
        for secret in &self.0 {
            brief = brief.replace(secret.as_str(), "…");
        }
        brief
    }

    pub(super) fn hide(&self, error: Error) -> Error {
        let brief = |source: &dyn fmt::Display| -> Box<dyn std::error::Error + Send + Sync> {
            Box::from(self.brief(source))
        };
        match error {
            Error::Generic { store, source } => Error::Generic {
                store,
                source: brief(&source),
            },
            Error::NotFound { path, source } => Error::NotFound {
                path,
                source: brief(&source),
            },
            Error::AlreadyExists { path, source } => Error::AlreadyExists {
                path,
                source: brief(&source),
            },
            Error::Precondition { path, source } => Error::Precondition {
                path,
                source: brief(&source),
            },
            Error::PermissionDenied { path, source } => Error::PermissionDenied {
                path,
                source: brief(&source),
            },
            Error::Unauthenticated { path, source } => Error::Unauthenticated {
                path,
                source: brief(&source),
            },
            other => other,
        }
    }
}

/// What is between `<name>` and `</name>`.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (found, _) = rest.split_once('<')?;
    Some(found)
}

impl<S> Quiet<S> {
    pub(super) fn new(inner: S, name: String, secrets: Secrets) -> Self {
        Self { inner, name, secrets }
    }
}

impl<S> fmt::Debug for Quiet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl<S> fmt::Display for Quiet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Quiet<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let done = self.inner.put_opts(location, payload, opts).await;
        done.map_err(|error| self.secrets.hide(error))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begun = self.inner.put_multipart_opts(location, opts).await;
        begun.map_err(|error| self.secrets.hide(error))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.inner.get_opts(location, options).await;
        found.map_err(|error| self.secrets.hide(error))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let found = self.inner.get_ranges(location, ranges).await;
        found.map_err(|error| self.secrets.hide(error))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.quietly(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.quietly(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.quietly(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await;
        listed.map_err(|error| self.secrets.hide(error))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let done = self.inner.copy_opts(from, to, options).await;
        done.map_err(|error| self.secrets.hide(error))
    }
}

impl<S> Quiet<S> {
    fn quietly<T: Send + 'static>(
        &self,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let secrets = self.secrets.clone();
        stream
            .map(move |one| one.map_err(|error| secrets.hide(error)))
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_only_code_and_message_are_kept_and_never_a_secret() {
        let secrets = Secrets::new(["AKID", "hush", ""]);
        let answer = "403 Forbidden: <?xml?><Error><Code>SignatureDoesNotMatch</Code><Message>no AKID</Message>\
            <StringToSign>AWS4 hush</StringToSign></Error>";
        assert_eq!(
            secrets.brief(&answer),
            "403 Forbidden: SignatureDoesNotMatch no …"
        );
        assert_eq!(secrets.brief(&"connect to hush"), "connect to …");
        let hidden = secrets.hide(Error::PermissionDenied {
            path: "a".to_owned(),
            source: answer.into(),
        });
        assert!(matches!(hidden, Error::PermissionDenied { .. }));
        assert!(!format!("{hidden} {hidden:?}").contains("hush"));
    }
}
