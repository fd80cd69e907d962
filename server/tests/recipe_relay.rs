//! The relay's half of the recipe `relay-assignment`: alone over HTTP, and with PostgreSQL and RabbitMQ by the variables
//! of the original.

mod harness;
#[path = "relay/servers.rs"]
mod servers;

use std::process::Stdio;

use harness::{Program, tidemill};
use servers::Postgres;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes/relay-assignment");

fn path(name: &str) -> String {
    format!("{RECIPE}/{name}")
}

#[test]
fn alone_it_takes_events_over_http() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(folder.path(), &["--config", &path("tidemill.toml")]);
    let events = tidemill(&["generate", "detection", "3"])
        .stderr(Stdio::inherit())
        .output()
        .expect("runs")
        .stdout;
    let answer = program.post("/events", "application/x-ndjson", &events);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["accepted"], 3);
    assert_eq!(program.number("SELECT count(*) FROM detection"), 3);
    assert!(program.stop().success());
}

#[test]
fn the_table_that_the_command_makes_is_the_one_of_the_recipe() {
    let Some(postgres) = Postgres::find() else { return };
    let columns = "SELECT string_agg(column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, ''), \
                   ', ' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_name = 'events'";
    let sql = std::fs::read_to_string(path("init/postgres/schemas/relay.sql")).expect("the schema");
    postgres.ask(&sql);
    let of_recipe = postgres.ask(columns);
    postgres.ask("DROP TABLE events");
    let made = tidemill(&[
        "generate",
        "detection",
        "0",
        "--into",
        "postgres",
        "--create",
        "--url",
        &postgres.url,
    ])
    .output()
    .expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(postgres.ask(columns), of_recipe);
    postgres.drop_database();
}
