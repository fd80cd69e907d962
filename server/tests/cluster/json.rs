//! A topic of JSON messages that other programs fill and read: what is an event is queryable and in every destination,
//! what is none is in `_rejects`, each once; and what came over HTTP is a message with its key.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Program, until};
use crate::processes::{Installation, Servers, caught_up};

const PARTITIONS: usize = 2;
const MESSAGES: usize = 600;

const STREAM: &str = r#"
[streams.sensor]
format = "json"
key = "device"
[streams.sensor.fields]
device = "string"
value = "int"
"#;

/// The `number`th message, and the code of its reject.
fn message(number: usize) -> (String, Option<&'static str>) {
    match number % 6 {
        1 => (
            format!(r#"{{"device":"d{number}","value":"{number}"}}"#),
            Some("type_mismatch"),
        ),
        3 => (format!(r#"{{"device":"d{number}"}}"#), Some("missing_field")),
        5 => (format!("number {number}"), Some("invalid_json")),
        _ => (
            format!(r#"{{"device":"d{}","value":{number}}}"#, number % 7),
            None,
        ),
    }
}

/// Produces messages as another program does, each with a key of its own.
fn produce(servers: &Servers, topic: &str, numbers: std::ops::Range<usize>) {
    let mut client = Command::new("kcat");
    client.args(["-b", &servers.kafka, "-P", "-t", topic, "-K", "|"]);
    let mut client = client.stdin(Stdio::piped()).spawn().expect("kcat starts");
    let mut input = client.stdin.take().expect("piped");
    for number in numbers {
        writeln!(input, "key-{number}|{}", message(number).0).expect("kcat reads");
    }
    drop(input);
    assert!(client.wait().expect("the end").success());
}

/// Every message of a topic as `key|value`.
fn consume(servers: &Servers, topic: &str) -> Vec<String> {
    let mut client = Command::new("kcat");
    client.args(["-b", &servers.kafka, "-C", "-t", topic, "-o", "beginning"]);
    let output = client.args(["-e", "-q", "-f", "%k|%s\n"]).output().expect("kcat");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_other_programs_write_as_json_is_an_event_or_a_reject_once() {
    let Some(servers) = Servers::find() else { return };
    let installation = Installation::new(&servers, PARTITIONS as u32, STREAM);
    let topic = format!("{}.sensor", installation.name);
    let ingest = installation.start("ingest", 0);
    let mut sinks = [installation.start("sink", 0), installation.start("sink", 1)];
    let analytics = installation.start("analytics", 0);
    let all_caught_up = |sinks: [&Program; 2]| {
        ["sensor", "_rejects"].iter().all(|stream| {
            lake_has(&sinks, stream) && (*stream == "_rejects" || caught_up(&sinks, stream, PARTITIONS))
        })
    };

    produce(&servers, &topic, 0..MESSAGES / 2);
    let programs = sinks.each_ref().map(|sink| &sink.program);
    until("the first messages are everywhere", || {
        analytics.program.number("select count(*) from sensor") == MESSAGES as i64 / 4
            && all_caught_up(programs)
    });
    let counted: f64 = programs
        .iter()
        .map(|sink| sink.metric("tidemill_sink_rejects_total"))
        .sum();
    assert_eq!(counted, MESSAGES as f64 / 4.0);

    // A sink ends while it is at work, and another one goes on.
    produce(&servers, &topic, MESSAGES / 2..MESSAGES * 3 / 4);
    sinks[0].kill();
    produce(&servers, &topic, MESSAGES * 3 / 4..MESSAGES);
    installation.restart(&mut sinks[0]);
    let posted = "{\"device\":\"over http\",\"value\":-1}\n{\"device\":\"over http\"}\n";
    let answer = ingest.program.ndjson("sensor", posted);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["rejected"], 1);
    let programs = sinks.each_ref().map(|sink| &sink.program);
    until("all messages are everywhere", || {
        analytics.program.number("select count(*) from sensor") == MESSAGES as i64 / 2 + 1
            && all_caught_up(programs)
    });

    events_are_there_once(&servers, &installation, &analytics.program);
    rejects_are_there_once(&analytics.program);
    let messages = consume(&servers, &topic);
    assert_eq!(messages.len(), MESSAGES + 1);
    let ours = r#"over http|{"device":"over http","value":-1}"#;
    assert_eq!(messages.iter().filter(|message| *message == ours).count(), 1);

    servers.mysql(&format!("drop table `{}_sensor`", installation.name));
    servers.postgres(&format!("drop table \"{}_sensor\"", installation.name));
}

/// Whether the lake has all of a stream's records.
fn lake_has(sinks: &[&Program], stream: &str) -> bool {
    let bodies: Vec<Value> = sinks.iter().map(|sink| sink.get("/readyz").json()).collect();
    let own = bodies
        .iter()
        .flat_map(|body| body["sink"].as_array().expect("a list"));
    let own: Vec<_> = own.filter(|one| one["stream"] == stream).collect();
    let done = |one: &&Value| one["lag_records"] == 0 && one["read"] == one["committed"];
    own.len() == PARTITIONS && own.into_iter().all(|one| done(&one))
}

fn events_are_there_once(servers: &Servers, installation: &Installation, analytics: &Program) {
    let sent: BTreeSet<i64> = (0..MESSAGES)
        .filter(|number| message(*number).1.is_none())
        .map(|number| number as i64)
        .chain([-1])
        .collect();
    let rows = analytics.rows("select value, _index from sensor order by _index");
    let found: BTreeSet<i64> = rows
        .iter()
        .map(|row| row[0].as_i64().expect("a number"))
        .collect();
    assert_eq!((rows.len(), &found), (sent.len(), &sent));
    let dense = rows.iter().enumerate().all(|(index, row)| row[1] == json!(index));
    assert!(dense, "the index has no gap");
    let table = format!("{}_sensor", installation.name);
    let expected = format!("{}\t{}\t{}\n", sent.len(), sent.len(), sent.iter().sum::<i64>());
    let select = "select count(*), count(distinct value), sum(value) from";
    assert_eq!(servers.mysql(&format!("{select} `{table}`")), expected);
    assert_eq!(servers.postgres(&format!("{select} \"{table}\"")), expected);
}

fn rejects_are_there_once(analytics: &Program) {
    let mut sent: BTreeMap<String, &str> = BTreeMap::new();
    for number in 0..MESSAGES {
        let (text, code) = message(number);
        sent.extend(code.map(|code| (text, code)));
    }
    sent.insert(r#"{"device":"over http"}"#.to_owned(), "missing_field");
    let rows = analytics.rows(
        "select raw, code, _index, _offset from _rejects where stream = 'sensor' order by _index limit 10000",
    );
    assert_eq!(rows.len(), sent.len());
    for (index, row) in rows.iter().enumerate() {
        let raw = row[0].as_str().expect("text");
        assert_eq!(sent.remove(raw).map(Value::from), Some(row[1].clone()), "{raw}");
        assert_eq!(row[2], json!(index), "the index has no gap");
    }
    let all = analytics.rows("select * from _rejects where stream = 'sensor' limit 10000");
    assert_eq!(all.len(), rows.len());
    let page = analytics.get("/v1/streams/_rejects/events?limit=3").json();
    assert_eq!(page["events"].as_array().expect("events").len(), 3);
}
