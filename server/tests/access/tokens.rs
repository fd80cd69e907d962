//! Tokens that come, go and end while the server runs; starts without them; the commands that make and send them.

use super::*;

#[test]
fn tokens_come_and_go_while_requests_are_answered_and_a_broken_file_changes_nothing() {
    let given = Given::new(&[("steady", &["--scope", "write,read,admin"])]);
    let program = given.start();
    let steady = given.token("steady").to_owned();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = answered.load(Ordering::Relaxed);
                let answer = ask(
                    &program,
                    Some(&steady),
                    "POST",
                    "/v1/streams/running/events",
                    &running(number, 1),
                );
                assert_eq!(answer.status, 200, "{}", answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let passes = |token: &str| ask(&program, Some(token), "GET", "/v1/streams/running", "").status == 200;
        let good = std::fs::read_to_string(given.file()).expect("read");
        // One is added: noticed without a word.
        let added = make(
            &given.file(),
            "added",
            &["--scope", "read", "--streams", "running"],
        );
        until("the new token passes", || passes(&added));
        let both = std::fs::read_to_string(given.file()).expect("read");
        // What is broken, empty of meaning or gone leaves both in force.
        let metric = |name: &str| {
            let text = ask(&program, Some(&steady), "GET", "/metrics", "").text();
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse().ok());
            value.unwrap_or(0.0_f64)
        };
        for (broken, text) in [Some("tokens = 1"), Some("[tokens.a]\n"), Some("\u{0}"), None]
            .iter()
            .enumerate()
        {
            match text {
                Some(text) => std::fs::write(given.file(), text).expect("written"),
                None => std::fs::remove_file(given.file()).expect("removed"),
            }
            let errors = "tidemill_access_reload_errors_total{what=\"tokens\"}";
            until("the error is counted", || metric(errors) > broken as f64);
            assert!(passes(&added) && passes(&steady));
            assert_eq!(metric("tidemill_access_stale{what=\"tokens\"}") as u64, 1);
        }
        std::fs::write(given.file(), &both).expect("written");
        until("the file is good again", || {
            metric("tidemill_access_stale{what=\"tokens\"}") as u64 == 0
        });
        // One is taken away, and SIGHUP does not wait for a second look.
        std::fs::write(given.file(), &good).expect("written");
        program.signal("HUP");
        until("the old token does not pass", || !passes(&added));
        assert!(passes(&steady));
        stop.store(true, Ordering::Relaxed);
    });
    let count = ask(
        &program,
        Some(&steady),
        "POST",
        "/v1/sql",
        "SELECT count(*) FROM running",
    );
    assert_eq!(
        count.json()["rows"][0][0].as_u64(),
        Some(answered.load(Ordering::Relaxed))
    );
}

#[test]
fn a_token_ends_when_its_time_is_over() {
    let given = Given::new(&[("brief", &["--scope", "read", "--expires", "2s"])]);
    let program = given.start();
    let brief = given.token("brief");
    assert_eq!(ask(&program, Some(brief), "GET", "/v1/streams", "").status, 200);
    until("its time is over", || {
        ask(&program, Some(brief), "GET", "/v1/streams", "").status == 401
    });
    let answer = ask(&program, Some(brief), "GET", "/v1/streams", "");
    assert!(
        answer.head.contains("error=\"invalid_token\"") && answer.text().contains("expired"),
        "{answer:?}"
    );
}

#[test]
fn without_usable_tokens_there_is_no_server_and_nothing_secret_is_printed() {
    let given = Given::new(&[("a", &["--scope", "read"])]);
    let config = given.directory.path().join("access.toml");
    let write = |text: &str| std::fs::write(&config, text).expect("written");
    let run = |command: &str| {
        let output = tidemill(&[
            command,
            "--config",
            config.to_str().expect("UTF-8"),
            "--listen",
            "127.0.0.1:0",
        ])
        .current_dir(given.directory.path())
        .output()
        .expect("the binary");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
            output.stdout,
        )
    };
    write(&format!("tokens_file = \"{}\"\n", given.file().display()));
    let (good, said, printed) = run("check");
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(good && printed.contains("tokens_file = "), "{said}");
    let entry = std::fs::read_to_string(given.file()).expect("read");
    let hash = entry
        .split("sha256:")
        .nth(1)
        .and_then(|rest| rest.get(..64))
        .expect("a hash");
    for shown in [&printed, &said] {
        assert!(
            !shown.contains(hash) && !shown.contains(&given.token("a")[9..]),
            "{shown}"
        );
    }
    std::fs::write(
        given.file(),
        format!("[tokens.a]\nhash = \"{}\"\nread = \"all\"\n", given.token("a")),
    )
    .expect("written");
    write(&format!("tokens_file = \"{}\"\n", given.file().display()));
    for command in ["check", "serve"] {
        let (good, said, _) = run(command);
        assert!(!good && said.contains("`hash` is not"), "{said}");
        assert!(!said.contains(&given.token("a")[9..]), "{said}");
    }
    write("tokens_file = \"/nowhere/tokens.toml\"\n");
    let (good, said, _) = run("serve");
    assert!(!good && said.contains("/nowhere/tokens.toml"), "{said}");
    write("tls.key_file = \"/nowhere/key.pem\"\n");
    let (good, said, _) = run("serve");
    assert!(!good && said.contains("tls.certificate_file"), "{said}");
}

/// It may listen for everybody once there are tokens, and only then.
#[test]
fn a_listener_for_other_machines_needs_tokens_or_a_word_of_its_own() {
    let given = Given::new(&[("a", &["--scope", "read"])]);
    let directory = given.directory.path().to_str().expect("UTF-8");
    let refused = tidemill(&["serve", "--listen", "0.0.0.0:0", "--data-dir", directory])
        .current_dir(directory)
        .output()
        .expect("the binary");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("tokens_file") && said.contains("allow_remote"),
        "{said}"
    );
    let config = given.directory.path().join("access.toml");
    let text = format!(
        "tokens_file = \"{}\"\nlisten = [\"127.0.0.1:0\", \"0.0.0.0:0\"]\n",
        given.file().display()
    );
    std::fs::write(&config, text).expect("written");
    let checked = tidemill(&["check", "--config", config.to_str().expect("UTF-8")])
        .current_dir(directory)
        .output()
        .expect("the binary");
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn commands_send_the_token_of_a_file_or_of_the_environment() {
    let given = Given::new(&[("all", &["--scope", "write,read,admin"])]);
    let program = given.start();
    let url = format!("http://{}", program.address);
    let path = given.directory.path().join("token");
    std::fs::write(&path, format!("{}\n", given.token("all"))).expect("written");
    let events = given.directory.path().join("events.ndjson");
    std::fs::write(&events, running(0, 50)).expect("written");
    let replay = [
        "replay",
        events.to_str().expect("UTF-8"),
        "--stream",
        "running",
        "--to",
        &url,
    ];
    let sql = [
        "sql",
        "--url",
        &url,
        "--format",
        "csv",
        "SELECT count(*) AS n FROM running",
    ];
    let refused = tidemill(&sql).output().expect("the binary");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("401"), "{said}");
    let sent = tidemill(&replay)
        .args(["--token-file", path.to_str().expect("UTF-8")])
        .output()
        .expect("the binary");
    assert!(sent.status.success(), "{sent:?}");
    let asked = tidemill(&sql)
        .env("TIDEMILL_TOKEN", given.token("all"))
        .output()
        .expect("the binary");
    assert!(asked.status.success(), "{asked:?}");
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "n\n50\n");
    // No flag takes a token, so none can be seen in a list of processes.
    let help = tidemill(&["replay", "--help"])
        .env("TIDEMILL_TOKEN", "tidemill_x")
        .output()
        .expect("the binary");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(
        !help.contains("--token ") && !help.contains("tidemill_x"),
        "{help}"
    );
}

#[test]
fn the_command_that_makes_tokens_keeps_only_what_it_says() {
    use std::os::unix::fs::PermissionsExt;
    let given = Given::new(&[
        (
            "first",
            &[
                "--scope",
                "write,read",
                "--streams",
                "running,music",
                "--expires",
                "2027-01-01T00:00:00Z",
            ],
        ),
        ("second", &["--scope", "admin"]),
    ]);
    let text = std::fs::read_to_string(given.file()).expect("read");
    for (_, token) in &given.tokens {
        assert!(!text.contains(&token[9..]), "{text}");
        assert_eq!(token.len(), 73);
    }
    let mode = std::fs::metadata(given.file())
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let file = given.file();
    let file = file.to_str().expect("UTF-8");
    let run = |arguments: &[&str]| {
        let output = tidemill(arguments).output().expect("the binary");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), said)
    };
    let (good, listed) = run(&["token", "list", "--file", file]);
    assert!(good);
    assert_eq!(
        listed,
        "first  write: music,running  read: music,running  expires: 2027-01-01T00:00:00Z\nsecond  admin: all\n"
    );
    for wrong in [
        &["token", "new", "first", "--scope", "read", "--file", file][..],
        &["token", "new", "a b", "--scope", "read"],
        &["token", "new", "c"],
        &["token", "new", "c", "--scope", "all"],
        &["token", "new", "c", "--scope", "read", "--streams", "_rejects"],
        &["token", "new", "c", "--scope", "read", "--expires", "tomorrow"],
        &["token", "new", "c", "--scope", "read", "--expires", "0s"],
    ] {
        let (good, said) = run(wrong);
        assert!(!good, "{wrong:?}: {said}");
        assert!(!said.contains("tidemill_"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(given.file()).expect("read"), text);
}
