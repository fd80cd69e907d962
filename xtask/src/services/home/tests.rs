//! Ports, words and what is remembered, without a server.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("tidemill-home-{}", random_word().expect("random"));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn ports_are_free_and_differ() {
    let scratch = Scratch::new();
    let mut home = Home::open(scratch.0.clone()).expect("opens");
    drop(home.choose_ports(&["a", "b", "c"]).expect("chooses"));
    let ports: BTreeSet<_> = ["a", "b", "c"].map(|name| home.value(name).to_owned()).into();
    assert_eq!(ports.len(), 3);
    for port in ports {
        assert!(
            bind(port.parse().expect("a number")).is_some(),
            "`{port}` is taken"
        );
    }
}

#[test]
fn ports_stay_unless_somebody_took_them() {
    let scratch = Scratch::new();
    let mut home = Home::open(scratch.0.clone()).expect("opens");
    drop(home.choose_ports(&["a", "b"]).expect("chooses"));
    let (a, b) = (home.value("a").to_owned(), home.value("b").to_owned());
    let _thief = bind(a.parse().expect("a number")).expect("is free");

    let mut again = Home::open(scratch.0.clone()).expect("opens");
    drop(again.choose_ports(&["a", "b"]).expect("chooses"));

    assert_ne!(again.value("a"), a);
    assert_eq!(again.value("b"), b);
}

#[test]
fn secrets_are_kept_and_only_the_owner_reads_them() {
    let scratch = Scratch::new();
    let mut home = Home::open(scratch.0.clone()).expect("opens");
    home.choose_secrets(&["password"]).expect("chooses");
    let mut again = Home::open(scratch.0.clone()).expect("opens");
    again.choose_secrets(&["password"]).expect("chooses");
    assert_eq!(again.value("password"), home.value("password"));
    assert_eq!(home.value("password").len(), 24);

    let mode = fs::metadata(scratch.0.join("values"))
        .expect("is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[test]
fn the_tail_of_a_log_is_bounded() {
    let scratch = Scratch::new();
    let home = Home::open(scratch.0.clone()).expect("opens");
    assert!(home.log_tail().contains("no log"));
    fs::write(home.log(), "line\n".repeat(100_000) + "the end\n").expect("writes");
    let tail = home.log_tail();
    assert!(tail.len() < 10_000, "{}", tail.len());
    assert!(tail.ends_with("  | the end\n"), "{tail}");
}
