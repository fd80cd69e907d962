//! The assignment's half of the recipe `relay-assignment`: alone over HTTP, and with all servers, where an event goes from
//! the relay's table to somebody and what became of it back into its row.

mod harness;

use std::process::Command;

use harness::{Answer, Program, request, tidemill, until};
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes/relay-assignment");

fn path(name: &str) -> String {
    format!("{RECIPE}/{name}")
}

fn ask(program: &Program, method: &str, path: &str, body: &str) -> Answer {
    let json = [("content-type", "application/json")];
    request(program.address, method, path, &json, body.as_bytes()).expect("an answer")
}

#[test]
fn alone_it_hands_events_to_people() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(folder.path(), &["--config", &path("tidemill.toml")]);
    let events = tidemill(&["generate", "detection", "60"])
        .output()
        .expect("runs")
        .stdout;
    assert_eq!(
        program.post("/events", "application/x-ndjson", &events).status,
        200
    );
    assert_eq!(ask(&program, "GET", "/health", "").json()["status"], "ok");
    assert_eq!(ask(&program, "POST", "/users/ann/active", "").status, 200);
    let open = "SELECT count(*) FROM assignments WHERE status = 'open'";
    until("she has fifty", || program.number(open) == 50);
    let rows = program.rows("SELECT assignment_id FROM assignments LIMIT 1");
    let put = format!("/assignments/{}", rows[0][0].as_str().expect("text"));
    assert_eq!(ask(&program, "PUT", &put, r#"{"status":"rejected"}"#).status, 200);
    until("she has another one", || program.number(open) == 51);
    assert_eq!(ask(&program, "PUT", &put, r#"{"status":"open"}"#).status, 400);
    assert_eq!(
        ask(&program, "PUT", "/assignments/none", r#"{"status":"completed"}"#).status,
        404
    );
    assert_eq!(ask(&program, "DELETE", "/users/ann/active", "").status, 200);
    assert!(program.stop().success());
}

#[test]
fn the_tables_of_the_recipe_are_those_that_are_made() {
    let sql = std::fs::read_to_string(path("init/postgres/schemas/assignment.sql")).expect("the schema");
    assert_eq!(sql, assign::servers::SCHEMA);
}

/// A variable, or `None` with a loud word when the test is to be left out.
fn url_of(name: &str) -> Option<url::Url> {
    let value = std::env::var_os(name).map(|value| value.into_string().expect("UTF-8"));
    if value.is_none() {
        assert!(
            std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none_or(|value| value != "1"),
            "{name} must be set"
        );
        println!("SKIPPED: needs {name} (cargo xtask services up)");
    }
    Some(value?.parse().expect("a URL"))
}

fn psql(url: &url::Url, statement: &str) -> String {
    let output = Command::new("psql")
        .args([url.as_str(), "-X", "-q", "-At", "-c", statement])
        .output()
        .expect("psql");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .trim_end()
        .to_owned()
}

#[test]
fn with_servers_an_event_goes_from_its_row_to_somebody_and_back() {
    let (Some(postgres), Some(amqp), Some(redis)) =
        (url_of("POSTGRES_URL"), url_of("AMQP_URL"), url_of("REDIS_URL"))
    else {
        return;
    };
    let name = format!("tidemill_{}", uuid::Uuid::new_v4().simple());
    let (relay, assignment) = (format!("{name}_r"), format!("{name}_a"));
    let database = |name: &str| {
        let mut url = postgres.clone();
        url.set_path(name);
        url
    };
    for name in [&relay, &assignment] {
        psql(&postgres, &format!("CREATE DATABASE {name}"));
    }
    let sql = std::fs::read_to_string(path("init/postgres/schemas/relay.sql")).expect("the schema");
    psql(&database(&relay), &sql);
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let port = |url: &url::Url| url.port().expect("a port").to_string();
    let queues = [format!("{name}.out"), format!("{name}.in")];
    let variables = [
        ("POSTGRES_USER", postgres.username().to_owned()),
        ("POSTGRES_PASSWORD", text(postgres.password())),
        ("POSTGRES_HOST", text(postgres.host_str())),
        ("POSTGRES_PORT", port(&postgres)),
        ("POSTGRES_DB", relay.clone()),
        ("ASSIGNMENT_POSTGRES_DB", assignment.clone()),
        ("RABBITMQ_USER", amqp.username().to_owned()),
        ("RABBITMQ_PASSWORD", text(amqp.password())),
        ("RABBITMQ_HOST", text(amqp.host_str())),
        ("RABBITMQ_PORT", port(&amqp)),
        ("RABBITMQ_OUTBOUND_QUEUE", queues[0].clone()),
        ("RABBITMQ_INBOUND_QUEUE", queues[1].clone()),
        ("REDIS_HOST", text(redis.host_str())),
        ("REDIS_PORT", port(&redis)),
        ("REDIS_PASSWORD", text(redis.password())),
        ("REDIS_PREFIX", format!("{name}.")),
        ("RELAY_CRON", "* * * * * *".to_owned()),
        // Tests of one broker do not share a position.
        ("TIDEMILL_DESTINATIONS_OUTBOUND_GROUP", name.clone()),
    ];
    let made = tidemill(&["generate", "detection", "60", "--into", "postgres"])
        .env_remove("POSTGRES_URL")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let folder = tempfile::tempdir().expect("a folder");
    let (base, over) = (path("tidemill.toml"), path("servers.toml"));
    let borrowed: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let program = Program::start_with(folder.path(), &["--config", &base, "--config", &over], &borrowed);
    until("she is taken", || {
        ask(&program, "POST", "/users/ann/active", "").status == 200
    });
    let state = |state: &str| {
        psql(
            &database(&relay),
            &format!("SELECT count(*) FROM events WHERE state = '{state}'"),
        )
    };
    until("fifty rows say that they are assigned", || {
        state("assigned") == "50"
    });
    assert_eq!(
        psql(&database(&assignment), "SELECT count(*) FROM assignments"),
        "50",
        "and no more"
    );
    let open = psql(
        &database(&assignment),
        "SELECT assignment_id FROM assignments WHERE status = 'open'",
    );
    for assignment in open.lines().take(10) {
        assert_eq!(
            ask(
                &program,
                "PUT",
                &format!("/assignments/{assignment}"),
                r#"{"status":"completed"}"#
            )
            .status,
            200
        );
    }
    until("ten are done, and the last ten are hers", || {
        (state("completed"), state("assigned")) == ("10".to_owned(), "50".to_owned())
    });
    assert_eq!(ask(&program, "GET", "/health", "").status, 200);
    assert!(program.stop().success());
    remove(&amqp, &redis, &name, &queues);
    for name in [relay, assignment] {
        psql(&postgres, &format!("DROP DATABASE {name} WITH (FORCE)"));
    }
}

fn remove(amqp: &url::Url, redis: &url::Url, name: &str, queues: &[String]) {
    let own = ["position", "begun"].map(|what| format!("{name}.detection.0.{what}"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::connect(amqp.as_str(), ConnectionProperties::default())
            .await
            .expect("rabbitmq");
        let channel = connection.create_channel().await.expect("a channel");
        for queue in own.iter().chain(queues) {
            let deleted = channel
                .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
                .await;
            deleted.expect("deleted");
        }
        let client = redis::Client::open(redis.as_str()).expect("a URL");
        let mut redis = client.get_multiplexed_async_connection().await.expect("redis");
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{name}.*"))
            .query_async(&mut redis)
            .await
            .expect("keys");
        if !keys.is_empty() {
            let _: i64 = redis::cmd("DEL")
                .arg(&keys)
                .query_async(&mut redis)
                .await
                .expect("deleted");
        }
    });
}
