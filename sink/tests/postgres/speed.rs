//! Rows per second into a table, beside `\copy` of the same rows by `psql` into the same table.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use event::FieldType;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::DatabaseOptions;

use super::world::{World, caught_up, field, int, shared_url, stream};

const SEED: u64 = 20_261_123;

/// A figure and no check, since other tests may run beside it: with `TIDEMILL_SOAK=1`, alone.
#[tokio::test(flavor = "multi_thread")]
async fn rows_a_second_beside_copy_by_psql() {
    if std::env::var_os("TIDEMILL_SOAK").is_none() {
        return;
    }
    let Some(url) = shared_url("rows_a_second_beside_copy_by_psql") else {
        return;
    };
    let world = World::new(&url).await;
    let stream = stream(
        "speed",
        vec![
            field("user_id", FieldType::Uuid),
            field("duration", int()),
            field("distance", int()),
            field("timestamp", FieldType::Timestamp { unit: None }),
        ],
    );
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let rows = 1_000_000;
    for part in 0..20 {
        let lines: Vec<String> = (0..rows / 20)
            .map(|number| {
                let (user, duration) = (random.random_range(0..100_000_u64), random.random_range(60..9_000));
                let mut line = String::new();
                let _ = write!(
                    line,
                    r#"{{"user_id":"6c5490e6-d701-748f-0851-{user:012x}","duration":{duration},"distance":{},"timestamp":"2026-01-{:02}T{:02}:00:{:02}.{:03}Z"}}"#,
                    duration * 3,
                    1 + part,
                    number % 24,
                    number % 60,
                    number % 1_000,
                );
                line
            })
            .collect();
        world.append(&stream, &lines).await;
    }
    let file = world.path().join("rows.tsv");
    for round in 0..3 {
        let begun = Instant::now();
        let sink = world.start(std::slice::from_ref(&stream), DatabaseOptions::default());
        caught_up(&sink.progress()).await;
        let sink_seconds = begun.elapsed().as_secs_f64();
        sink.shutdown().await;
        assert_eq!(world.count("speed").await, rows);
        if round == 0 {
            psql(&world, &format!("\\copy speed TO '{}'", file.display()));
        }
        let empty = "TRUNCATE speed; DELETE FROM tidemill_positions; CHECKPOINT";
        world.admin.batch_execute(empty).await.expect("emptied");
        let begun = Instant::now();
        psql(&world, &format!("\\copy speed FROM '{}'", file.display()));
        let copy_seconds = begun.elapsed().as_secs_f64();
        assert_eq!(world.count("speed").await, rows);
        world.admin.batch_execute(empty).await.expect("emptied");
        println!(
            "{rows} rows: sink {sink_seconds:.2} s, \\copy {copy_seconds:.2} s, ratio {:.2}",
            copy_seconds / sink_seconds
        );
    }
    world.drop_schema().await;
}

fn psql(world: &World, command: &str) {
    let status = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", command, &world.url])
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("psql runs").success());
}
