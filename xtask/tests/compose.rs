//! What no schema says about `docker-compose.yml`: that it is safe to start, and that it scales.
//!
//! Where there is an engine, `docker compose config` knows more; machines that only test have none.

#[path = "compose/yaml.rs"]
mod yaml;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use yaml::Yaml;

/// The services of our own image.
const ROLES: &[&str] = &["ingest", "sink", "sink-postgres", "analytics"];

/// An ordered shutdown takes up to this long (I-7).
const SHUTDOWN_SECONDS: u64 = 30;

#[test]
fn ports_are_published_on_loopback_only() {
    let mut published = 0;
    for (name, service) in services() {
        for port in service.get("ports").map_or(&[][..], Yaml::items) {
            let port = port.text();
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes `{port}`");
            published += 1;
        }
    }
    assert!(published > 0, "nothing can be reached");
}

#[test]
fn a_sink_can_be_scaled() {
    for (name, service) in services() {
        assert!(
            service.get("container_name").is_none(),
            "{name} has a name that only one container can have"
        );
        if name.starts_with("sink") {
            assert!(
                service.get("ports").is_none(),
                "{name} has a port that only one container can have"
            );
        }
    }
}

#[test]
fn every_process_has_time_to_stop_in_order() {
    for (name, service) in services() {
        let period = service
            .get("stop_grace_period")
            .unwrap_or_else(|| panic!("{name} is killed after Docker's 10 s"))
            .text();
        let seconds: u64 = period
            .strip_suffix('s')
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or_else(|| panic!("{name}: `{period}` is not in seconds"));
        assert!(
            seconds > SHUTDOWN_SECONDS,
            "{name} is killed after {seconds} s, and a shutdown takes up to {SHUTDOWN_SECONDS} s"
        );
    }
}

#[test]
fn the_roles_are_one_image_and_wait_for_the_broker() {
    let services = services();
    let images: BTreeSet<&str> = ROLES
        .iter()
        .map(|role| role_of(&services, role).get("image").expect("an image").text())
        .collect();
    assert_eq!(images.len(), 1, "{images:?}");
    for role in ROLES {
        let broker = role_of(&services, role)
            .get("depends_on")
            .and_then(|on| on.get("kafka"));
        let condition = broker.and_then(|broker| broker.get("condition"));
        assert_eq!(condition.map(Yaml::text), Some("service_healthy"), "{role}");
    }
}

#[test]
fn every_service_can_be_asked_whether_it_is_healthy() {
    assert!(read("Dockerfile").contains("\nHEALTHCHECK "));
    for (name, service) in services() {
        let ours = ROLES.contains(&name.as_str());
        assert!(
            ours || service.get("healthcheck").is_some(),
            "{name} has no health check"
        );
    }
}

#[test]
fn what_is_stored_lies_on_volumes() {
    let services = services();
    let volumes = compose();
    let volumes = volumes.get("volumes").expect("volumes");
    for store in ["kafka", "mysql", "postgres", "rabbitmq", "redis"] {
        assert!(volumes.get(store).is_some(), "no volume `{store}`");
        let mounts = role_of(&services, store).get("volumes").expect("mounts");
        let prefix = format!("{store}:/");
        assert!(
            mounts
                .items()
                .iter()
                .any(|mount| mount.text().starts_with(&prefix)),
            "{store}"
        );
    }
    for role in ROLES {
        let mounts = role_of(&services, role).get("volumes").expect("mounts");
        let lake = |mount: &Yaml| mount.text() == "lake:/var/lib/tidemill/lake";
        assert!(mounts.items().iter().any(lake), "{role} has no lake");
    }
}

#[test]
fn secrets_come_from_variables_that_the_example_names() {
    let example = read(".env.example");
    let named: BTreeSet<&str> = example
        .lines()
        .map(|line| line.trim_start_matches("# "))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name))
        .collect();
    let text = read("docker-compose.yml");
    for variable in text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split([':', '}']).next())
    {
        assert!(named.contains(variable), "`.env.example` has no `{variable}`");
    }
    let compose = compose();
    for (name, secret) in compose.get("secrets").expect("secrets").entries() {
        let variable = secret.get("environment").expect("a variable").text();
        assert!(
            named.contains(variable),
            "secret `{name}`: `.env.example` has no `{variable}`"
        );
    }
    for (name, service) in services() {
        for (variable, value) in service.get("environment").map_or(&[][..], Yaml::entries) {
            let secret = variable.contains("PASSWORD") && !variable.contains("RANDOM");
            assert!(
                !secret || value.text().starts_with("${"),
                "{name}: `{variable}` is written into the file"
            );
        }
    }
}

#[test]
fn a_required_secret_has_no_default() {
    let text = read("docker-compose.yml");
    assert!(text.contains("${MYSQL_PASSWORD:?"));
    assert!(
        read(".env.example").contains("\nMYSQL_PASSWORD=\n"),
        "an example is no password"
    );
}

#[test]
fn the_file_of_secrets_is_in_no_commit_and_in_no_image() {
    for file in [".gitignore", ".dockerignore"] {
        let text = read(file);
        assert!(text.lines().any(|line| line == ".env"), "{file}");
    }
}

#[test]
fn the_image_does_not_run_as_root() {
    let text = read("Dockerfile");
    let last_stage = text.rsplit("\nFROM ").next().expect("a stage");
    assert!(last_stage.contains("\nUSER tidemill\n"));
}

#[test]
fn files_that_are_mounted_are_there() {
    let mut checked = 0;
    for (_, service) in services() {
        for mount in service.get("volumes").map_or(&[][..], Yaml::items) {
            let source = mount.text().split(':').next().unwrap_or_default();
            if let Some(file) = source.strip_prefix("./") {
                assert!(root().join(file).exists(), "`{file}` does not exist");
                checked += 1;
            }
        }
    }
    let compose = compose();
    for (_, config) in compose.get("configs").expect("configs").entries() {
        let file = config.get("file").expect("a file").text();
        assert!(root().join(file).exists(), "`{file}` does not exist");
        let text = read(file);
        text.parse::<toml::Table>().expect("TOML");
        checked += 1;
    }
    read("deploy/tidemill.toml").parse::<toml::Table>().expect("TOML");
    assert!(checked > 0, "nothing was checked");
}

fn services() -> Vec<(String, Yaml)> {
    let compose = compose();
    compose.get("services").expect("services").entries().to_vec()
}

fn role_of<'a>(services: &'a [(String, Yaml)], role: &str) -> &'a Yaml {
    let found = services.iter().find(|(name, _)| name == role);
    &found.unwrap_or_else(|| panic!("no service `{role}`")).1
}

fn compose() -> Yaml {
    Yaml::parse(&read("docker-compose.yml"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root")
        .to_owned()
}
