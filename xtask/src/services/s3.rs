//! An S3 server: the Versity gateway over a directory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::home::{Home, make_directory, write_private};
use super::install;
use super::process::output;
use super::server::{Launch, Server};

/// What clients sign for; the gateway's default.
const REGION: &str = "us-east-1";

/// There from the start, for who wants one at once. Tests make their own.
const BUCKET: &str = "tidemill";

pub(super) struct S3;

impl Server for S3 {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn secrets(&self) -> &'static [&'static str] {
        &["access", "secret"]
    }

    fn prepare(&self, home: &Home) -> Result<(), String> {
        make_directory(&Path::new(&home.data()).join("buckets"), 0o700)
    }

    fn launch(&self, home: &Home) -> Result<Launch, String> {
        Ok(Launch::of(install::versity_gateway()?)
            .with(["--quiet".to_owned(), "--port".to_owned(), home.address("port")])
            .with(["--region", REGION])
            .with(["posix".to_owned(), format!("{}/buckets", home.data())])
            .variable("ROOT_ACCESS_KEY", home.value("access"))
            .variable("ROOT_SECRET_KEY", home.value("secret")))
    }

    fn answers(&self, home: &Home) -> Result<(), String> {
        request(home, "GET", "").map(|_| ())
    }

    fn settle(&self, home: &Home) -> Result<(), String> {
        let buckets = request(home, "GET", "")?;
        if !buckets.contains(&format!("<Name>{BUCKET}</Name>")) {
            request(home, "PUT", BUCKET)?;
        }
        Ok(())
    }

    /// The image has no program that could ask whether it is healthy.
    fn settle_container(&self, home: &Home) -> Result<(), String> {
        let begun = Instant::now();
        while let Err(error) = self.answers(home) {
            if begun.elapsed() > self.patience() {
                return Err(format!("s3: {error}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.settle(home)
    }

    fn variables(&self, home: &Home) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("S3_ENDPOINT", format!("http://{}", home.address("port"))),
            ("S3_BUCKET", BUCKET.to_owned()),
            ("AWS_ACCESS_KEY_ID", home.value("access").to_owned()),
            ("AWS_SECRET_ACCESS_KEY", home.value("secret").to_owned()),
            ("AWS_REGION", REGION.to_owned()),
        ];
        if let Ok(program) = install::versity_gateway() {
            variables.push(("VERSITYGW", program.display().to_string()));
        }
        variables
    }
}

/// A signed request by `curl`, which reads the keys from a file and not from its arguments.
fn request(home: &Home, method: &str, path: &str) -> Result<String, String> {
    let keys = home.directory().join("curl");
    let user = format!("user = \"{}:{}\"\n", home.value("access"), home.value("secret"));
    write_private(&keys, &user)?;
    output(
        Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "2"])
            .args(["--noproxy", "*", "--request", method, "--config"])
            .arg(&keys)
            .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
            .args(["--aws-sigv4", &format!("aws:amz:{REGION}:s3")])
            .arg(format!("http://{}/{path}", home.address("port")))
            .stdin(Stdio::null()),
    )
}
