//! Which web pages may talk to which routes: `[cors]` for all, `cors = { … }` of a stream and of a route.
//!
//! A browser asks before a page sends to another origin, or shows it the answer. The closest policy counts, as a whole:
//! a route's, else its stream's, else `[cors]`; without one no other page gets an answer. It protects those who use
//! browsers, not the server: who may do what is said by tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use event::StreamName;
use event::units::{format_duration, parse_duration};
use http::HeaderName;
use toml::{Table, Value};

use super::check::hint;
use super::problem::Problems;

const KEYS: &[&str] = &["origins", "credentials", "headers", "max_age"];

/// Headers that a page may send when a policy names none: those that some route looks at.
const HEADERS: &[&str] = &[
    "Accept",
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "traceparent",
    "X-Request-Id",
];

/// For how long a browser may remember what it was told, at most; it forgets after a day at the latest anyway.
pub(super) const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The same when a policy does not say, as it would be written.
pub(super) const AGE_DEFAULT: &str = "10m";

/// Which pages may talk to a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    /// The origins of these pages.
    pub origins: CorsOrigins,
    /// Whether a page may send what the browser keeps for this server: cookies, and every beacon in JSON.
    pub credentials: bool,
    /// Headers that a page may send.
    pub headers: Vec<String>,
    /// For how long the browser need not ask again.
    pub max_age: Duration,
}

/// Origins of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Every page's.
    All,
    /// These, as browsers write them: `https://shop.example`.
    Listed(Vec<String>),
}

/// The policies that are not a single route's.
#[derive(Clone, Debug, Default)]
pub struct CorsConfig {
    /// Where nothing closer is declared.
    pub everywhere: Option<CorsPolicy>,
    /// Of the routes of a stream.
    pub streams: BTreeMap<StreamName, CorsPolicy>,
    /// What is declared for streams, as it was written, for `check`.
    pub(super) shown: BTreeMap<String, Value>,
}

/// A policy as it is written.
pub(super) struct Written<'a> {
    pub(super) origins: Vec<&'a str>,
    pub(super) credentials: bool,
    /// The default ones when empty.
    pub(super) headers: Vec<&'a str>,
    pub(super) max_age: Duration,
}

/// Takes `cors` out of the declarations of streams, which know nothing of browsers.
pub(super) fn take_of_streams(streams: &mut Table, problems: &mut Problems) -> CorsConfig {
    let mut config = CorsConfig::default();
    for (name, stream) in streams.iter_mut() {
        let written = stream.as_table_mut().and_then(|stream| stream.remove("cors"));
        let Some(written) = written else { continue };
        let policy = read(&format!("streams.{name}.cors"), &written, problems);
        // A name that is none is reported with the stream.
        if let (Some(policy), Ok(name)) = (policy, StreamName::parse(name)) {
            config.streams.insert(name, policy);
        }
        config.shown.insert(name.clone(), written);
    }
    config
}

/// Reads the policy of a stream or a route.
pub(super) fn read(key: &str, value: &Value, problems: &mut Problems) -> Option<CorsPolicy> {
    let Value::Table(table) = value else {
        problems.push(
            key,
            "is a section: write `cors = { origins = [\"https://shop.example\"] }`",
        );
        return None;
    };
    for name in table.keys().filter(|name| !KEYS.contains(&name.as_str())) {
        let hint = hint(name, KEYS.iter().copied());
        problems.push(format!("{key}.{name}"), format!("unknown key{hint}"));
    }
    let mut texts = |name: &str| match table.get(name) {
        None => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text.as_str()]),
        Some(Value::Array(list)) if list.iter().all(Value::is_str) => {
            Some(list.iter().filter_map(Value::as_str).collect())
        }
        Some(other) => {
            problems.push(format!("{key}.{name}"), format!("{other} is not a list of texts"));
            None
        }
    };
    let (origins, headers) = (texts("origins"), texts("headers"));
    if !table.contains_key("origins") {
        problems.push(
            format!("{key}.origins"),
            "is missing: which pages may talk to it?",
        );
    }
    let credentials = match table.get("credentials") {
        None => false,
        Some(Value::Boolean(credentials)) => *credentials,
        Some(other) => {
            problems.push(
                format!("{key}.credentials"),
                format!("{other} is not `true` or `false`"),
            );
            false
        }
    };
    let max_age = match table.get("max_age") {
        None => parse_duration(AGE_DEFAULT).map_err(|error| error.to_string()),
        Some(Value::String(text)) => parse_duration(text).map_err(|error| error.to_string()),
        Some(other) => Err(format!("{other} is not a time with a unit, as \"10m\"")),
    };
    let max_age = max_age.and_then(|age| match age {
        age if age > AGE_MAX => Err(format!(
            "`{}` is above the maximum of `{}`",
            format_duration(age),
            format_duration(AGE_MAX)
        )),
        age => Ok(age),
    });
    let max_age = max_age
        .map_err(|message| problems.push(format!("{key}.max_age"), message))
        .ok()?;
    let written = Written {
        origins: origins?,
        credentials,
        headers: headers?,
        max_age,
    };
    Some(policy(key, &written, problems))
}

/// Checks a policy, wherever it was written.
pub(super) fn policy(key: &str, written: &Written<'_>, problems: &mut Problems) -> CorsPolicy {
    let all = written.origins.contains(&"*");
    if all && written.origins.len() > 1 {
        problems.push(
            format!("{key}.origins"),
            "`*` is every origin: write it alone, or name origins",
        );
    }
    if all && written.credentials {
        problems.push(
            format!("{key}.credentials"),
            "cannot be `true` where `origins` is `*`: every page could act for whoever looks at it; name the origins",
        );
    }
    for origin in written.origins.iter().filter(|origin| **origin != "*") {
        if let Err(message) = check_origin(origin) {
            problems.push(format!("{key}.origins"), message);
        }
    }
    for header in &written.headers {
        if *header == "*" && written.credentials {
            let message = "`*` means nothing to a browser where `credentials` is true: name the headers";
            problems.push(format!("{key}.headers"), message);
        } else if HeaderName::from_bytes(header.as_bytes()).is_err() {
            problems.push(
                format!("{key}.headers"),
                format!("`{header}` is no name of a header"),
            );
        }
    }
    let headers = match written.headers.as_slice() {
        [] => HEADERS,
        headers => headers,
    };
    CorsPolicy {
        origins: if all {
            CorsOrigins::All
        } else {
            CorsOrigins::Listed(
                written
                    .origins
                    .iter()
                    .map(|origin| (*origin).to_owned())
                    .collect(),
            )
        },
        credentials: written.credentials,
        headers: headers.iter().map(|header| (*header).to_owned()).collect(),
        max_age: written.max_age,
    }
}

/// An origin must be written as browsers send it, or it would never be equal to one.
fn check_origin(origin: &str) -> Result<(), String> {
    let wrong = |advice: &str| Err(format!("`{origin}` is no origin as browsers write it: {advice}"));
    let Some((scheme, host)) = origin.split_once("://") else {
        return wrong("it begins with a scheme, as \"https://shop.example\"");
    };
    let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if scheme.is_empty() || host.is_empty() || !host.bytes().all(of_host) {
        return wrong("scheme, host and port only, without a path or a `/` at the end");
    }
    if origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong("in lower case");
    }
    if (scheme == "http" && host.ends_with(":80")) || (scheme == "https" && host.ends_with(":443")) {
        return wrong("without the port that the scheme has anyway");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> Vec<String> {
        let table: Table = text.parse().expect("TOML");
        let mut problems = Problems::default();
        read("cors", &table["cors"], &mut problems);
        match problems.none() {
            Ok(()) => Vec::new(),
            Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn a_policy_has_defaults_and_what_it_says() {
        let table: Table =
            "cors = { origins = [\"https://a.example\", \"http://localhost:3000\"], credentials = true, \
                            max_age = \"1h\" }"
                .parse()
                .expect("TOML");
        let mut problems = Problems::default();
        let policy = read("cors", &table["cors"], &mut problems).expect("a policy");
        problems.none().expect("right");
        assert_eq!(
            policy,
            CorsPolicy {
                origins: CorsOrigins::Listed(vec![
                    "https://a.example".to_owned(),
                    "http://localhost:3000".to_owned()
                ]),
                credentials: true,
                headers: HEADERS.iter().map(|header| (*header).to_owned()).collect(),
                max_age: Duration::from_secs(3_600),
            }
        );
    }

    #[test]
    fn what_could_never_work_or_lets_everybody_in_is_refused() {
        assert!(problems_of("cors = { origins = \"*\", headers = [\"*\"] }").is_empty());
        for (wrong, key) in [
            ("cors = true", "cors"),
            ("cors = {}", "origins"),
            ("cors = { origin = \"*\", origins = \"*\" }", "cors.origin"),
            ("cors = { origins = [\"*\"], credentials = true }", "credentials"),
            ("cors = { origins = [\"*\", \"https://a.example\"] }", "origins"),
            ("cors = { origins = [\"https://a.example/\"] }", "origins"),
            ("cors = { origins = [\"https://A.example\"] }", "origins"),
            ("cors = { origins = [\"https://a.example:443\"] }", "origins"),
            ("cors = { origins = [\"a.example\"] }", "origins"),
            ("cors = { origins = [\"null\"] }", "origins"),
            ("cors = { origins = [1] }", "origins"),
            ("cors = { origins = \"*\", credentials = \"yes\" }", "credentials"),
            ("cors = { origins = \"*\", headers = [\"a b\"] }", "headers"),
            (
                "cors = { origins = \"https://a.example\", credentials = true, headers = \"*\" }",
                "headers",
            ),
            ("cors = { origins = \"*\", max_age = 5 }", "max_age"),
            ("cors = { origins = \"*\", max_age = \"2d\" }", "max_age"),
        ] {
            let problems = problems_of(wrong);
            assert!(
                problems.iter().any(|line| line.contains(key)),
                "{wrong}: {problems:?}"
            );
        }
    }
}
