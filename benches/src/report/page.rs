//! The page as a whole: head, contents, sections.

use serde_json::{Map, Value};

use super::{Parts, escaped, sections};

const STYLE: &str = include_str!("page.css");

/// The page as one file.
pub(super) fn page(parts: &Parts) -> String {
    let mut contents = Vec::new();
    let mut body = String::new();
    let mut add = |id: &str, title: &str, head: Option<&Map<String, Value>>, text: String| {
        contents.push(format!("<a href=\"#{id}\">{title}</a>"));
        let head = head.map(run).unwrap_or_default();
        body.push_str(&format!(
            "<section id=\"{id}\"><h2>{title}</h2>{head}{text}</section>"
        ));
    };
    if let Some(document) = &parts.scenarios {
        let text = sections::scenarios(document, &parts.history);
        add("scenarios", "End to end", Some(&document.head), text);
        let text = sections::criterion(&document.criterion_median_ns);
        if !text.is_empty() {
            add("criterion", "Single stages", None, text);
        }
    }
    if let Some(peers) = &parts.peers {
        add(
            "peers",
            "Beside others",
            Some(&peers.head),
            sections::peers(peers),
        );
    }
    if let Some(growth) = &parts.growth {
        add(
            "growth",
            "Cost of growth",
            Some(&growth.head),
            sections::growth(growth),
        );
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Tidemill: measurements</title><style>{STYLE}</style></head><body>\
         <h1>Tidemill: measurements</h1><nav>{}</nav>{body}</body></html>\n",
        contents.join(" ")
    )
}

/// When and where a run was made.
fn run(head: &Map<String, Value>) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => escaped(text),
        other => escaped(&other.to_string()),
    };
    let empty = Value::Null;
    let of = |key: &str| text(head.get(key).unwrap_or(&empty));
    let machine = |key: &str| text(&head.get("machine").unwrap_or(&empty)[key]);
    let commit: String = of("commit").chars().take(12).collect();
    let changed = match head.get("changed") {
        Some(Value::Bool(true)) => ", with changes that are not committed",
        _ => "",
    };
    format!(
        "<p class=\"soft\">{} · commit {commit}{changed} · {} cores of {}, {}, Linux {} · load average before: {}</p>",
        of("date"),
        machine("cores"),
        machine("cpu"),
        machine("memory"),
        machine("kernel"),
        of("load_average_before"),
    )
}
