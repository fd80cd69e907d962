//! What `[assign]` takes, and what its refusals say.

use super::super::{Config, Problem, Sources, effective, load};
use super::*;

const STREAM: &str =
    "[streams.found.fields]\nevent_id = \"string\"\nat = { type = \"timestamp\", optional = true }\n";

fn loaded(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tidemill.toml");
    std::fs::write(&file, text).expect("write");
    let pairs = environment.iter();
    let sources = Sources {
        files: vec![file],
        environment: pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    };
    load(&sources).map_err(|problems| problems.0)
}

#[test]
fn embedded_it_declares_two_streams_and_is_part_of_all_roles() {
    let config = loaded(&format!("[assign]\nstream = \"found\"\n{STREAM}"), &[]).expect("accepted");
    let found = config.assign.as_ref().expect("configured");
    assert!(config.roles.assign && found.is_embedded());
    assert_eq!(
        (found.options.limit, found.options.session),
        (50, Duration::from_secs(300))
    );
    let names: Vec<_> = config.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["found", "assignments", "answers"]);
    let without = loaded(STREAM, &[]).expect("accepted");
    assert!(without.assign.is_none() && !without.roles.assign);
    let elsewhere = loaded(
        &format!("roles = [\"ingest\"]\n[assign]\nstream = \"found\"\n{STREAM}"),
        &[],
    );
    assert!(!elsewhere.expect("accepted").roles.assign);
}

#[test]
fn servers_are_given_all_together_and_their_addresses_are_never_shown() {
    let text = "[assign]\nqueue = \"out\"\nanswers = \"in\"\nlimit = 7\nredis_url = \"redis://h\"\n\
                postgres_url = \"postgres://u@h/d\"\npostgres_password = \"hunter2@/\"\namqp_url = \"amqp://u:hunter2@h/v\"\n";
    let config = loaded(text, &[("TIDEMILL_ASSIGN_WORKERS", "3")]).expect("accepted");
    let shown = effective(&config);
    assert!(
        shown.contains("[assign]") && shown.contains("queue = \"out\"") && !shown.contains("hunter2"),
        "{shown}"
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    let Some(AssignPlace::Servers(servers)) = config.assign.map(|found| found.place) else {
        panic!("servers")
    };
    assert_eq!(
        (servers.workers, servers.queue.as_str(), servers.answers.as_str()),
        (3, "out", "in")
    );
}

#[test]
fn a_refusal_names_the_key_and_what_to_write() {
    let said = |text: &str| {
        let problems = loaded(text, &[]).expect_err("refused");
        let lines = problems
            .iter()
            .map(|problem| format!("{}: {}\n", problem.key, problem.message));
        lines.collect::<String>()
    };
    let cases = [
        (
            "roles = [\"assign\"]".to_owned(),
            "roles: `assign` needs a section",
        ),
        ("[assign]".to_owned(), "assign.stream: is missing"),
        (
            format!("[assign]\nstream = \"fund\"\n{STREAM}"),
            "did you mean `found`?",
        ),
        (
            format!("[assign]\nstream = \"found\"\nid = \"at\"\n{STREAM}"),
            "assign.id: `at` must be a required field",
        ),
        (
            format!("[assign]\nstream = \"found\"\nlimt = 5\n{STREAM}"),
            "assign.limt: unknown key, did you mean `limit`?",
        ),
        (
            format!("[assign]\nstream = \"found\"\nlimit = 0\n{STREAM}"),
            "assign.limit: 0 is not a whole number from 1",
        ),
        (
            format!("[assign]\nstream = \"found\"\nsession = \"1ms\"\n{STREAM}"),
            "assign.session: `1ms`",
        ),
        (
            format!("[assign]\nstream = \"found\"\nqueue = \"q\"\n{STREAM}"),
            "assign.stream: `found` and servers",
        ),
        (
            "[assign]\nqueue = \"q\"".to_owned(),
            "assign.postgres_url: is missing",
        ),
        (
            format!("[assign]\nstream = \"found\"\nanswers = \"found\"\n{STREAM}"),
            "streams.found: stream `found` is",
        ),
        (
            format!("journal.kind = \"kafka\"\n[assign]\nstream = \"found\"\n{STREAM}"),
            "needs the embedded journal",
        ),
        (
            "[assign]\nqueue = \"q\"\nredis_url = \"rediss://h\"\npostgres_url = \"postgres://u@h/d\"\n\
             amqp_url = \"amqps://h\""
                .to_owned(),
            "TLS (`amqps://`) is not built in",
        ),
        (
            format!(
                "[assign]\nstream = \"found\"\n[streams.found]\nroutes = [\"/users/a/active\"]\n{STREAM}"
            ),
            "streams.found.routes: `/users/a/active` is a route of `[assign]`",
        ),
    ];
    for (text, expected) in cases {
        let said = said(&text);
        assert!(said.contains(expected), "{text}\n{said}");
    }
}
