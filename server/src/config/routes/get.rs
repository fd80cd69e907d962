//! `[routes."GET /path"]`: a question of the user's own, or an answer that is always the same.
//!
//! | `answer` | what is told |
//! |---|---|
//! | `events` | the events that pass |
//! | `event` | the nth event |
//! | `counts`, `stats` | how many events streams have; and everything else that statistics know |
//! | `fixed` | what is written here, when wanted only while the process is ready |

use std::sync::Arc;

use analytics::views::{
    EVENTS_MAX, EventBody, EventView, EventsBody, EventsView, FixedAnswer, Meaning, NEWEST_EVENTS_MAX, Order,
    StatisticsBody, StatisticsView, View, ViewQuestion,
};
use event::Template;

use super::answer::{AnswerConfig, status, unknown_place};
use super::reading::{Reading, names};
use super::{RoutePath, parameters, shape};

/// What a GET route does.
#[derive(Clone, Debug)]
pub enum GetConfig {
    /// Asks what is stored.
    View(Arc<View>),
    /// Answers what is written here.
    Fixed(FixedConfig),
}

/// An answer that is always the same.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedConfig {
    /// The answer.
    pub answer: AnswerConfig,
    /// The answer of a process that is not ready; absent when that makes no difference.
    pub unready: Option<AnswerConfig>,
}

const ANSWERS: &[&str] = &["events", "event", "counts", "stats", "fixed"];
/// Keys of every view.
const VIEW_KEYS: &[&str] = &[
    "answer",
    "body",
    "parameters",
    "required",
    "aliases",
    "lenient",
    "zone",
    "invalid",
];
const EVENTS_KEYS: &[&str] = &["stream", "columns", "shape", "order", "limit", "limit_max"];
const EVENT_KEYS: &[&str] = &["stream", "columns", "shape", "missing"];
const STATISTICS_KEYS: &[&str] = &["stream", "streams"];
const FIXED_KEYS: &[&str] = &["answer", "status", "body", "ready", "unready"];
/// Words of `order`.
const ORDERS: &[&str] = &["index", "-_received_at"];

/// Most events of an answer with the newest first, when nothing is said.
const NEWEST_LIMIT_MAX: usize = 10_000;
/// Most events of another answer, when nothing is said.
const LIMIT_MAX: usize = 1_000_000;

/// Reads the section.
pub(super) fn read(reading: &mut Reading<'_>, path: &RoutePath) -> Option<GetConfig> {
    if reading.value("answer").is_none() {
        reading.problem("answer", format!("is missing: one of {}", ANSWERS.join(", ")));
        return None;
    }
    let view = match reading.word("answer", ANSWERS)? {
        "events" => events(reading, path),
        "event" => event(reading, path),
        "counts" => statistics(reading, path, false),
        "stats" => statistics(reading, path, true),
        _ => return fixed(reading, path).map(GetConfig::Fixed),
    };
    view.map(|view| GetConfig::View(Arc::new(view)))
}

fn known(reading: &mut Reading<'_>, more: &[&str]) {
    let keys: Vec<&str> = VIEW_KEYS.iter().chain(more).copied().collect();
    reading.unknown_keys(&keys);
}

fn events(reading: &mut Reading<'_>, path: &RoutePath) -> Option<View> {
    known(reading, EVENTS_KEYS);
    let order = match reading.word("order", ORDERS) {
        Some("-_received_at") => Order::Newest,
        _ => Order::Index,
    };
    let (max, default_max) = match order {
        Order::Newest => (NEWEST_EVENTS_MAX, NEWEST_LIMIT_MAX),
        Order::Index => (EVENTS_MAX, LIMIT_MAX),
    };
    let limit_max = count(reading, "limit_max", max).unwrap_or(default_max);
    let limit = count(reading, "limit", limit_max);
    if order == Order::Newest && reading.value("limit").is_none() {
        reading.problem(
            "limit",
            "is missing: how many of the newest events, when a request does not say it?",
        );
    }
    let body = body(reading, EventsBody::new).unwrap_or_else(EventsBody::array);
    let meanings = ["start", "end", "limit", "offset", "cursor"];
    let stream = reading.stream();
    let parameters = parameters::read(reading, path, stream.as_slice(), &meanings, &[]);
    let tells = body.has_cursor();
    let takes = parameters
        .named
        .iter()
        .any(|(_, meaning)| *meaning == Meaning::Cursor);
    if tells != takes {
        reading.problem(
            "parameters",
            "a parameter that means `cursor` and the place `$next_cursor` in the body need each other",
        );
    }
    if takes && order == Order::Newest {
        reading.problem(
            "order",
            "a cursor is a place in the order of the index; use `offset` here",
        );
    }
    let invalid = invalid(reading);
    let stream = stream?;
    let view = EventsView {
        stream: stream.name.clone(),
        shape: shape::read(reading, stream),
        body,
        order,
        limit,
        limit_max,
    };
    Some(View {
        question: ViewQuestion::Events(view),
        parameters,
        invalid,
    })
}

fn event(reading: &mut Reading<'_>, path: &RoutePath) -> Option<View> {
    known(reading, EVENT_KEYS);
    let body = body(reading, EventBody::new).unwrap_or_else(EventBody::bare);
    let stream = reading.stream();
    let parameters = parameters::read(reading, path, &[], &["index"], &["index"]);
    if !parameters
        .named
        .iter()
        .any(|(_, meaning)| *meaning == Meaning::Index)
    {
        reading.problem(
            "parameters",
            "none means `index`: write `{ index = \"index\" }`, or `{index}` in the path",
        );
    }
    let missing = reading
        .answer("missing", 404, FixedAnswer::PLACES)
        .map(fixed_answer);
    let invalid = invalid(reading);
    let stream = stream?;
    let view = EventView {
        stream: stream.name.clone(),
        shape: shape::read(reading, stream),
        body,
        missing,
    };
    Some(View {
        question: ViewQuestion::Event(view),
        parameters,
        invalid,
    })
}

fn statistics(reading: &mut Reading<'_>, path: &RoutePath, all: bool) -> Option<View> {
    known(reading, STATISTICS_KEYS);
    let streams = reading.streams();
    let of = names(&streams);
    let body = if reading.value("body").is_some() {
        body(reading, |template| StatisticsBody::new(&of, template))
    } else if all {
        let body = StatisticsBody::all(&of);
        body.map_err(|message| reading.problem("body", message)).ok()
    } else {
        Some(StatisticsBody::counts())
    };
    let parameters = parameters::read(reading, path, &streams, &["start", "end", "interval", "by"], &[]);
    let invalid = invalid(reading);
    if of.is_empty() {
        return None;
    }
    Some(View {
        question: ViewQuestion::Statistics(StatisticsView {
            streams: of,
            body: body?,
        }),
        parameters,
        invalid,
    })
}

fn fixed(reading: &mut Reading<'_>, path: &RoutePath) -> Option<FixedConfig> {
    reading.unknown_keys(FIXED_KEYS);
    reading.no_parameters(path);
    let status = status(reading, 200);
    let body = template(reading, "body");
    if let Some(place) = body.as_ref().and_then(|body| body.places().next()) {
        reading.problem("body", unknown_place(place, &[]));
    }
    if reading.value("unready").is_some() && reading.value("ready").is_none() {
        reading.problem("unready", "is told by nobody without `ready = true`");
    }
    let unready = if reading.flag("ready") == Some(true) {
        let declared = reading.answer("unready", 503, &[]);
        let not_ready = Template::new(&serde_json::json!({ "ready": false }));
        Some(declared.unwrap_or(AnswerConfig {
            status: 503,
            body: Some(not_ready),
        }))
    } else {
        None
    };
    Some(FixedConfig {
        answer: AnswerConfig { status, body },
        unready,
    })
}

fn count(reading: &mut Reading<'_>, key: &str, max: usize) -> Option<usize> {
    let max = u64::try_from(max).unwrap_or(u64::MAX);
    usize::try_from(reading.count(key, 1, max)?).ok()
}

fn template(reading: &mut Reading<'_>, key: &str) -> Option<Template> {
    reading.json(key).map(|body| Template::new(&body))
}

/// A body with the places that `of` knows.
fn body<T>(reading: &mut Reading<'_>, of: impl Fn(&Template) -> Result<T, String>) -> Option<T> {
    let template = template(reading, "body")?;
    of(&template)
        .map_err(|message| reading.problem("body", message))
        .ok()
}

fn invalid(reading: &mut Reading<'_>) -> Option<FixedAnswer> {
    reading
        .answer("invalid", 400, FixedAnswer::PLACES)
        .map(fixed_answer)
}

fn fixed_answer(config: AnswerConfig) -> FixedAnswer {
    FixedAnswer {
        status: config.status,
        body: config.body,
    }
}
