//! Starts recipes: embedded, or over real servers under names of the test's own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::Program;
use crate::tour;

const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes");

/// A file of a recipe.
pub(crate) fn file(recipe: &str, name: &str) -> String {
    let path: PathBuf = [RECIPES, recipe, name].iter().collect();
    path.to_str().expect("UTF-8").to_owned()
}

/// A recipe that runs without other servers.
pub(crate) struct Embedded {
    pub(crate) program: Program,
    /// Its data.
    pub(crate) folder: tempfile::TempDir,
}

/// Starts a recipe as its README begins.
pub(crate) fn embedded(recipe: &str) -> Embedded {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(folder.path(), &["--config", &file(recipe, "tidemill.toml")]);
    Embedded { program, folder }
}

/// Types in the README of a recipe whose server listens on `port`.
pub(crate) fn walk_the_readme(recipe: &str, port: u16) {
    let page = std::fs::read_to_string(file(recipe, "README.md")).expect("the page is there");
    tour::walk(&page, port);
}

/// A variable that says where a server of the tests is. `None`, loudly, when it is not up.
pub(crate) fn server(variable: &str) -> Option<String> {
    let found = std::env::var_os(variable).and_then(|value| value.into_string().ok());
    if found.is_none() {
        let required = std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_some_and(|value| value == "1");
        assert!(!required, "{variable} is not set (cargo xtask services up)");
        println!("SKIPPED: needs {variable} (cargo xtask services up)");
    }
    found
}

/// A name that no other test has, for topics, groups and databases.
pub(crate) fn own_name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    format!("t{}_{}", std::process::id(), since.subsec_nanos())
}

/// What a statement gives in MariaDB, a line a row, with tabs between the columns; or what is wrong with it.
pub(crate) fn mysql(client_arguments: &str, statement: &str) -> Result<String, String> {
    let mut client = Command::new("mariadb");
    client
        .args(client_arguments.split(' '))
        .args(["--batch", "--skip-column-names", "-e", statement]);
    output(&mut client)
}

/// Makes a database of that name in PostgreSQL, beside the one of `url`, and gives where it is.
pub(crate) fn database(url: &str, name: &str) -> url::Url {
    postgres(url, &format!("CREATE DATABASE {name}")).expect("created");
    let mut own = url::Url::parse(url).expect("POSTGRES_URL is a URL");
    own.set_path(name);
    own
}

/// The same in PostgreSQL.
pub(crate) fn postgres(url: &str, statement: &str) -> Result<String, String> {
    let mut client = Command::new("psql");
    client.args([url, "-X", "-q", "-At", "-F", "\t", "-c", statement]);
    output(&mut client)
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8(output.stdout)
        .expect("UTF-8")
        .trim_end()
        .to_owned())
}
