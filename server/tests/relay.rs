//! The whole path of a relay, with the real binary and real servers: rows of an outbox table → stream → queue of
//! RabbitMQ → answers → rows.

mod harness;
#[path = "relay/servers.rs"]
mod servers;

use std::collections::BTreeMap;

use harness::{Program, tidemill, until};
use servers::{Broker, Postgres};
use tempfile::TempDir;

/// A database, two queues and a configuration of one test's own.
struct World {
    postgres: Postgres,
    broker: Broker,
    outbound: String,
    inbound: String,
    folder: TempDir,
}

impl World {
    fn new() -> Option<Self> {
        let (postgres, broker) = (Postgres::find()?, Broker::find()?);
        let name = postgres.name.clone();
        let world = Self {
            outbound: format!("{name}.outbound"),
            inbound: format!("{name}.inbound"),
            postgres,
            broker,
            folder: tempfile::tempdir().expect("a folder"),
        };
        let streams = include_str!("../../event/src/stream/starter.toml");
        let (_, detection) = streams.split_once("[detection]").expect("there");
        let detection = detection.replace("[detection.fields]", "[streams.detection.fields]");
        let text = format!(
            r#"
[streams.detection]{detection}

[sources.relay]
kind = "postgres"
url = "{postgres}"
stream = "detection"
table = "events"
id = "event_id"
order = "created_at"
every = "100ms"
batch = 20
[sources.relay.state]
reason = "reason"
[sources.relay.responses]
url = "{amqp}"
queue = "{inbound}"
states = {{ assigned = "assigned", completed = "completed", rejected = "rejected" }}

[destinations.outbound]
kind = "rabbitmq"
url = "{amqp}"
group = "{name}"
streams = ["detection"]
queue = "{outbound}"
message_id = "event_id"
"#,
            postgres = world.postgres.url,
            amqp = world.broker.url,
            inbound = world.inbound,
            outbound = world.outbound,
        );
        std::fs::write(world.folder.path().join("relay.toml"), text).expect("written");
        Some(world)
    }

    fn serve(&self) -> Program {
        let config = self.folder.path().join("relay.toml");
        Program::start(self.folder.path(), &["--config", config.to_str().expect("UTF-8")])
    }

    /// Writes events as an application does, and gives their ids in order.
    fn generate(&self, count: &str) -> Vec<String> {
        let output = tidemill(&["generate", "detection", count, "--into", "postgres", "--create"])
            .args(["--url", &self.postgres.url])
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        let id = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).expect("each event is logged as JSON");
            event["event_id"].as_str().expect("an id").to_owned()
        };
        lines.lines().map(id).collect()
    }

    fn states(&self) -> String {
        self.postgres.ask(
            "SELECT coalesce(string_agg(s, ' ' ORDER BY s), '') FROM \
             (SELECT state || '=' || count(*) AS s FROM events GROUP BY state) x",
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let queues = ["position", "begun"].map(|what| format!("{}.detection.0.{what}", self.postgres.name));
        for queue in queues.iter().chain([&self.outbound, &self.inbound]) {
            self.broker.delete(queue);
        }
        self.postgres.drop_database();
    }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[test]
fn rows_go_out_with_their_ids_and_answers_come_back_into_them() {
    let Some(world) = World::new() else { return };
    let written = world.generate("25");
    assert_eq!(written.len(), 25);
    let program = world.serve();
    until("all are sent", || world.states() == "sent=25");
    until("all are in the queue", || {
        world.broker.waiting(&world.outbound) == Some(25)
    });
    let messages = world.broker.drain(&world.outbound);
    let ids: Vec<_> = messages.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(
        ids, written,
        "in the order of the table, the event's id as the message's"
    );
    for (id, body) in &messages {
        assert_eq!(body["event_id"], id.as_str());
        assert!(body["frame_ref"].is_string() && body["severity"].is_u64() && body["created_at"].is_string());
    }
    assert_eq!(program.number("SELECT count(*) FROM detection"), 25);

    for (id, status) in ids.iter().zip(["assigned", "completed", "rejected"]) {
        let answer = format!("{{\"event_id\":\"{id}\",\"status\":\"{status}\",\"user_id\":\"u1\"}}");
        world.broker.send(&world.inbound, &answer);
    }
    world.broker.send(
        &world.inbound,
        "{\"event_id\":\"nobody\",\"status\":\"completed\"}",
    );
    until("the answers are applied", || {
        world.states() == "assigned=1 completed=1 rejected=1 sent=22"
    });
    until("the bad one is set aside", || {
        program.number("SELECT count(*) FROM _rejects WHERE message LIKE '%no row has the id `nobody`%'") == 1
    });
    assert_eq!(program.metric("tidemill_source_failing"), 0.0);
    let ready = program.get("/readyz").json();
    let parts = ready["sources"].as_array().expect("a list").clone();
    let by_part: BTreeMap<_, _> = parts
        .iter()
        .map(|part| (part["part"].as_str().expect("a name"), part))
        .collect();
    assert_eq!(by_part["relay"]["taken"], 25, "{ready}");
    assert_eq!(by_part["relay"]["backlog_rows"], 0, "{ready}");
    assert_eq!(by_part["responses"]["refused"], 1, "{ready}");
    assert_eq!(ready["destinations"]["outbound"][0]["lag_records"], 0, "{ready}");
    assert!(program.stop().success());
}

#[test]
fn a_relay_that_is_killed_again_and_again_forgets_nothing() {
    let Some(world) = World::new() else { return };
    let mut written = Vec::new();
    for _ in 0..4 {
        written.extend(world.generate("60"));
        let program = world.serve();
        until("it is in the middle", || world.states().contains("sent="));
        program.kill();
    }
    let program = world.serve();
    until("all are sent", || world.states() == "sent=240");
    until("the queue has them", || {
        let ready = program.get("/readyz").json();
        ready["destinations"]["outbound"][0]["lag_records"] == 0
            && world.broker.waiting(&world.outbound) >= Some(240)
    });
    assert!(program.stop().success());
    let ids: Vec<_> = world
        .broker
        .drain(&world.outbound)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    println!("{} messages for 240 rows", ids.len());
    let mut once = sorted(ids);
    once.dedup();
    assert_eq!(once, sorted(written));
}

#[test]
fn two_processes_of_one_journal_are_not_needed_a_second_relay_shares_the_rows() {
    let Some(world) = World::new() else { return };
    world.generate("1");
    let first = world.serve();
    // Another process with a journal of its own, which relays from the same table.
    let other = tempfile::tempdir().expect("a folder");
    let config = world.folder.path().join("relay.toml");
    let second = Program::start(
        other.path(),
        &["--config", config.to_str().expect("UTF-8"), "--role", "all"],
    );
    world.generate("200");
    until("all are sent", || world.states() == "sent=201");
    let count = |program: &Program| program.number("SELECT count(*) FROM detection");
    assert_eq!(
        count(&first) + count(&second),
        201,
        "each row in one of them, and once"
    );
    assert!(first.stop().success());
    assert!(second.stop().success());
}

#[test]
fn what_is_wrong_with_a_source_is_said_at_once_and_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("wrong.toml");
    let text = r#"
[sources.a]
kind = "postgre"
stream = "detection"
url = "postgres://me:hunter2@db/x"
[sources.b]
kind = "postgres"
stream = "detektion"
url = "mysql://me:hunter2@db/x"
table = "a.b.c"
id = "event id"
every = "5s"
cron = "*/5 * * * *"
[sources.c]
kind = "postgres"
stream = "detection"
url = "postgres://me:hunter2@db/x"
table = "events"
id = "event_id"
cron = "61 * * * * *"
batch = 0
columns = { severety = "severity" }
prefetch = 4
[sources.c.state]
pending = "sent"
[sources.d]
kind = "rabbitmq"
stream = "detection"
url = "amqps://me:hunter2@broker"
[destinations.out]
kind = "rabbitmq"
url = "amqps://me:hunter2@broker"
table_prefix = "t_"
[destinations.db]
kind = "mysql"
url = "mysql://me:hunter2@db/x"
queue = "q"
"#;
    std::fs::write(&config, text).expect("written");
    let output = tidemill(&["check", "--config", config.to_str().expect("UTF-8")])
        .output()
        .expect("runs");
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    for part in [
        "sources.a.kind: `postgre` is not one of postgres, rabbitmq, did you mean `postgres`?",
        "sources.b.stream: no stream `detektion` is declared, did you mean `detection`?",
        "sources.b.url: must begin with `postgres://`",
        "sources.c.cron: `61 * * * * *` is not a cron expression",
        "sources.c.batch: 0 is not a whole number from 1 to 10000",
        "sources.c.columns: the stream has no field `severety`, did you mean `severity`?",
        "sources.c.prefetch: unknown key",
        "sources.c.state.sent: is `sent`, as `pending`",
        "sources.d.url: begins with `amqps://`, which is not supported",
        "sources.d.queue: is missing",
        "destinations.out.url: begins with `amqps://`, which is not supported",
        "destinations.out.table_prefix: is a setting of a database",
        "destinations.db.queue: is a setting of `rabbitmq`",
    ] {
        assert!(said.contains(part), "{part}\nin {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    let output = tidemill(&["check", "--role", "sources"])
        .current_dir(folder.path())
        .output()
        .expect("runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("roles: `sources` needs a section"), "{said}");
}
