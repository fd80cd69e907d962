//! R2's table in PostgreSQL and MariaDB, with Kafka between processes that are killed.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::SEED;
use crate::harness::{Program, until};
use crate::processes::Servers;
use crate::recount::{self, Client, Row, STREAMS, check_rows, counted};

#[test]
fn the_table_is_exact_with_one_partition_and_one_process() {
    exact(1, 1);
}

#[test]
fn the_table_is_exact_with_three_partitions_and_one_process() {
    exact(3, 1);
}

#[test]
fn the_table_is_exact_with_three_partitions_and_three_processes() {
    exact(3, 3);
}

#[test]
fn the_table_is_exact_about_unique_ids_with_three_partitions_and_three_processes() {
    exact_about(3, 3, &recount::unique_streams(), recount::unique_events);
}

/// Processes that do everything, each in a directory of its own.
struct World {
    folder: tempfile::TempDir,
    config: PathBuf,
    table: String,
}

impl World {
    fn new(servers: &Servers, partitions: u32, streams: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let name = format!("r{}_{}", std::process::id(), since.subsec_nanos());
        let table = format!("{name}_user_activity_metrics");
        let mapping = |destination: &str| {
            format!(
                r#"
[destinations.{destination}.tables.user_activity_metrics]
table = "{table}"
serial = "id"
inserted_at = "created_at"
columns = {{ window_start = "timestamp", unique_users = "unique_users", page_view_count = "page_view_count" }}
types = {{ timestamp = "timestamp", unique_users = "integer", created_at = "timestamp" }}
"#
            )
        };
        let text = format!(
            r#"
journal.kind = "kafka"
journal.kafka.brokers = "{kafka}"
journal.kafka.topic_prefix = "{name}."
journal.kafka.partitions = {partitions}
journal.kafka.session_timeout = "6s"
lake.url = "{lake}"
lake.group = "{name}.lake"
lake.roll.every = "500ms"
analytics.rollup_group = "{name}.rollup"

[destinations.postgres]
kind = "postgres"
url = "{postgres}"
group = "{name}.postgres"
streams = ["user_activity_metrics"]
{in_postgres}
[destinations.maria]
kind = "mysql"
url = "{mysql}"
group = "{name}.maria"
streams = ["user_activity_metrics"]
{in_maria}
{streams}"#,
            kafka = servers.kafka,
            lake = folder.path().join("lake").display(),
            postgres = servers.postgres,
            mysql = servers.mysql,
            in_postgres = mapping("postgres"),
            in_maria = mapping("maria"),
        );
        let config = folder.path().join("tidemill.toml");
        std::fs::write(&config, text).expect("written");
        Self {
            folder,
            config,
            table,
        }
    }

    fn start(&self, number: usize) -> Program {
        let directory = self.folder.path().join(format!("process-{number}"));
        std::fs::create_dir_all(&directory).expect("a directory");
        Program::start(&directory, &["--config", self.config.to_str().expect("UTF-8")])
    }
}

fn exact(partitions: u32, processes: usize) {
    exact_about(partitions, processes, STREAMS, recount::events);
}

fn exact_about(partitions: u32, processes: usize, streams: &str, events: fn(u64, u64) -> String) {
    let Some(servers) = Servers::find() else { return };
    let soak = std::env::var_os("TIDEMILL_SOAK").is_some();
    let kills = if soak { 60 } else { 3 };
    println!("seed {SEED}, {kills} kills, {partitions} partitions, {processes} processes");
    let mut random = ChaCha8Rng::seed_from_u64(SEED + processes as u64);
    let world = World::new(&servers, partitions, streams);
    let mut running: Vec<Program> = (0..processes).map(|number| world.start(number)).collect();
    for kill in 0..kills {
        let addresses = running.iter().map(|program| program.address).collect();
        let client = Client::posting(SEED + kill, addresses, events);
        std::thread::sleep(Duration::from_millis(random.random_range(300..2_500)));
        let killed = random.random_range(0..processes);
        println!("killing {killed}");
        running[killed].child.kill().expect("kill");
        running[killed].child.wait().expect("the end");
        running[killed] = world.start(killed);
        client.stop();
    }
    let program = &running[0];
    let events = program.number("SELECT count(*) FROM user_activity");
    assert!(
        events > 0,
        "nothing was acknowledged, so this test checks nothing"
    );
    until("every event is in a row", || counted(program) == events);
    let rows = check_rows(program);
    println!("{events} events in {} rows", rows.len());
    assert!(
        rows.len() as i64 >= events / 100,
        "a row has 100 events at the most"
    );
    let table = &world.table;
    let in_postgres = || {
        servers.postgres(&format!(
            "SELECT to_char(timestamp, 'YYYY-MM-DD HH24:MI:SS.US'), unique_users, page_view_count \
             FROM {table} ORDER BY id"
        ))
    };
    let in_maria = || {
        servers.mysql(&format!(
            "SELECT date_format(timestamp, '%Y-%m-%d %H:%i:%s.%f'), unique_users, page_view_count \
             FROM {table} ORDER BY id"
        ))
    };
    until("the tables have every row", || {
        in_postgres().lines().count() >= rows.len() && in_maria().lines().count() >= rows.len()
    });
    let expected: Vec<String> = rows.iter().map(line).collect();
    for found in [in_postgres(), in_maria()] {
        let found: Vec<&str> = found.lines().collect();
        assert_eq!(found, expected);
    }
    let columns = servers.postgres(&format!(
        "SELECT column_name, data_type, is_nullable, coalesce(column_default, '') FROM information_schema.columns \
         WHERE table_name = '{table}' ORDER BY ordinal_position"
    ));
    let described = format!(
        "id\tinteger\tNO\tnextval('{table}_id_seq'::regclass)\n\
         timestamp\ttimestamp without time zone\tNO\t\n\
         unique_users\tinteger\tNO\t\n\
         page_view_count\tbigint\tNO\t\n\
         created_at\ttimestamp without time zone\tYES\tCURRENT_TIMESTAMP\n"
    );
    assert_eq!(columns, described);
    for program in running {
        assert!(program.stop().success(), "ends in order");
    }
    servers.postgres(&format!("DROP TABLE {table}"));
    servers.mysql(&format!("DROP TABLE {table}"));
}

/// A row as the databases' clients print it.
fn line(row: &Row) -> String {
    let moment = row.window_start.trim_end_matches('Z').replace('T', " ");
    let (seconds, fraction) = moment.split_once('.').unwrap_or((&moment, ""));
    format!(
        "{seconds}.{fraction:0<6}\t{}\t{}",
        row.unique_users, row.page_view_count
    )
}
