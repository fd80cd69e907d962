//! Rows per second into a table, beside `LOAD DATA` of the same rows by the server's own client into an equal table.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use mysql_async::Opts;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::{DatabaseOptions, LoadData};

use crate::world::{World, mysql_url, soak, stream, until_caught_up};

const SEED: u64 = 20_261_124;
const ROWS: u64 = 1_000_000;

/// A figure and no check, since other tests may run beside it: with `TIDEMILL_SOAK=1`, alone.
#[tokio::test(flavor = "multi_thread")]
async fn rows_a_second_beside_load_data_by_the_client() {
    if !soak() {
        return;
    }
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let stream = stream(
        "[speed]\n[speed.fields]\nuser_id = \"uuid\"\nduration = \"int\"\ndistance = \"int\"\ntimestamp = \"timestamp\"\n",
    );
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    for part in 0..100 {
        let mut lines = String::new();
        for number in 0..ROWS / 100 {
            let (user, duration) = (
                random.random_range(0..100_000_u64),
                random.random_range(60..9_000),
            );
            writeln!(
                lines,
                r#"{{"user_id":"6c5490e6-d701-748f-0851-{user:012x}","duration":{duration},"distance":{},"timestamp":"2026-01-{:02}T{:02}:00:{:02}.{:03}Z"}}"#,
                duration * 3,
                1 + part % 28,
                number % 24,
                number % 60,
                number % 1_000,
            )
            .expect("writes");
        }
        world.append(&stream, &lines).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rows.tsv");
    for round in 0..3 {
        let seconds = async |load_data| {
            let begun = Instant::now();
            let sink = world.sink_by(&[Arc::clone(&stream)], DatabaseOptions::default(), load_data);
            until_caught_up(&sink).await;
            let seconds = begun.elapsed().as_secs_f64();
            sink.shutdown().await;
            assert_eq!(world.number("SELECT COUNT(*) FROM speed").await, ROWS as i64);
            seconds
        };
        let by_load = seconds(LoadData::Auto).await;
        if round == 0 {
            let rows = client(&world, "SELECT * FROM speed");
            std::fs::write(&file, rows).expect("writes");
        }
        empty(&world).await;
        let begun = Instant::now();
        client(
            &world,
            &format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE speed", file.display()),
        );
        let by_client = begun.elapsed().as_secs_f64();
        assert_eq!(world.number("SELECT COUNT(*) FROM speed").await, ROWS as i64);
        empty(&world).await;
        let by_insert = seconds(LoadData::Off).await;
        empty(&world).await;
        println!(
            "{ROWS} rows: sink by LOAD DATA {by_load:.2} s, by INSERT {by_insert:.2} s, client {by_client:.2} s: {:.2} and {:.2}",
            by_client / by_load,
            by_client / by_insert
        );
    }
    world.remove().await;
}

async fn empty(world: &World) {
    world.run("TRUNCATE speed").await;
    world.run("DELETE FROM tidemill_positions").await;
}

fn client(world: &World, query: &str) -> Vec<u8> {
    let opts = Opts::from_url(&world.url).expect("a URL");
    let mut command = Command::new("mariadb");
    command
        .args([
            "--no-defaults",
            "--batch",
            "--skip-column-names",
            "--local-infile=1",
        ])
        .arg(format!("--host={}", opts.ip_or_hostname()))
        .arg(format!("--port={}", opts.tcp_port()))
        .arg(format!("--user={}", opts.user().unwrap_or("root")));
    if let Some(password) = opts.pass() {
        command.arg(format!("--password={password}"));
    }
    let output = command
        .args(["-e", query, &world.database])
        .stdin(Stdio::null())
        .output()
        .expect("mariadb runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
