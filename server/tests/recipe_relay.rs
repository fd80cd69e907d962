//! The relay's half of the recipe `relay-assignment`: alone over HTTP, and with PostgreSQL and RabbitMQ by the variables
//! of the original.

mod harness;
#[path = "relay/servers.rs"]
mod servers;

use std::process::Stdio;

use harness::{Program, tidemill, until};
use servers::{Broker, Postgres};

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

#[test]
fn with_servers_the_variables_of_the_original_say_where_they_are() {
    let (Some(postgres), Some(broker)) = (Postgres::find(), Broker::find()) else {
        return;
    };
    let sql = std::fs::read_to_string(path("init/postgres/schemas/relay.sql")).expect("the schema");
    postgres.ask(&sql);
    let (outbound, inbound) = (format!("{}.out", postgres.name), format!("{}.in", postgres.name));
    let database = url::Url::parse(&postgres.url).expect("a URL");
    let amqp = url::Url::parse(&broker.url).expect("a URL");
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let port = |url: &url::Url| url.port().expect("a port").to_string();
    let variables = [
        ("POSTGRES_USER", database.username().to_owned()),
        ("POSTGRES_PASSWORD", text(database.password())),
        ("POSTGRES_HOST", text(database.host_str())),
        ("POSTGRES_PORT", port(&database)),
        ("POSTGRES_DB", postgres.name.clone()),
        ("RABBITMQ_USER", amqp.username().to_owned()),
        ("RABBITMQ_PASSWORD", text(amqp.password())),
        ("RABBITMQ_HOST", text(amqp.host_str())),
        ("RABBITMQ_PORT", port(&amqp)),
        ("RABBITMQ_OUTBOUND_QUEUE", outbound.clone()),
        ("RABBITMQ_INBOUND_QUEUE", inbound.clone()),
        ("RELAY_CRON", "* * * * * *".to_owned()),
        // Tests of one broker do not share a position.
        ("TIDEMILL_DESTINATIONS_OUTBOUND_GROUP", postgres.name.clone()),
    ];
    let made = tidemill(&["generate", "detection", "--into", "postgres"])
        .env_remove("POSTGRES_URL")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(
        String::from_utf8_lossy(&made.stdout).lines().count(),
        10,
        "ten when no number is given"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let (base, over) = (path("tidemill.toml"), path("servers.toml"));
    let roles = "ingest,sink,analytics,sources";
    let arguments = ["--config", &base, "--config", &over, "--role", roles];
    let borrowed: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let program = Program::start_with(folder.path(), &arguments, &borrowed);
    until("the rows are sent", || {
        postgres.ask("SELECT count(*) FROM events WHERE state = 'sent'") == "10"
    });
    until("the messages are there", || broker.waiting(&outbound) == Some(10));
    let (id, _) = broker.drain(&outbound).remove(0);
    broker.send(
        &inbound,
        &format!("{{\"event_id\":\"{id}\",\"status\":\"completed\"}}"),
    );
    let state = format!("SELECT state FROM events WHERE event_id = '{id}'");
    until("the answer is applied", || postgres.ask(&state) == "completed");
    assert!(program.stop().success());
    let own = ["position", "begun"].map(|what| format!("{}.detection.0.{what}", postgres.name));
    for queue in own.iter().chain([&outbound, &inbound]) {
        broker.delete(queue);
    }
    postgres.drop_database();
}
