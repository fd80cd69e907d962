//! What only a bucket can do wrong, and what other readers find in one.

use std::path::Path as FilePath;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use event::{Offset, Partition};
use lake::{
    Advance, CompactOptions, Fault as Blame, Lake, LakeError, LakeOptions, Location, StoreSettings,
    WriterOptions,
};
use parquet::arrow::ArrowWriter;

use crate::fixture::{append, compact, declaration, record, rows_below, rows_of, write};
use crate::place::{Place, Reader, assert_whole};
use crate::proxy::{Fate, Proxy, Request};
use crate::s3::Bucket;

fn is_commit(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("/_delta_log/0") && request.path.ends_with(".json")
}

/// Another way to the same bucket.
fn through(place: &Place, endpoint: &str) -> LakeOptions {
    let Place::Bucket(bucket) = place else {
        panic!("it is a bucket");
    };
    let mut settings = bucket.settings.clone();
    settings.insert("S3_ENDPOINT".to_owned(), endpoint.to_owned());
    LakeOptions {
        store: StoreSettings::new(settings),
        ..place.options()
    }
}

fn endpoint(place: &Place) -> String {
    let Place::Bucket(bucket) = place else {
        panic!("it is a bucket");
    };
    bucket.settings["S3_ENDPOINT"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_made_once() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let place = Place::Bucket(bucket);
    // Every second commit is made, and its connection cut before the answer.
    let commits = Arc::new(AtomicUsize::new(0));
    let lost = Arc::clone(&commits);
    let decide = move |request: &Request| {
        let lose = is_commit(request) && lost.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        if lose { Fate::LoseAnswer } else { Fate::Pass }
    };
    let proxy = Proxy::start(&endpoint(&place), decide).await;
    let open = || async {
        let lake = Lake::open(through(&place, &proxy.endpoint)).await.expect("opens");
        lake.table(Arc::new(declaration())).await.expect("opens")
    };
    let (first, second) = (open().await, open().await);
    for offset in 0..6 {
        append(&first, 0, offset, offset + 1).await.expect("appended");
        append(&second, 1, offset, offset + 1).await.expect("appended");
    }
    compact(&first).await.expect("compacted");
    let snapshot = place.follow().await.snapshot().await.expect("a snapshot");
    let events = Reader::default().events(&snapshot).await.expect("whole");
    assert_whole(&events, &[(0, 6), (1, 6)]);
    assert!(commits.load(Ordering::Relaxed) >= 13, "no answer was lost");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_put_again_by_the_client_and_finds_itself_is_made_once() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let place = Place::Bucket(bucket);
    // The server makes it, and says that it could not: the client puts it again.
    let (upstream, puts) = (endpoint(&place), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&puts);
    let decide = move |request: &Request| {
        if is_commit(request) && counted.fetch_add(1, Ordering::Relaxed) % 2 == 0 {
            return Fate::Answered(
                "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
        Fate::Pass
    };
    let proxy = Proxy::start(&upstream, decide).await;
    let lake = Lake::open(through(&place, &proxy.endpoint)).await.expect("opens");
    let table = lake.table(Arc::new(declaration())).await.expect("opens");
    for offset in 0..4 {
        let after = append(&table, 0, offset, offset + 1).await.expect("appended");
        assert_eq!(after.end_index(), rows_below(offset + 1));
    }
    assert!(puts.load(Ordering::Relaxed) >= 8, "nothing was put again");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_or_cannot_is_told_so_without_secrets() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let place = Place::Bucket(bucket);
    let secret = "a-secret-that-nobody-may-see-anywhere";
    let mut denied = through(&place, &endpoint(&place));
    let settings = [
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_ACCESS_KEY_ID", "AKIDAKIDAKID"),
        ("S3_ENDPOINT", &endpoint(&place)),
    ];
    denied.store = StoreSettings::new(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for read_only in [false, true] {
        let options = LakeOptions {
            read_only,
            ..denied.clone()
        };
        assert!(!format!("{options:?}").contains(secret));
        let error = Lake::open(options).await.expect_err("it is denied");
        assert!(matches!(error, LakeError::Refused { .. }), "{error}");
        assert_eq!(error.fault(), Blame::Fatal);
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains(secret) && !shown.contains("AKIDAKIDAKID"),
            "{shown}"
        );
        println!("{error}");

        let absent = LakeOptions {
            root: Location::parse("s3://there-is-no-such-bucket/x").expect("a location"),
            read_only,
            ..place.options()
        };
        let error = Lake::open(absent).await.expect_err("it is not there");
        assert!(matches!(error, LakeError::Refused { .. }), "{error}");
        println!("{error}");
    }
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_an_outage_in_bounded_time_and_nothing_is_lost() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let place = Place::Bucket(bucket);
    let proxy = Proxy::start(&endpoint(&place), |_: &Request| Fate::Pass).await;
    let lake = Lake::open(through(&place, &proxy.endpoint)).await.expect("opens");
    let table = lake.table(Arc::new(declaration())).await.expect("opens");
    append(&table, 0, 0, 2).await.expect("appended");
    let away = through(&place, &proxy.endpoint);
    drop(proxy);
    let begun = Instant::now();
    let error = LakeError::from(append(&table, 0, 2, 3).await.expect_err("it is away"));
    assert_eq!(error.fault(), Blame::Outage, "{error}");
    let error = Lake::open(away).await.expect_err("it is away");
    assert_eq!(error.fault(), Blame::Outage, "{error}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(120), "{took:?}");
    println!("{error}, after {took:?} for both");
    // It comes back.
    let table = place.open().await.expect("opens");
    append(&table, 0, 2, 3).await.expect("appended");
    assert_eq!(
        table.snapshot().await.expect("a snapshot").end_index(),
        rows_below(3)
    );
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused() {
    let decide = |request: &Request| match request.method.as_str() {
        "PUT" => {
            Fate::Answer("HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        _ => Fate::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    };
    let proxy = Proxy::start("http://127.0.0.1:1", decide).await;
    let settings = [
        ("S3_ENDPOINT", proxy.endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let options = LakeOptions {
        store: StoreSettings::new(settings.map(|(name, value)| (name.to_owned(), value.to_owned()))),
        ..LakeOptions::new(
            Location::parse("s3://bucket/lake").expect("a location"),
            "journal",
        )
    };
    let error = Lake::open(options)
        .await
        .expect_err("writers would replace each other's commits");
    assert!(matches!(error, LakeError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("If-None-Match"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_in_parts_and_nothing_stays_of_those_that_are_given_up() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let place = Place::Bucket(bucket);
    let table = place.open().await.expect("opens");
    let stream = declaration();
    let rows = 20_000;
    // One row group after the other is uploaded while the next one is encoded.
    let options = WriterOptions {
        row_group_rows: 40_000,
        lz4: true,
    };
    let mut given_up = table.writer(&options).expect("a writer");
    let mut writer = table.writer(&options).expect("a writer");
    for offset in 0..24 {
        let record = record(&stream, 0, offset, rows);
        writer.write(&record).expect("written");
        if offset < 12 {
            given_up.write(&record).expect("written");
        }
    }
    drop(given_up);
    let file = writer.finish().expect("finished");
    assert!(file.bytes > 17 << 20, "{} bytes are no three parts", file.bytes);
    let advance = Advance {
        partition: Partition(0),
        from: Offset(0),
        to: Offset(24),
    };
    let after = table.commit(vec![file], &[advance]).await.expect("committed");
    assert_eq!(after.end_index(), 24 * rows as u64);
    assert_eq!(
        table.verify().await.expect("verified").problems,
        Vec::<String>::new()
    );
    let Place::Bucket(bucket) = &place else {
        panic!("it is a bucket");
    };
    let names = bucket.names().await;
    let files = names.iter().filter(|name| name.ends_with(".parquet")).count();
    assert_eq!(files, 1, "{names:?}");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_finds_what_is_missing_in_a_bucket() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let place = Place::Bucket(bucket);
    let table = place.open().await.expect("opens");
    append(&table, 0, 0, 2).await.expect("appended");
    append(&table, 0, 2, 4).await.expect("appended");
    let snapshot = table.snapshot().await.expect("a snapshot");
    let Place::Bucket(bucket) = &place else {
        panic!("it is a bucket");
    };
    bucket
        .take(&format!("some/lake/every/{}", snapshot.files[0].path))
        .await;
    let problems = table.verify().await.expect("verified").problems;
    assert!(
        problems.len() == 1 && problems[0].contains("is not readable"),
        "{problems:?}"
    );
    place.remove().await;
}

/// Python's readers, which the other tests of tables install.
#[tokio::test(flavor = "multi_thread")]
async fn other_readers_find_the_same_rows_in_a_bucket() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let place = Place::Bucket(bucket);
    let (first, second) = (
        place.open().await.expect("opens"),
        place.open().await.expect("opens"),
    );
    let stream = declaration();
    let mut records = Vec::new();
    for offset in 0..30 {
        for (partition, table) in [(0, &first), (1, &second)] {
            append(table, partition, offset, offset + 1)
                .await
                .expect("appended");
            records.push(record(&stream, partition, offset, rows_of(offset)));
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let expected = directory.path().join("expected.parquet");
    write_expected(&expected, &records);
    compare(&place, &expected);
    compact(&first).await.expect("compacted");
    first.vacuum().await.expect("vacuumed");
    compare(&place, &expected);
    place.remove().await;
}

fn write_expected(path: &FilePath, records: &[RecordBatch]) {
    let file = std::fs::File::create(path).expect("creatable");
    let mut writer = ArrowWriter::try_new(file, records[0].schema(), None).expect("a writer");
    for rows in records {
        writer.write(rows).expect("writable");
    }
    writer.close().expect("closed");
}

fn compare(place: &Place, expected: &FilePath) {
    let Place::Bucket(bucket) = place else {
        panic!("it is a bucket");
    };
    let script = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables/readers.py");
    let mut command = Command::new(crate::python::python());
    command
        .arg(script)
        .arg(format!("s3://{}/some/lake/every", bucket.name))
        .arg(expected)
        .env("AWS_ENDPOINT_URL", &bucket.settings["S3_ENDPOINT"])
        .env("AWS_ACCESS_KEY_ID", &bucket.settings["AWS_ACCESS_KEY_ID"])
        .env("AWS_SECRET_ACCESS_KEY", &bucket.settings["AWS_SECRET_ACCESS_KEY"])
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ALLOW_HTTP", "true");
    let status = command.status().expect("the command starts");
    assert!(status.success(), "{command:?} ended with {status}");
}

/// What a commit, following and opening cost. `cargo test --release --workspace --test shared speed -- --ignored
/// --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn speed_of_a_table_with_two_thousand_commits() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    for place in [Place::directory(), Place::Bucket(bucket)] {
        let table = place.open().await.expect("opens");
        let follower = place.follow().await;
        let (mut commits, mut refreshes, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
        for offset in 0..2_000 {
            let file = write(&table, 0, offset, offset + 1).expect("written");
            let advance = Advance {
                partition: Partition(0),
                from: Offset(offset),
                to: Offset(offset + 1),
            };
            let begun = Instant::now();
            table.commit(vec![file], &[advance]).await.expect("committed");
            commits.push(begun.elapsed());
            if offset % 10 == 0 {
                let begun = Instant::now();
                follower.snapshot().await.expect("a snapshot");
                refreshes.push(begun.elapsed());
                let begun = Instant::now();
                follower.snapshot().await.expect("a snapshot");
                unchanged.push(begun.elapsed());
            }
            if offset % 60 == 59 {
                // As maintenance does every minute.
                let none = CompactOptions {
                    small_bytes: 0,
                    target_bytes: 0,
                };
                table
                    .compact(&none, &WriterOptions::default())
                    .await
                    .expect("a checkpoint");
            }
        }
        let begun = Instant::now();
        let opened = place.open().await.expect("opens");
        println!("opened in {:?}", begun.elapsed());
        assert_eq!(opened.snapshot().await.expect("a snapshot").files.len(), 2_000);
        let begun = Instant::now();
        place.follow().await.snapshot().await.expect("a snapshot");
        println!("opened for reading in {:?}", begun.elapsed());
        for (what, mut times) in [
            ("commit", commits),
            ("refresh of 10", refreshes),
            ("unchanged", unchanged),
        ] {
            times.sort();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            println!("  {what}: p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100));
        }
        place.remove().await;
    }
}
