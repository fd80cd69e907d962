//! Where settings come from, and how they become one table: files in order, each with the variables that it names,
//! then the environment, then flags.

use std::path::PathBuf;

use toml::{Table, Value};

use super::interpolation::{Variables, interpolate};
use super::problem::Problems;
use super::settings::{Kind, SETTINGS, Setting};

/// Variables with our prefix that are not settings: of the logs, of `--config` itself, of the tests, and of the
/// commands that ask a server.
const OTHER_VARIABLES: &[&str] = &[
    "TIDEMILL_CA_FILE",
    "TIDEMILL_CONFIG",
    "TIDEMILL_LOG",
    "TIDEMILL_LOG_FORMAT",
    "TIDEMILL_SERVICES_REQUIRED",
    "TIDEMILL_SOAK",
    "TIDEMILL_TOKEN",
    "TIDEMILL_TOKEN_FILE",
    "TIDEMILL_URL",
];

/// Everything that says what the configuration is.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, later ones override by key.
    pub files: Vec<PathBuf>,
    /// The environment; only names that begin with `TIDEMILL_` are looked at.
    pub environment: Vec<(String, String)>,
    /// Names of variables whose value is not UTF-8, or that are not UTF-8 themselves.
    pub unreadable: Vec<String>,
    /// Every variable of the environment, for `${NAME}` in files.
    pub variables: Variables,
    /// Keys and values from the command line, in the form of an environment variable's value.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// Takes the process's environment.
    #[must_use]
    pub fn with_environment(mut self) -> Self {
        for (name, value) in std::env::vars_os() {
            if let Some(name) = name.to_str() {
                self.variables
                    .insert(name.to_owned(), value.to_str().map(str::to_owned));
            }
            if !name.as_encoded_bytes().starts_with(b"TIDEMILL_") {
                continue;
            }
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => self.environment.push((name, value)),
                (Ok(name), Err(_)) => self.unreadable.push(name),
                (Err(name), _) => self.unreadable.push(name.to_string_lossy().into_owned()),
            }
        }
        self
    }
}

/// The token that commands send to a server, from the variable `TIDEMILL_TOKEN`. There is no flag for it: command lines
/// are there for everybody to see.
#[must_use]
pub fn token_of_environment() -> Option<std::ffi::OsString> {
    std::env::var_os("TIDEMILL_TOKEN")
}

/// The database that `generate --into postgres` fills when no flag names one: `POSTGRES_URL`, or what the variables of
/// PostgreSQL's image say, for a database `relay_service`.
#[must_use]
pub fn outbox_url_of_environment() -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    if let Some(url) = variable("POSTGRES_URL") {
        return url;
    }
    let part = |name: &str, default: &str| {
        let value = variable(name).unwrap_or_else(|| default.to_owned());
        utf8_percent_encode(&value, NON_ALPHANUMERIC).to_string()
    };
    let host = variable("POSTGRES_HOST").unwrap_or_else(|| "postgres".to_owned());
    format!(
        "postgres://{}:{}@{host}:{}/{}",
        part("POSTGRES_USER", "postgres"),
        part("POSTGRES_PASSWORD", "postgres"),
        part("POSTGRES_PORT", "5432"),
        part("POSTGRES_DB", "relay_service"),
    )
}

/// One table of everything that was said, not yet checked.
pub(super) fn merge(sources: &Sources) -> Result<Table, Problems> {
    let mut merged = Table::new();
    let mut problems = Problems::default();
    for path in &sources.files {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Err(error) => problems.push(name, format!("read the file: {error}")),
            Ok(text) => match text.parse::<Table>() {
                Err(error) => problems.push(name, format!("not TOML: {}", error.to_string().trim_end())),
                Ok(mut table) => {
                    interpolate(&mut table, &sources.variables, &mut problems);
                    forget_other_way(&mut merged, &table);
                    overlay(&mut merged, table);
                }
            },
        }
    }
    for name in &sources.unreadable {
        problems.push(name.as_str(), "the variable is not UTF-8".to_owned());
    }
    for (name, value) in &sources.environment {
        if OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let taken = super::destinations::set_from_variable(&mut merged, name, value);
        let taken =
            taken.and_then(|taken| Ok(taken || super::assign::set_from_variable(&mut merged, name, value)?));
        match taken {
            Ok(false) => {}
            Ok(true) => continue,
            Err(message) => {
                problems.push(name.as_str(), message);
                continue;
            }
        }
        match SETTINGS.iter().find(|setting| setting.variable() == *name) {
            Some(setting) => set(&mut merged, setting, value),
            None => {
                let names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
                let hint = super::check::hint(name, names.iter().map(String::as_str));
                problems.push(name.as_str(), format!("no setting has this variable{hint}"));
            }
        }
    }
    for (key, value) in &sources.flags {
        if let Some(setting) = Setting::of(key) {
            set(&mut merged, setting, value);
        }
    }
    problems.none()?;
    Ok(merged)
}

/// Sections whose members have secrets.
const WITH_SECRETS: &[&str] = &["destinations", "sources"];

/// A secret is given as it is or by the name of its file; what comes later goes first, in whichever of the two ways.
fn forget_other_way(under: &mut Table, over: &Table) {
    for section in WITH_SECRETS {
        let (Some(Value::Table(under)), Some(Value::Table(over))) =
            (under.get_mut(*section), over.get(*section))
        else {
            continue;
        };
        for (name, over) in over {
            let (Some(Value::Table(under)), Value::Table(over)) = (under.get_mut(name), over) else {
                continue;
            };
            for pair in [["url", "url_file"], ["password", "password_file"]] {
                if pair.iter().any(|key| over.contains_key(*key)) {
                    under.retain(|key, _| !pair.contains(&key));
                }
            }
        }
    }
}

/// Lays `over` on `under`, key by key.
fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Sets a key from text.
fn set(table: &mut Table, setting: &Setting, text: &str) {
    let mut over = value_of_text(setting, text);
    for part in setting.key.rsplit('.') {
        over = Value::Table(Table::from_iter([(part.to_owned(), over)]));
    }
    if let Value::Table(over) = over {
        overlay(table, over);
    }
}

/// A text as what a setting wants. What is not of its kind stays text, which the check then reports.
pub(super) fn value_of_text(setting: &Setting, text: &str) -> Value {
    let value = match setting.kind {
        Kind::Flag => text.parse().map(Value::Boolean).ok(),
        Kind::Count(..) => text.parse().map(Value::Integer).ok(),
        Kind::Texts if text.trim().is_empty() => Some(Value::Array(Vec::new())),
        Kind::Words(_) | Kind::Texts | Kind::Addresses => {
            let parts = text.split(',').map(|part| Value::String(part.trim().to_owned()));
            Some(Value::Array(parts.collect()))
        }
        Kind::Text | Kind::Secret | Kind::Bytes(..) | Kind::Span(..) | Kind::Word(_) | Kind::Properties => {
            None
        }
    };
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}
