//! The effective configuration as TOML: what `tidemill check` prints.
//!
//! It can be used as a configuration file again. There is no secret among today's settings; what gets one must
//! be left out here.

use std::fmt::Write;

use event::units::{format_bytes, format_duration};

use super::check::Checked;
use super::run::Config;
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
        let value = written(setting.kind, &config.values[setting.key]);
        let _ = writeln!(text, "{key} = {value}   # {}", setting.about);
    }
    for stream in &config.streams {
        text.push('\n');
        text.push_str(&stream.to_toml());
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
        Checked::Addresses(addresses) => list(addresses.iter().map(|one| quoted(&one.to_string())).collect()),
    }
}
