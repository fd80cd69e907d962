//! One table that several processes write to: in a directory that they share, and in a bucket.
//!
//! The bucket is one of a real S3 server, which `S3_ENDPOINT`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` name
//! (`cargo xtask services up`). Each test makes a bucket of its own there, and removes it.

mod bucket;
#[path = "../tables/fixture.rs"]
#[allow(dead_code, reason = "the other tests of tables use the rest")]
mod fixture;
mod place;
mod proxy;
#[path = "../tables/python.rs"]
#[allow(dead_code, reason = "the other tests of tables use the rest")]
mod python;
mod race;
mod s3;
mod zombie;
