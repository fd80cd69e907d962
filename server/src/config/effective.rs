//! The effective configuration as TOML: what `tidemill check` prints.
//!
//! It can be used as a configuration file again, but for its secrets, which are left out: passwords and keys among
//! Kafka's properties, and the URLs of destinations.

use std::fmt::Write;

use event::units::{format_bytes, format_duration};

use toml::{Table, Value};

use super::assign::AssignConfig;
use super::check::Checked;
use super::interpolation::escaped;
use super::run::Config;
use super::secret::Properties;
use super::settings::{Kind, SETTINGS};

pub(super) fn render(config: &Config) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in SETTINGS {
        let (table, key) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        if table != section {
            section = table;
            let _ = writeln!(text, "\n[{table}]");
        }
        if let Checked::Properties(properties) = &config.values[setting.key] {
            text.push_str(&written_properties(setting.key, properties));
            continue;
        }
        if matches!(setting.kind, Kind::Secret) {
            let _ = writeln!(text, "# {key} is not shown   # {}", setting.about);
            continue;
        }
        let value = written(setting.kind, &config.values[setting.key]);
        let _ = writeln!(text, "{key} = {value}   # {}", setting.about);
    }
    for destination in &config.destinations {
        let section = Table::from_iter([(destination.name.clone(), Value::Table(destination.shown.clone()))]);
        let section = Table::from_iter([("destinations".to_owned(), Value::Table(section))]);
        let _ = writeln!(text, "\n# its url, and a password, are not shown\n{section}");
    }
    for source in &config.sources {
        let section = Table::from_iter([(source.name.clone(), Value::Table(source.shown.clone()))]);
        let section = Table::from_iter([("sources".to_owned(), Value::Table(section))]);
        let _ = writeln!(text, "\n# its urls and passwords are not shown\n{section}");
    }
    for route in &config.routes {
        let section = Table::from_iter([(route.name(), Value::Table(route.shown.clone()))]);
        let section = Table::from_iter([("routes".to_owned(), Value::Table(section))]);
        let _ = writeln!(text, "\n{section}");
    }
    if let Some(assign) = &config.assign {
        let section = Table::from_iter([("assign".to_owned(), Value::Table(assign.shown.clone()))]);
        let _ = writeln!(text, "\n# urls are not shown\n{section}");
    }
    let declared_elsewhere = config
        .assign
        .as_ref()
        .map_or_else(Vec::new, AssignConfig::own_streams);
    for stream in config
        .streams
        .iter()
        .filter(|stream| !declared_elsewhere.contains(&stream.name))
    {
        text.push('\n');
        text.push_str(&stream.to_toml());
    }
    for (stream, cors) in &config.cors.shown {
        let in_section =
            |(name, value): (&str, Value)| Value::Table(Table::from_iter([(name.to_owned(), value)]));
        let stream = in_section((stream, in_section(("cors", cors.clone()))));
        let _ = write!(text, "\n{}", Table::from_iter([("streams".to_owned(), stream)]));
    }
    // What a text of the configuration looks like was put in already.
    escaped(&text)
}

/// Properties in a section of their own, without the values of secrets.
fn written_properties(key: &str, properties: &Properties) -> String {
    let mut text = format!("\n[{key}]\n");
    for (name, value) in properties.shown() {
        let name = Value::from(name);
        let _ = match value {
            Some(value) => writeln!(text, "{name} = {}", Value::from(value)),
            None => writeln!(text, "# {name} is not shown"),
        };
    }
    text
}

fn written(kind: Kind, value: &Checked) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |each: Vec<String>| format!("[{}]", each.join(", "));
    match value {
        Checked::Text(text) => quoted(text),
        Checked::Flag(flag) => flag.to_string(),
        Checked::Number(number) if matches!(kind, Kind::Bytes(..)) => quoted(&format_bytes(*number)),
        Checked::Number(number) => number.to_string(),
        Checked::Span(span) => quoted(&format_duration(*span)),
        Checked::Words(words) => list(words.iter().map(|word| quoted(word)).collect()),
        Checked::Properties(_) => String::new(),
        Checked::Addresses(addresses) => list(addresses.iter().map(|one| quoted(&one.to_string())).collect()),
    }
}
