//! `GET /docs`: the API for people, as one page that needs no network.
//!
//! Made of the OpenAPI document, so that both say the same.

use std::fmt::Write;
use std::sync::Arc;

use event::{FieldType, StreamDeclaration};
use serde_json::Value;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>Tidemill</title><style>\
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f3f3;border-radius:4px}code{padding:0 .3em}\
pre{padding:.8em;overflow:auto}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3em .6em;\
border-bottom:1px solid #ddd;vertical-align:top}h2{margin-top:2.5rem}.m{font-weight:600;width:4rem}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code,pre{background:#262626}td,th{border-color:#333}}\
</style></head><body><h1>Tidemill</h1>";

/// The page about these streams.
pub(super) fn page(streams: &[Arc<StreamDeclaration>], openapi: &Value) -> String {
    let mut html = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = write!(
        html,
        "<p>Version {}. The same for programs: <a href=\"/openapi.json\"><code>/openapi.json</code></a>.</p>\
         <h2>Requests</h2><table>",
        crate::version::TEXT
    );
    for (path, methods) in openapi["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let _ = write!(
                html,
                "<tr><td class=\"m\">{}</td><td><code>{}</code></td><td>{}</td></tr>",
                escaped(&method.to_uppercase()),
                escaped(path),
                escaped(operation["summary"].as_str().unwrap_or_default())
            );
        }
    }
    html.push_str("</table>");
    for stream in streams {
        let _ = write!(
            html,
            "<h2>Stream <code>{}</code></h2><p>{}</p><table><tr><th>field</th><th>type</th><th></th><th></th></tr>",
            escaped(stream.name.as_str()),
            escaped(&stream.description)
        );
        for field in &stream.fields {
            let _ = write!(
                html,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(&field.path.join(".")),
                escaped(&kind(&field.kind)),
                if field.optional { "optional" } else { "" },
                escaped(&field.description)
            );
        }
        html.push_str("</table>");
    }
    html.push_str("</body></html>\n");
    html
}

fn kind(kind: &FieldType) -> String {
    match kind {
        FieldType::Bool => "bool".to_owned(),
        FieldType::Int { .. } => "int".to_owned(),
        FieldType::Float { .. } => "float".to_owned(),
        FieldType::String { max_bytes } => format!("string, up to {max_bytes} bytes"),
        FieldType::Enum { values } => format!("one of {}", values.join(", ")),
        FieldType::Uuid => "uuid".to_owned(),
        FieldType::Timestamp { unit: None } => "timestamp, RFC 3339".to_owned(),
        FieldType::Timestamp { unit: Some(_) } => "timestamp, an integer since 1970".to_owned(),
        FieldType::Json => "json".to_owned(),
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_declaration_says_is_text_and_never_markup() {
        let mut stream = event::StreamDeclaration::rejects();
        stream.name = event::StreamName::parse("a").expect("a name");
        stream.description = "<script>alert(1)</script>".to_owned();
        let streams = [Arc::new(stream)];
        let page = page(&streams, &super::super::openapi::document(&streams, false));
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;"));
    }
}
