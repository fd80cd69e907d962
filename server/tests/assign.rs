//! Assigning through the real binary: over HTTP as people's clients do it, embedded and around real servers, and when the
//! process is killed.

mod harness;

#[path = "assign/servers.rs"]
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use harness::{Answer, Program, request, until};
use serde_json::{Value, json};
use servers::Servers;
use tempfile::TempDir;

const FOUND: &str = r#"
[streams.found.fields]
event_id = "uuid"
severity = "int"
region = "string"
"#;

/// A directory with a configuration.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("tidemill.toml"), config).expect("written");
        Self { folder }
    }

    fn start(&self, more: &[&str]) -> Program {
        let config = self.folder.path().join("tidemill.toml");
        let data = self.folder.path().join("data");
        std::fs::create_dir_all(&data).expect("a folder");
        let mut arguments = vec!["--config", config.to_str().expect("UTF-8")];
        arguments.extend(more);
        Program::start(&data, &arguments)
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    request(
        address,
        method,
        path,
        &[("content-type", "application/json")],
        body.as_bytes(),
    )
    .expect("an answer")
}

fn id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn events(from: u64, count: u64) -> String {
    let line = |number: u64| {
        format!(
            "{{\"event_id\":\"{}\",\"severity\":3,\"region\":\"EU\"}}\n",
            id(number)
        )
    };
    (from..from + count).map(line).collect()
}

/// What is open: assignment → (event, user).
fn open(program: &Program) -> BTreeMap<String, (String, String)> {
    let rows = program.rows(
        "SELECT assignment_id, max(event_id), max(user_id) FROM assignments GROUP BY assignment_id \
         HAVING count(*) = 1 LIMIT 10000",
    );
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    rows.iter()
        .map(|row| (text(&row[0]), (text(&row[1]), text(&row[2]))))
        .collect()
}

#[test]
fn people_come_get_events_settle_them_and_go() {
    let place = Place::new(&format!(
        "[assign]\nstream = \"found\"\nsession = \"2s\"\ncopy = [\"region\"]\n{FOUND}"
    ));
    let program = place.start(&[]);
    let at = program.address;
    assert_eq!(ask(at, "GET", "/health", "").json()["status"], "ok");
    assert_eq!(program.ndjson("found", &events(0, 60)).status, 200);
    let begun = ask(at, "POST", "/users/ann/active", "");
    assert_eq!((begun.status, &begun.json()["active"]), (200, &json!(true)));
    until("she has as many as she may", || open(&program).len() == 50);
    let paths = &program.get("/openapi.json").json()["paths"];
    assert!(paths["/assignments/{assignment}"]["put"].is_object());
    let of_steps = &paths["/v1/streams/assignments/events"];
    assert!(of_steps["get"].is_object() && of_steps["post"].is_null());
    let (assignment, (event, user)) = open(&program).pop_first().expect("fifty");
    assert_eq!(user, "ann");
    let put = |assignment: &str, body: &str| ask(at, "PUT", &format!("/assignments/{assignment}"), body);
    // The status is looked at first, whatever the id.
    for id in [assignment.as_str(), "nobody's"] {
        for body in [r#"{"status":"open"}"#, r#"{"status":7}"#, "{}", "", "no JSON"] {
            assert_eq!(put(id, body).status, 400, "{id} {body}");
        }
    }
    assert_eq!(put("nobody's%20%00", r#"{"status":"completed"}"#).status, 404);
    assert_eq!(put(&assignment, r#"{"status":"completed"}"#).status, 200);
    assert_eq!(put(&assignment, r#"{"status":"completed"}"#).status, 200);
    assert_eq!(put(&assignment, r#"{"status":"rejected"}"#).status, 409);
    let kept = program.rows(&format!(
        "SELECT event, user_id FROM assignments WHERE event_id = '{event}' AND status = 'open'"
    ));
    assert_eq!(kept, [json!([r#"{"region":"EU"}"#, "ann"])]);
    let answers = format!("SELECT status FROM answers WHERE event_id = '{event}' ORDER BY at");
    assert_eq!(
        program.rows(&answers),
        [json!(["assigned"]), json!(["completed"])]
    );
    // She goes; what she has goes to whoever comes.
    assert_eq!(ask(at, "DELETE", "/users/ann/active", "").status, 200);
    ask(at, "POST", "/users/bob/active", "");
    until("he has as many as he may", || {
        ask(at, "POST", "/users/bob/active", "");
        let open = open(&program);
        open.len() == 50 && open.values().all(|(_, user)| user == "bob")
    });
    assert_eq!(
        program.number("SELECT count(*) FROM assignments WHERE status = 'reassigned'"),
        50
    );
    for (method, path, status) in [
        ("POST", "/users//active", 404),
        ("POST", "/users/%0A/active", 400),
        ("GET", "/users/ann/active", 405),
        ("POST", "/assignments/x", 405),
        ("POST", "/v1/streams/assignments/events", 404),
        ("POST", "/v1/streams/answers/events", 404),
    ] {
        assert_eq!(ask(at, method, path, "{}").status, status, "{method} {path}");
    }
    assert!(program.stop().success());
}

#[test]
fn a_token_must_write_to_assignments() {
    let place = Place::new(&format!(
        "tokens_file = \"TOKENS\"\n[assign]\nstream = \"found\"\n{FOUND}"
    ));
    let tokens = place.folder.path().join("tokens.toml");
    let config = place.folder.path().join("tidemill.toml");
    let text = std::fs::read_to_string(&config).expect("written");
    std::fs::write(&config, text.replace("TOKENS", tokens.to_str().expect("UTF-8"))).expect("written");
    let token = |name: &str, scope: &str| {
        let file = tokens.to_str().expect("UTF-8");
        let arguments = [
            "token",
            "new",
            name,
            "--file",
            file,
            "--scope",
            scope,
            "--streams",
            "assignments",
        ];
        let made = harness::tidemill(&arguments).output();
        let made = made.expect("a token");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).expect("UTF-8").trim().to_owned()
    };
    let (writer, reader) = (token("writer", "write"), token("reader", "read"));
    let program = place.start(&[]);
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        request(
            program.address,
            "POST",
            "/users/a/active",
            &[("authorization", &bearer)],
            b"",
        )
        .expect("an answer")
        .status
    };
    assert_eq!(
        (status(&writer), status(&reader), status("none")),
        (200, 403, 401)
    );
    assert_eq!(program.get("/health").status, 200);
}

/// Method: the process is killed at another moment in each round, while people come and settle and events are posted; the
/// stream of assignments is the judge, and so are the answers about requests that were answered.
#[test]
fn killed_at_any_moment_it_forgets_no_event_and_gives_none_to_two() {
    let rounds: u64 = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        60
    } else {
        5
    };
    let place = Place::new(&format!(
        "lake.roll.every = \"200ms\"\n[assign]\nstream = \"found\"\n{FOUND}"
    ));
    let mut posted = 0;
    let mut completed = BTreeSet::new();
    for round in 0..rounds {
        let program = place.start(&[]);
        let at = program.address;
        for user in ["a", "b", "c"] {
            assert_eq!(ask(at, "POST", &format!("/users/{user}/active"), "").status, 200);
        }
        assert_eq!(program.ndjson("found", &events(posted, 40)).status, 200);
        posted += 40;
        // The same events once more.
        assert_eq!(program.ndjson("found", &events(posted - 10, 5)).status, 200);
        let open = open(&program);
        let victims: Vec<_> = open.into_keys().take(30).collect();
        let settling = std::thread::spawn(move || {
            let mut done = Vec::new();
            for assignment in victims {
                let body = br#"{"status":"completed"}"#;
                match request(at, "PUT", &format!("/assignments/{assignment}"), &[], body) {
                    Ok(answer) if answer.status == 200 => done.push(assignment),
                    _ => break,
                }
            }
            done
        });
        std::thread::sleep(Duration::from_millis(3 + round * 37 % 90));
        program.kill();
        completed.extend(settling.join().expect("the client"));
    }
    let program = place.start(&[]);
    for user in ["a", "b", "c", "d", "e"] {
        ask(program.address, "POST", &format!("/users/{user}/active"), "");
    }
    until("every event was assigned", || {
        for assignment in open(&program).into_keys() {
            let answer = ask(
                program.address,
                "PUT",
                &format!("/assignments/{assignment}"),
                r#"{"status":"rejected"}"#,
            );
            // The list may be older than what it says.
            assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
        }
        program.number("SELECT count(DISTINCT event_id) FROM assignments")
            == i64::try_from(posted).expect("few")
    });
    let twice = "SELECT count(*) FROM (SELECT event_id FROM assignments WHERE status = 'open' GROUP BY event_id \
                 HAVING count(*) > 1)";
    assert_eq!(program.number(twice), 0, "nobody went, so each was assigned once");
    let rows = program.rows("SELECT assignment_id FROM assignments WHERE status = 'completed' LIMIT 10000");
    let stored: BTreeSet<_> = rows
        .iter()
        .map(|row| row[0].as_str().expect("text").to_owned())
        .collect();
    let lost: Vec<_> = completed.difference(&stored).collect();
    assert!(lost.is_empty(), "answered with 200 and forgotten: {lost:?}");
    assert!(program.stop().success());
}

/// Method: two processes that only assign, around real servers, of which one is killed in each round; a third one is
/// there in the end.
#[test]
fn around_servers_a_killed_process_forgets_no_event_and_gives_none_to_two() {
    let Some(servers) = Servers::find() else { return };
    let rounds: i64 = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        20
    } else {
        3
    };
    let config = servers.config();
    let places: Vec<_> = (0..2).map(|_| Place::new(&config)).collect();
    let mut programs: Vec<_> = places
        .iter()
        .map(|place| place.start(&["--role", "assign"]))
        .collect();
    let active = |program: &Program, user: &str| {
        ask(program.address, "POST", &format!("/users/{user}/active"), "").status
    };
    for user in ["a", "b", "c"] {
        until("they are taken", || active(&programs[0], user) == 200);
    }
    let mut posted = 0;
    for round in 0..rounds {
        servers.post(
            (posted..posted + 60)
                .map(|number| format!(r#"{{"event_id":"e{number}"}}"#))
                .collect(),
        );
        posted += 60;
        std::thread::sleep(Duration::from_millis(20 + (round as u64 * 53) % 150));
        let victim = (round % 2) as usize;
        let old = std::mem::replace(&mut programs[victim], places[victim].start(&["--role", "assign"]));
        old.kill();
        until("everything is assigned and settled", || {
            for assignment in servers.open() {
                let path = format!("/assignments/{assignment}");
                ask(
                    programs[victim].address,
                    "PUT",
                    &path,
                    r#"{"status":"completed"}"#,
                );
            }
            servers.number("SELECT count(*) FROM assignments WHERE status = 'completed'") == Some(posted)
        });
    }
    assert_eq!(
        servers.number("SELECT count(*) FROM assignments"),
        Some(posted),
        "nobody went, so each was assigned once"
    );
    until("it says that it is well", || {
        programs[0].get("/health").status == 200
    });
    assert_eq!(programs[0].get("/readyz").json()["ready"], true);
    for program in programs {
        assert!(program.stop().success());
    }
    let answers = servers.answers();
    assert_eq!(answers.len() as i64, posted);
    for (event, statuses) in answers {
        assert_eq!(statuses, ["assigned", "completed"], "{event}");
    }
    servers.remove();
}
