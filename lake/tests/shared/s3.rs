//! A bucket of a real S3 server, which `S3_ENDPOINT`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` name.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ObjectStore, ObjectStoreExt};

/// A bucket of a real server.
pub(crate) struct Bucket {
    pub(crate) name: String,
    /// How it is reached; a test may go another way.
    pub(crate) settings: HashMap<String, String>,
    admin: AmazonS3,
}

/// A variable that says how the server is reached; `None`, loudly, when the test is to be skipped.
fn variable(name: &str) -> Option<String> {
    let found = std::env::var_os(name).and_then(|value| value.into_string().ok());
    if found.is_none() {
        let required = std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_some_and(|value| value == "1");
        assert!(!required, "`{name}` is missing (cargo xtask services up)");
        println!("SKIPPED: needs {name} (cargo xtask services up)");
    }
    found
}

impl Bucket {
    /// A new bucket; `None` without a server.
    pub(crate) async fn create() -> Option<Self> {
        let endpoint = variable("S3_ENDPOINT")?;
        let key = variable("AWS_ACCESS_KEY_ID")?;
        let secret = variable("AWS_SECRET_ACCESS_KEY")?;
        let name = format!("lake-{}", uuid::Uuid::new_v4().simple());
        let settings = [
            ("S3_ENDPOINT", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", &key),
            ("AWS_SECRET_ACCESS_KEY", &secret),
        ];
        let admin = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_access_key_id(&key)
            .with_secret_access_key(&secret)
            .with_bucket_name(&name)
            .build()
            .expect("a client");
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let bucket = Self {
            name,
            settings: settings.into(),
            admin,
        };
        bucket.ask(Method::PUT).await;
        Some(bucket)
    }

    async fn ask(&self, method: Method) {
        let (bucket, minute) = (Path::ROOT, Duration::from_secs(60));
        let signed = self.admin.signed_url(method.clone(), &bucket, minute).await;
        let url = signed.expect("signed");
        let host = format!(
            "{}:{}",
            url.host_str().expect("a host"),
            url.port_or_known_default().expect("a port")
        );
        let mut connection = TcpStream::connect(&host).expect("the server answers");
        let path = &url[url::Position::BeforePath..];
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer");
        assert!(
            answer.starts_with("HTTP/1.1 2"),
            "{method} of bucket `{}`: {answer}",
            self.name
        );
    }

    /// Removes it, with all that is in it.
    pub(crate) async fn remove(self) {
        let all = self.admin.list(None).map_ok(|object| object.location).boxed();
        let removed: Vec<_> = self.admin.delete_stream(all).collect().await;
        drop(removed);
        self.ask(Method::DELETE).await;
    }

    /// What the log's entries and everything else are called.
    pub(crate) async fn names(&self) -> Vec<String> {
        let all: Vec<_> = self.admin.list(None).try_collect().await.expect("listed");
        all.into_iter()
            .map(|object| object.location.to_string())
            .collect()
    }

    /// Removes an object.
    pub(crate) async fn take(&self, name: &str) {
        self.admin.delete(&Path::from(name)).await.expect("removed");
    }
}
