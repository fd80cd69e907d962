//! Views: the same answers as the general routes and SQL, in another form.

use std::sync::Arc;

use axum::body::Body;
use event::Template;
use http::StatusCode;
use http_body_util::BodyExt;
use rand::RngExt;
use serde_json::{Value, json};

use super::world::{BASE, World, declaration};
use crate::views::{
    EventBody, EventShape, EventView, EventsBody, EventsView, FixedAnswer, Lenient, Meaning, Order,
    Parameters, StatisticsBody, StatisticsView, View, ViewQuestion,
};
use crate::{Analytics, Readable};
use event::moment::rfc3339;

fn stream() -> event::StreamName {
    declaration().name
}

fn template(value: Value) -> Template {
    Template::new(&value)
}

fn parameters(named: &[(&str, Meaning)]) -> Parameters {
    Parameters {
        named: named
            .iter()
            .map(|(name, meaning)| ((*name).to_owned(), meaning.clone()))
            .collect(),
        ..Parameters::default()
    }
}

fn of_field(name: &str) -> Meaning {
    Meaning::Field(name.to_owned())
}

fn events() -> EventsView {
    EventsView {
        stream: stream(),
        shape: None,
        body: EventsBody::array(),
        order: Order::Index,
        limit: None,
        limit_max: 10_000,
    }
}

fn view(events: EventsView) -> View {
    View {
        question: ViewQuestion::Events(events),
        parameters: parameters(&[
            ("from", Meaning::Start),
            ("to", Meaning::End),
            ("n", Meaning::Limit),
            ("skip", Meaning::Offset),
            ("kind", of_field("kind")),
            ("duration", of_field("duration")),
        ]),
        invalid: None,
    }
}

async fn ask_of(analytics: &Analytics, view: View, query: &str) -> (StatusCode, Value) {
    let response = analytics
        .view(&Arc::new(view), Vec::new(), Some(query), &Readable::all())
        .await;
    let (head, body): (_, Body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (head.status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn ask(world: &World, view: View, query: &str) -> Value {
    let (status, answer) = ask_of(&world.analytics, view, query).await;
    assert_eq!(status, StatusCode::OK, "{query}: {answer}");
    answer
}

/// Files, and a tail behind them; received in an order that is not quite the journal's.
async fn filled(seed: u64) -> World {
    let mut world = World::new(seed);
    for record in 0..14 {
        let late = world.rng.random_range(0..4_000_000);
        world.append_received(40, BASE + record * 1_000_000 - late).await;
        if record % 3 == 2 && record < 9 {
            world.roll(3).await;
        }
    }
    world
}

#[tokio::test]
async fn events_in_index_order_are_those_of_the_general_route() {
    let world = filled(31).await;
    let (start, end) = (rfc3339(BASE + 3_600_000_000), rfc3339(BASE + 5 * 3_600_000_000));
    for (query, general) in [
        (String::new(), "limit=10000".to_owned()),
        (
            format!("from={start}&to={end}"),
            format!("start={start}&end={end}&limit=10000"),
        ),
        (
            format!("from={start}&kind=run"),
            format!("start={start}&kind=run&limit=10000"),
        ),
        ("n=7".to_owned(), "limit=7".to_owned()),
        ("n=0".to_owned(), format!("start={end}&end={start}")),
        // An empty value is none.
        ("kind=&n=3".to_owned(), "limit=3".to_owned()),
    ] {
        let (status, page) = world.get(&format!("/v1/streams/run/events?{general}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert_eq!(
            ask(&world, view(events()), &query).await,
            page["events"],
            "{query}"
        );
    }
    let (_, all) = world.get("/v1/streams/run/events?limit=10000").await;
    let all = all["events"].as_array().expect("events").clone();
    assert_eq!(all.len(), 560);
    for (skip, take) in [(0, 5), (100, 50), (355, 30), (555, 30), (560, 1), (100_000, 1)] {
        let found = ask(&world, view(events()), &format!("skip={skip}&n={take}")).await;
        let expected: Vec<_> = all.iter().skip(skip).take(take).cloned().collect();
        assert_eq!(found, Value::Array(expected), "{skip} {take}");
        let found = ask(&world, view(events()), &format!("skip={skip}&n={take}&kind=walk")).await;
        let expected = all
            .iter()
            .filter(|event| event["kind"] == "walk")
            .skip(skip)
            .take(take);
        assert_eq!(
            found,
            Value::Array(expected.cloned().collect()),
            "{skip} {take} of a kind"
        );
    }
}

#[tokio::test]
async fn the_newest_come_as_sql_sorts_them() {
    for seed in 40..44 {
        let world = filled(seed).await;
        for (skip, take, kind) in [
            (0, 30, ""),
            (0, 1, ""),
            (25, 100, "run"),
            (500, 100, ""),
            (0, 600, "ride"),
            (9, 0, ""),
        ] {
            let newest = EventsView {
                order: Order::Newest,
                limit: Some(30),
                shape: Some(
                    EventShape::new(&declaration(), &template(json!(["$_index", "$user_id"])))
                        .expect("columns"),
                ),
                ..events()
            };
            let found = ask(&world, view(newest), &format!("skip={skip}&n={take}&kind={kind}")).await;
            let wanted = if kind.is_empty() {
                String::new()
            } else {
                format!("WHERE kind = '{kind}'")
            };
            let rows = world
                .sql(&format!(
                    "SELECT _index, user_id FROM run {wanted} ORDER BY _received_at DESC, _index DESC LIMIT {take} OFFSET {skip}"
                ))
                .await;
            assert_eq!(found, rows, "seed {seed}: {skip} {take} {kind}");
        }
    }
}

#[tokio::test]
async fn a_cursor_leads_through_everything_once() {
    let world = filled(32).await;
    let body =
        EventsBody::new(&template(json!({"data": "$events", "next": "$next_cursor"}))).expect("a body");
    let pages = || {
        let mut pages = view(EventsView {
            body: body.clone(),
            limit: Some(37),
            ..events()
        });
        pages.parameters = parameters(&[("after", Meaning::Cursor), ("kind", of_field("kind"))]);
        pages
    };
    let (mut indexes, mut after) = (Vec::new(), String::new());
    loop {
        let page = ask(&world, pages(), &format!("kind=run&after={after}")).await;
        indexes.extend(
            page["data"]
                .as_array()
                .expect("events")
                .iter()
                .map(|event| event["_index"].clone()),
        );
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let rows = world
        .sql("SELECT _index FROM run WHERE kind = 'run' ORDER BY _index")
        .await;
    let expected: Vec<_> = rows
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(indexes, expected);
    // As the general route says it.
    let (status, _) = ask_of(&world.analytics, pages(), "after=0000000012").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = ask_of(&world.analytics, pages(), "after=zz").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_answer_is_whole_or_an_error_that_says_what_to_do() {
    let world = filled(33).await;
    let bounded = || {
        let mut bounded = view(EventsView {
            limit_max: 100,
            ..events()
        });
        bounded.invalid = Some(FixedAnswer {
            status: 422,
            body: Some(template(json!({"detail": "$message"}))),
        });
        bounded
    };
    let (status, answer) = ask_of(&world.analytics, bounded(), "").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("shorter range")),
        "{answer}"
    );
    let (status, _) = ask_of(&world.analytics, bounded(), "n=101").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let end = rfc3339(world.model[40].at);
    let fits = ask(&world, bounded(), &format!("to={end}")).await;
    assert_eq!(
        json!(fits.as_array().map(Vec::len)),
        world
            .sql(&format!("SELECT count(*) FROM run WHERE at < '{end}'"))
            .await[0][0]
    );
    assert_eq!(
        ask(&world, bounded(), "n=100").await.as_array().map(Vec::len),
        Some(100)
    );
}

#[tokio::test]
async fn numbers_values_and_parameters_are_strict_or_lenient_as_declared() {
    let world = filled(34).await;
    let lenient = |numbers, values, parameters| {
        let mut lenient = view(EventsView {
            limit: Some(10),
            ..events()
        });
        lenient.parameters.lenient = Lenient {
            numbers,
            values,
            parameters,
        };
        lenient
    };
    for query in [
        "n=-1",
        "n=ten",
        "skip=-5",
        "n=1.5",
        "kind=fly",
        "duration=x",
        "other=1",
        "n=1&n=2",
        "from=soon",
    ] {
        let (status, problem) = ask_of(&world.analytics, lenient(false, false, false), query).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(problem["status"], 400, "{query}");
    }
    let ten = ask(&world, lenient(false, false, false), "").await;
    for query in ["n=-1", "n=ten", "skip=-5", "n=1.5"] {
        assert_eq!(
            ask(&world, lenient(true, false, false), query).await,
            ten,
            "{query}"
        );
    }
    assert_eq!(ask(&world, lenient(false, false, true), "other=1").await, ten);
    for query in ["kind=fly", "duration=x"] {
        assert_eq!(
            ask(&world, lenient(false, true, false), query).await,
            json!([]),
            "{query}"
        );
    }
    let mut required = lenient(false, false, false);
    required.parameters.required = vec!["from".to_owned()];
    let (status, problem) = ask_of(&world.analytics, required, "from=").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(problem["detail"], "`from` is missing");
    let mut utc = lenient(false, false, false);
    utc.parameters.utc = true;
    assert_eq!(
        ask(&world, utc, "from=2000-01-01T00:00:00&to=2000-01-02").await,
        json!([])
    );
}

#[tokio::test]
async fn an_alias_stands_for_several_values() {
    let world = filled(35).await;
    let mut moving = view(events());
    let values = vec!["walk".to_owned(), "run".to_owned()];
    let on_foot = [("FOOT".to_owned(), values)].into();
    moving.parameters.aliases = [("kind".to_owned(), on_foot)].into();
    let found = ask(&world, moving, "kind=FOOT").await;
    let count = world
        .sql("SELECT count(*) FROM run WHERE kind IN ('walk', 'run')")
        .await;
    assert_eq!(json!(found.as_array().map(Vec::len)), count[0][0]);
}

#[tokio::test]
async fn an_event_has_the_shape_that_is_declared() {
    let world = filled(36).await;
    let shape = json!({"id": "$user_id", "at": {"n": "$_index", "extra": "$extra"}, "whole": "$event", "money": "$$5"});
    let shape = EventShape::new(&declaration(), &template(shape)).expect("columns");
    let nth = |index: Option<&str>| {
        let nth = View {
            question: ViewQuestion::Event(EventView {
                stream: stream(),
                shape: Some(shape.clone()),
                body: EventBody::new(&template(json!({"event": "$event"}))).expect("a body"),
                missing: Some(FixedAnswer {
                    status: 404,
                    body: Some(template(json!({"message": "$message"}))),
                }),
            }),
            parameters: parameters(&[("index", Meaning::Index)]),
            invalid: None,
        };
        (
            nth,
            index.map(|index| format!("index={index}")).unwrap_or_default(),
        )
    };
    // In a file, in the tail, at its end.
    for index in [0, 200, 400, 559] {
        let (view, query) = nth(Some(&index.to_string()));
        let found = ask(&world, view, &query).await["event"].clone();
        let (_, general) = world.get(&format!("/v1/streams/run/events/{index}")).await;
        assert_eq!(found["id"], general["user_id"]);
        assert_eq!(found["at"], json!({"n": index, "extra": general["extra"]}));
        assert_eq!(found["money"], "$5");
        let mut whole = general;
        whole
            .as_object_mut()
            .expect("an object")
            .retain(|name, value| !name.starts_with('_') && !value.is_null());
        let moments = ["at"];
        for (name, value) in found["whole"].as_object().expect("an object") {
            if !moments.contains(&name.as_str()) {
                assert_eq!(*value, whole[name], "{name}");
            }
        }
    }
    let (view, query) = nth(Some("560"));
    let (status, answer) = ask_of(&world.analytics, view, &query).await;
    assert_eq!(
        (status, answer),
        (
            StatusCode::NOT_FOUND,
            json!({"message": "`run` has no event 560 yet"})
        )
    );
    let (view, query) = nth(None);
    assert_eq!(
        ask_of(&world.analytics, view, &query).await.0,
        StatusCode::BAD_REQUEST
    );
    let wrong = EventShape::new(&declaration(), &template(json!({"x": "$nothing"})));
    assert_eq!(wrong, Err("nothing".to_owned()));
}

#[tokio::test]
async fn statistics_are_those_of_the_general_route() {
    let world = filled(37).await;
    let statistics = |body: StatisticsBody| View {
        question: ViewQuestion::Statistics(StatisticsView {
            streams: vec![stream()],
            body,
        }),
        parameters: parameters(&[("from", Meaning::Start), ("kind", of_field("kind"))]),
        invalid: None,
    };
    let (_, general) = world.get("/v1/streams/run/stats").await;
    assert_eq!(
        ask(&world, statistics(StatisticsBody::counts()), "").await,
        json!({"run": 560})
    );
    let all = StatisticsBody::all(&[stream()]).expect("a body");
    assert_eq!(
        ask(&world, statistics(all), "").await,
        json!({"run": 560, "statistics": {"run": general}})
    );
    let body = json!({"runs": "$run.count", "longest": "$run.fields.duration.max", "no": "$run.x.y"});
    let body = StatisticsBody::new(&[stream()], &template(body)).expect("a body");
    let from = rfc3339(BASE + 3_600_000_000);
    let (_, general) = world
        .get(&format!("/v1/streams/run/stats?start={from}&kind=run"))
        .await;
    let found = ask(&world, statistics(body), &format!("from={from}&kind=run")).await;
    let longest = &general["fields"]["duration"]["max"];
    assert_eq!(
        found,
        json!({"runs": general["count"], "longest": longest, "no": null})
    );
}

#[tokio::test]
async fn a_view_of_a_stream_that_may_not_be_read_finds_nothing() {
    let world = filled(38).await;
    let view = Arc::new(view(events()));
    let response = world
        .analytics
        .view(&view, Vec::new(), None, &Readable::only(["other"]))
        .await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}
