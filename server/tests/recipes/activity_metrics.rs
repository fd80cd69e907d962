//! R2: what users do, as the clients of the activity service send it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Program, until};
use crate::starter::{Embedded, database, embedded, file, own_name, postgres, server, walk_the_readme};

fn activity(user: &str, activity_type: &str, second: u32) -> Value {
    json!({
        "user_id": user, "activity_type": activity_type, "timestamp": format!("2024-09-10T09:12:{second:02}Z"),
        "metadata": {"page_url": "https://shop.example/", "referrer": "https://search.example/", "browser": "x"},
    })
}

/// Everything that the surface of R2 has over HTTP, of a program that has nothing yet: 60 activities of 10 users,
/// 20 of them page views.
fn surface(program: &Program) {
    assert_eq!(program.get("/health").json(), json!({"status": "ok"}));
    for second in 0..60 {
        let kind = ["page_view", "click", "search"][second as usize % 3];
        let one = activity(&format!("user_{}", second % 10), kind, second);
        let answer = program.post("/activity", "application/json", one.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["accepted"], 1);
    }
    for wrong in [
        "{}",
        "{\"user_id\":1,\"activity_type\":\"x\",\"timestamp\":\"2024-09-10T09:12:33Z\"}",
    ] {
        let answer = program.post("/activity", "application/json", wrong.as_bytes());
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
    }
    assert_eq!(
        program.post("/activity", "application/json", b"nonsense").status,
        400
    );
    let counted = "SELECT count(*), count(DISTINCT user_id), count(*) FILTER (WHERE activity_type = 'page_view'), \
                   count(page_url), count(referrer) FROM user_activity WHERE user_id <> 'somebody'";
    until("all activities are there", || program.rows(counted)[0][0] == 60);
    assert_eq!(program.rows(counted), [json!([60, 10, 20, 60, 60])]);
}

/// A topic, as other programs use it.
struct Topic<'a> {
    brokers: &'a str,
    name: &'a str,
}

impl Topic<'_> {
    /// Writes a message so many times.
    fn produce(&self, message: &Value, count: usize) {
        let mut client = Command::new("kcat");
        client.args(["-b", self.brokers, "-P", "-t", self.name]);
        let mut running = client.stdin(Stdio::piped()).spawn().expect("kcat runs");
        let lines = format!("{message}\n").repeat(count);
        let mut input = running.stdin.take().expect("it has one");
        input.write_all(lines.as_bytes()).expect("written");
        drop(input);
        assert!(running.wait().expect("it ends").success());
    }

    /// Reads what a group has not read yet, and says so to the group. Gives how many messages there were.
    fn consume(&self, group: &str) -> usize {
        let mut client = Command::new("kcat");
        client.args([
            "-b",
            self.brokers,
            "-G",
            group,
            "-e",
            "-q",
            "-X",
            "auto.offset.reset=earliest",
        ]);
        let read = client.arg(self.name).output().expect("kcat runs");
        assert!(read.status.success(), "{read:?}");
        String::from_utf8_lossy(&read.stdout).lines().count()
    }
}

#[test]
fn activity_metrics_answers_its_clients_without_other_servers() {
    let Embedded { program, folder } = embedded("activity-metrics");
    surface(&program);
    let sent = Command::new(file("activity-metrics", "test-producer.sh"))
        .arg("100")
        .env("TIDEMILL", env!("CARGO_BIN_EXE_tidemill"))
        .env("URL", format!("http://{}", program.address))
        .output()
        .expect("run the script");
    let printed = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert!(sent.status.success(), "{sent:?}");
    assert!(printed.contains("\"accepted\":100"), "{printed}");
    assert_eq!(program.number("SELECT count(*) FROM user_activity"), 160);
    let counted =
        "SELECT sum(source_rows), sum(page_view_count), max(source_rows) FROM user_activity_metrics";
    // A hundred are a window; the rest waits for its time, or for the end.
    until("the first window is counted", || {
        program.rows(counted)[0][0].as_u64() >= Some(100)
    });
    assert!(program.stop().success());
    let program = Program::start(
        folder.path(),
        &["--config", &file("activity-metrics", "tidemill.toml")],
    );
    let page_views = program.number("SELECT count(*) FROM user_activity WHERE activity_type = 'page_view'");
    let all = &program.rows(counted)[0];
    assert_eq!((&all[0], &all[1]), (&json!(160), &json!(page_views)));
    assert!(all[2].as_u64() <= Some(100), "{all}");
    assert!(program.stop().success());
}

#[test]
fn activity_metrics_keeps_activities_in_kafka_and_postgresql() {
    let (Some(kafka), Some(url)) = (server("KAFKA_BROKERS"), server("POSTGRES_URL")) else {
        return;
    };
    let name = own_name();
    let database = database(&url, &name);
    let port = database.port().unwrap_or(5432).to_string();
    let prefix = format!("{name}.");
    let variables = [
        ("KAFKA_BROKERS", kafka.as_str()),
        ("KAFKA_TOPIC", &name),
        ("KAFKA_GROUP_ID", &name),
        ("TIDEMILL_JOURNAL_KAFKA_TOPIC_PREFIX", &prefix),
        ("DB_HOST", database.host_str().expect("a host")),
        ("DB_PORT", &port),
        ("DB_NAME", &name),
        ("DB_USER", database.username()),
        ("DB_PASSWORD", database.password().unwrap_or("none")),
        ("NUM_WORKERS", "3"),
        ("FLUSH_INTERVAL_SEC", "2"),
        ("BATCH_SIZE", "25"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        file("activity-metrics", "tidemill.toml"),
        file("activity-metrics", "servers.toml"),
    ];
    let start = || {
        let arguments = ["--config", &files[0], "--config", &files[1]];
        Program::start_with(folder.path(), &arguments, &variables)
    };
    // What the old consumer has counted is in the topic, and its group says so.
    assert!(start().stop().success(), "the topic is made");
    let old = Topic {
        brokers: &kafka,
        name: &name,
    };
    old.produce(&activity("somebody", "page_view", 1), 7);
    assert_eq!(old.consume(&name), 7);
    let program = start();
    surface(&program);
    // The table as the original made it, by itself.
    let ask = |statement: &str| postgres(database.as_str(), statement).unwrap_or_default();
    until("every page view is counted once", || {
        ask("SELECT sum(page_view_count) FROM user_activity_metrics") == "20"
    });
    let rows: u64 = ask("SELECT count(*) FROM user_activity_metrics WHERE unique_users BETWEEN 1 AND 10")
        .parse()
        .expect("a number");
    assert!(rows >= 3, "25 activities at most make a row: {rows}");
    let numbered = format!(
        "SELECT count(DISTINCT id) = {rows}, min(timestamp) < min(created_at) FROM user_activity_metrics"
    );
    assert_eq!(ask(&numbered), "t\tt");
    let columns = "SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) \
                   FROM information_schema.columns WHERE table_name = 'user_activity_metrics'";
    assert_eq!(
        ask(columns),
        "id integer, timestamp timestamp without time zone, unique_users integer, page_view_count bigint, \
         created_at timestamp without time zone"
    );
    assert!(program.stop().success());
    assert_eq!(old.consume(&name), 0, "the group has counted everything");
    postgres(&url, &format!("DROP DATABASE {name} WITH (FORCE)")).expect("dropped");
}

#[test]
fn the_readme_of_activity_metrics_works_as_written() {
    walk_the_readme("activity-metrics", 8080);
}
