//! `[demo]`: the page at `/demo`, and which stream it shows.
//!
//! Without the section there is no such page. It is nothing special to the server: a page that posts to one of its
//! routes and reads others, so all that it needs to know is their names.

use event::{StreamDeclaration, StreamName};

use super::check::hint;
use super::problem::Problems;

/// Longest path that the page is told of, in bytes.
const PATH_BYTES_MAX: usize = 1_024;

/// What the page at `/demo` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoConfig {
    /// The stream whose events it shows.
    pub stream: StreamName,
    /// The path that it posts batches of events to.
    pub track: String,
    /// The path that answers with the newest events, as an array.
    pub events: String,
}

/// Makes it of the three settings; `None` when there is no stream, which is the default.
pub(super) fn build(
    [stream, track, events]: [&str; 3],
    streams: &[StreamDeclaration],
    problems: &mut Problems,
) -> Option<DemoConfig> {
    for (key, path) in [("demo.track", track), ("demo.events", events)] {
        if let Err(message) = check_path(path) {
            problems.push(key, message);
        }
    }
    if stream.is_empty() {
        return None;
    }
    let declared = streams.iter().find(|declared| declared.name.as_str() == stream);
    let Some(declared) = declared else {
        let names = streams.iter().map(|declared| declared.name.as_str());
        let hint = hint(stream, names);
        problems.push(
            "demo.stream",
            format!("`{stream}` is not a declared stream{hint}"),
        );
        return None;
    };
    Some(DemoConfig {
        stream: declared.name.clone(),
        track: track.to_owned(),
        events: events.to_owned(),
    })
}

/// A path of this server: the page may talk to nobody else.
fn check_path(path: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\?#\"'<>".contains(&byte);
    if !path.starts_with('/') || path.starts_with("//") || !path.bytes().all(plain) {
        return Err(format!("`{path}` is not a path of this server, as \"/track\""));
    }
    if path.len() > PATH_BYTES_MAX {
        let bytes = path.len();
        return Err(format!("has {bytes} bytes, the limit is {PATH_BYTES_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(settings: [&str; 3]) -> (Option<DemoConfig>, Vec<String>) {
        let mut problems = Problems::default();
        let demo = build(settings, &StreamDeclaration::starters(), &mut problems);
        let problems = problems
            .0
            .iter()
            .map(|problem| format!("{}: {}", problem.key, problem.message));
        (demo, problems.collect())
    }

    #[test]
    fn there_is_no_page_unless_a_stream_is_named() {
        assert_eq!(built(["", "/track", "/events"]), (None, Vec::new()));
        let (demo, problems) = built(["tracking", "/track", "/events"]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(demo.expect("a page").stream.as_str(), "tracking");
    }

    #[test]
    fn a_stream_that_is_not_declared_is_refused_with_advice() {
        let (demo, problems) = built(["trackin", "/track", "/events"]);
        assert_eq!(demo, None);
        assert_eq!(
            problems,
            ["demo.stream: `trackin` is not a declared stream, did you mean `tracking`?"]
        );
    }

    #[test]
    fn the_page_is_sent_to_paths_of_this_server_only() {
        for path in [
            "",
            "track",
            "//elsewhere.example/track",
            "https://elsewhere.example",
            "/\\elsewhere",
            "/a b",
            "/a?b=c",
        ] {
            let (_, problems) = built(["tracking", path, "/events"]);
            assert_eq!(problems.len(), 1, "{path}");
            assert!(
                problems[0].contains("is not a path of this server"),
                "{problems:?}"
            );
        }
        let (_, problems) = built(["tracking", "/track", &format!("/{}", "x".repeat(PATH_BYTES_MAX))]);
        assert!(problems[0].contains("the limit is 1024"), "{problems:?}");
    }
}
