//! Which routes are taken, and what is said about those that are not.

use super::super::problem::Problems;
use super::*;

fn read(text: &str) -> Result<Vec<RouteConfig>, String> {
    let merged: Table = text.parse().expect("TOML");
    let mut problems = Problems::default();
    let found = routes(&merged, &StreamDeclaration::starters(), &mut problems);
    problems.none().map_err(|problems| problems.to_string())?;
    Ok(found)
}

/// Whether each part is among what is said.
fn refused(text: &str, parts: &[&str]) {
    let said = read(text).expect_err("refused");
    for part in parts {
        assert!(said.contains(part), "`{part}` in {said}");
    }
    assert_eq!(said.lines().count(), parts.len() + 1, "{said}");
}

#[test]
fn every_form_of_a_route_is_read() {
    let found = read(
        r#"
        [routes."GET /events"]
        stream = "tracking"
        answer = "events"
        body = { status = "success", data = "$events" }
        columns = { event_type = "type", _received_at = "received_at" }
        parameters = { event_type = "event_type", kind = { field = "location_type" }, limit = "limit", offset = "offset" }
        aliases.event_type.HOVER = ["HOVER_ENTER", "HOVER_LEAVE"]
        aliases.location_type.ANY = ["PAGE", "COMPONENT"]
        order = "-_received_at"
        limit = 30
        lenient = ["numbers"]
        invalid = { status = 422, body = { error = "$message" } }

        [routes."GET /stats/running"]
        stream = "running"
        answer = "events"
        parameters = { start_timestamp = "start", end_timestamp = "end" }
        required = ["start_timestamp"]
        zone = "utc"

        [routes."GET /pages"]
        stream = "running"
        answer = "events"
        body = { data = "$events", next = "$next_cursor" }
        shape = { id = "$user_id", at = "$_index", all = "$event" }
        parameters = { after = "cursor" }

        [routes."GET /music/{index}"]
        stream = "music"
        answer = "event"
        missing = { status = 404, body = { message = "no such event" } }

        [routes."GET /running"]
        stream = "running"
        answer = "event"
        body = { event = "$event" }
        parameters = { n = "index" }

        [routes."GET /stats"]
        streams = ["running", "music"]
        answer = "stats"

        [routes."GET /stats/busy"]
        streams = ["running", "music"]
        answer = "counts"
        body = { runs = "$running.count", longest = "$running.fields.duration.max", all = "$counts" }

        [routes."GET /health"]
        answer = "fixed"
        ready = true
        body = { status = "ok" }

        [routes."POST /run"]
        stream = "running"

        [routes."WS /live"]
        stream = "running"
        "#,
    );
    let found = found.unwrap_or_else(|problems| panic!("{problems}"));
    let names: Vec<_> = found.iter().map(RouteConfig::name).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    assert!(names.contains(&"GET /music/{index}".to_owned()), "{names:?}");
}

#[test]
fn a_path_is_given_once() {
    refused(
        r#"
        [routes."GET /a/{x}"]
        stream = "running"
        answer = "event"
        parameters = { x = "index" }
        [routes."GET /a/{y}"]
        stream = "running"
        answer = "event"
        parameters = { y = "index" }
        [routes."WS /a/{z}"]
        stream = "running"
        [routes."POST /stats/running"]
        stream = "running"
        [routes."GET /livez"]
        answer = "fixed"
        [routes."PUT /x"]
        stream = "running"
        "#,
        &[
            "routes.\"GET /a/{y}\": is taken already: `GET /a/{x}`",
            "routes.\"WS /a/{z}\": is taken already",
            "the path's parameter `{z}` means nothing here",
            "routes.\"POST /stats/running\": is taken already: the `routes` of stream `running`",
            "`/livez` is one of the program's own paths",
            "`PUT` is not one of GET, POST, WS",
        ],
    );
}

#[test]
fn all_that_is_wrong_with_views_is_said_at_once() {
    refused(
        r#"
        [routes."GET /a"]
        answer = "event"
        stream = "runing"
        [routes."GET /b"]
        answer = "evens"
        stream = "running"
        [routes."GET /c"]
        answer = "events"
        stream = "running"
        order = "-_received_at"
        colums = ["user_id"]
        parameters = { x = "durtion", y = "limit", z = "limit" }
        required = ["w"]
        aliases.user_id.me = ["x"]
        limit_max = 0
        lenient = ["number"]
        body = { data = "$event" }
        [routes."GET /d"]
        answer = "stats"
        streams = ["running", "running"]
        body = { n = "$music.count" }
        parameters = { u = "user_id" }
        [routes."GET /e"]
        answer = "fixed"
        body = "$events"
        unready = { status = 503 }
        status = 1000
        [routes."GET /f"]
        answer = "events"
        stream = "tracking"
        columns = ["event_id", "evnt_type"]
        parameters = { t = "location_type", c = "cursor" }
        aliases.location_type.X = ["PAGES"]
        "#,
        &[
            "routes.\"GET /a\".stream: no stream `runing` is declared, did you mean `running`?",
            "routes.\"GET /a\".parameters: none means `index`",
            "routes.\"GET /b\".answer: `evens` is not one of events, event, counts, stats, fixed, did you mean",
            "routes.\"GET /c\".colums: unknown key, did you mean `columns`?",
            "routes.\"GET /c\".limit_max: 0 is not a whole number from 1",
            "routes.\"GET /c\".limit: is missing",
            "routes.\"GET /c\".body: `$event` is no place",
            "routes.\"GET /c\".parameters.x: `durtion` is no field of `running` and not one of",
            "routes.\"GET /c\".parameters: `y` and `z` mean the same",
            "routes.\"GET /c\".required: `w` is none of the parameters",
            "routes.\"GET /c\".lenient: `number` is not one of numbers, values, parameters",
            "routes.\"GET /c\".aliases.user_id: no parameter means the field `user_id`",
            "routes.\"GET /d\".streams: `running` is there twice",
            "routes.\"GET /d\".body: `$music.count` is no place",
            "routes.\"GET /d\".parameters.u: `user_id` is, for several streams, not one of",
            "routes.\"GET /e\".status: 1000 is not a whole number from 200 to 599",
            "routes.\"GET /e\".body: `$events` is no place: there are none here",
            "routes.\"GET /e\".unready: is told by nobody without `ready = true`",
            "routes.\"GET /f\".aliases.location_type.X: `PAGES` is not one of the field's values, did you mean `PAGE`?",
            "routes.\"GET /f\".parameters: a parameter that means `cursor`",
            "routes.\"GET /f\".columns: stream `tracking` has no column `evnt_type`, did you mean `event_type`?",
        ],
    );
}
