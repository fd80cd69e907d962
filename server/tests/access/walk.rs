//! Every token at every route about every stream, and what the answers may tell of streams that are not the token's.

use super::*;

/// Method, path, body, and the statuses for no token, an unknown one, and each of [`WALKERS`].
const WALK: &[(&str, &str, &str, [u16; 9])] = &[
    ("GET", "/livez", "", [200, 200, 200, 200, 200, 200, 200, 200, 200]),
    (
        "GET",
        "/readyz",
        "",
        [200, 200, 200, 200, 200, 200, 200, 200, 200],
    ),
    (
        "GET",
        "/version",
        "",
        [401, 401, 200, 200, 200, 200, 200, 200, 200],
    ),
    (
        "GET",
        "/openapi.json",
        "",
        [401, 401, 200, 200, 200, 200, 200, 200, 200],
    ),
    ("GET", "/docs", "", [200, 200, 200, 200, 200, 200, 200, 200, 200]),
    ("POST", "/docs", "", [405, 405, 405, 405, 405, 405, 405, 405, 405]),
    (
        "GET",
        "/metrics",
        "",
        [401, 401, 200, 403, 403, 200, 403, 403, 200],
    ),
    (
        "GET",
        "/v1/streams",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/stats",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/sql?q=SELECT%201",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "POST",
        "/v1/sql",
        "SELECT 1",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "DELETE",
        "/v1/sql",
        "",
        [401, 401, 405, 403, 405, 403, 403, 405, 403],
    ),
    // The stream that some may use.
    (
        "GET",
        "/v1/streams/open",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/op%65n",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/open/events",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "HEAD",
        "/v1/streams/open/events",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/open/events/0",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/open/events/99",
        "",
        [401, 401, 404, 403, 404, 403, 403, 404, 403],
    ),
    (
        "GET",
        "/v1/streams/open/stats",
        "",
        [401, 401, 200, 403, 200, 403, 403, 200, 403],
    ),
    (
        "GET",
        "/v1/streams/open/nothing",
        "",
        [401, 401, 404, 403, 404, 403, 403, 404, 403],
    ),
    (
        "POST",
        "/v1/streams/open/events",
        "{\"n\":2}",
        [401, 401, 200, 200, 403, 403, 200, 403, 403],
    ),
    (
        "PUT",
        "/v1/streams/open/events",
        "{\"n\":2}",
        [401, 401, 405, 405, 403, 403, 405, 403, 403],
    ),
    (
        "DELETE",
        "/v1/streams/open",
        "",
        [401, 401, 405, 403, 405, 403, 403, 405, 403],
    ),
    // The stream that only those know of who may use all.
    (
        "GET",
        "/v1/streams/secret_one",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/secret%5fone",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/secret_one/events",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/secret_one/events/0",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/secret_one/stats",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/v1/streams/secret_one/events",
        "{\"n\":2}",
        [401, 401, 200, 200, 403, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/secret/route",
        "{\"n\":2}",
        [401, 401, 200, 200, 403, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/secret/route",
        "",
        [401, 401, 405, 405, 403, 403, 403, 403, 403],
    ),
    // What does not exist looks like what is hidden to all but those.
    (
        "GET",
        "/v1/streams/nobody",
        "",
        [401, 401, 404, 403, 404, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/nobody/events",
        "",
        [401, 401, 404, 403, 404, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/v1/streams/nobody/events",
        "{\"n\":2}",
        [401, 401, 404, 404, 403, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/nobody/route",
        "{\"n\":2}",
        [401, 401, 404, 404, 404, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/nobody/route",
        "",
        [401, 401, 404, 404, 404, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/",
        "",
        [401, 401, 404, 403, 404, 403, 403, 403, 403],
    ),
    ("GET", "/v1", "", [401, 401, 404, 404, 404, 403, 403, 403, 403]),
    (
        "GET",
        "/v1/streams/open%2Fevents",
        "",
        [401, 401, 404, 403, 404, 403, 403, 403, 403],
    ),
    ("OPTIONS", "*", "", [401, 401, 404, 404, 404, 403, 403, 403, 403]),
    // What was rejected has lines of every stream.
    (
        "GET",
        "/v1/streams/_rejects/events",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/v1/streams/_rejects",
        "",
        [401, 401, 200, 403, 200, 403, 403, 403, 403],
    ),
    (
        "POST",
        "/v1/streams/_rejects/events",
        "{}",
        [401, 401, 405, 405, 403, 403, 403, 403, 403],
    ),
];

#[test]
fn every_token_at_every_route_about_every_stream() {
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let unknown = format!("tidemill_{}", "0".repeat(64));
    let mut tokens = vec![None, Some(unknown.as_str())];
    tokens.extend(WALKERS.iter().map(|(name, _)| Some(given.token(name))));
    let mut wrong = Vec::new();
    for (method, path, body, expected) in WALK {
        for (at, token) in tokens.iter().enumerate() {
            let answer = ask(&program, *token, method, path, body);
            if answer.status != expected[at] {
                wrong.push(format!(
                    "{method} {path}, token {at}: {} for {}",
                    answer.status, expected[at]
                ));
            }
            let challenge = answer
                .head
                .contains("\r\nwww-authenticate: bearer realm=\"tidemill\"");
            assert_eq!(
                challenge,
                [401, 403].contains(&answer.status),
                "{method} {path}: {}",
                answer.head
            );
            if challenge {
                assert!(
                    answer.head.contains("application/problem+json"),
                    "{}",
                    answer.head
                );
                let invalid = answer.head.contains("error=\"invalid_token\"");
                assert_eq!(invalid, at == 1, "{method} {path}, token {at}: {}", answer.head);
                let scope = answer.head.contains("error=\"insufficient_scope\"");
                assert_eq!(scope, answer.status == 403, "{}", answer.head);
            }
            // Whoever may use `open` only must see nothing of another stream, in whatever answer.
            let restricted = at >= 6;
            let whole = format!("{}{}", answer.head, answer.text());
            assert!(
                !(restricted && whole.contains("secret")),
                "{method} {path}, token {at}: {whole}"
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a token that may read `open` only gets for a statement about another stream is what a name that nobody has
/// gets.
#[test]
fn sql_knows_only_the_streams_that_a_token_may_read() {
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let some = Some(given.token("read-open"));
    let sql = |token, statement: &str| ask(&program, token, "POST", "/v1/sql", statement);
    for statement in [
        "SELECT count(*) FROM STREAM",
        "SELECT count(*) FROM \"STREAM\"",
        "SELECT count(*) FROM public.STREAM",
        "SELECT count(*) FROM tidemill.public.STREAM",
        "SELECT * FROM open JOIN STREAM ON open.n = STREAM.n",
        "SELECT * FROM open, STREAM",
        "SELECT (SELECT max(n) FROM STREAM) FROM open",
        "SELECT n FROM open WHERE n IN (SELECT n FROM STREAM)",
        "SELECT n FROM open WHERE EXISTS (SELECT 1 FROM STREAM)",
        "WITH a AS (SELECT * FROM STREAM) SELECT * FROM a",
        "SELECT n FROM open UNION ALL SELECT n FROM STREAM",
        "SELECT n FROM (SELECT n FROM (SELECT n FROM STREAM))",
        "DESCRIBE STREAM",
        "SHOW COLUMNS FROM STREAM",
        "EXPLAIN SELECT * FROM STREAM",
        "EXPLAIN ANALYZE SELECT * FROM STREAM",
        "SELECT _index, * FROM STREAM",
    ] {
        for (hidden, nobody) in [("secret_one", "nobodyness"), ("_rejects", "_nobodys")] {
            let found = sql(some, &statement.replace("STREAM", hidden));
            let absent = sql(some, &statement.replace("STREAM", nobody));
            assert_eq!(
                found.status,
                absent.status,
                "{statement}: {} {}",
                found.text(),
                absent.text()
            );
            assert!(found.status >= 400, "{statement}: {}", found.text());
            let said = found.text().replace(hidden, nobody);
            assert_eq!(said, absent.text(), "{statement}");
        }
        let all = sql(
            Some(given.token("read")),
            &statement.replace("STREAM", "secret_one"),
        );
        assert_eq!(all.status, 200, "{statement}: {}", all.text());
    }
    // Names of one's own may be anything, and show nothing either.
    for name in ["secret_one", "nobodyness"] {
        let statement = format!("WITH {name} AS (SELECT 1 AS a) SELECT *, '_index' AS b FROM {name}");
        let answer = sql(some, &statement);
        assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
    }
    for statement in [
        "SHOW TABLES",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.views",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM open",
    ] {
        let answer = sql(some, statement);
        assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
        let text = answer.text();
        assert!(
            !text.contains("secret") && !text.contains("_rejects"),
            "{statement}: {text}"
        );
    }
    let tables = sql(
        some,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
    );
    assert_eq!(tables.json()["rows"], serde_json::json!([["open"]]));
    let tables = sql(
        Some(given.token("read")),
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'",
    );
    assert_eq!(tables.json()["rows"], serde_json::json!([[4]]));
}

#[test]
fn lists_documents_and_metrics_are_about_the_streams_of_the_token() {
    let given = Given::new(&WALKERS);
    let program = three_streams(&given);
    let get = |name: &str, path: &str| ask(&program, Some(given.token(name)), "GET", path, "").text();
    for (name, path) in [
        ("read-open", "/v1/streams"),
        ("read-open", "/v1/stats"),
        ("read-open", "/openapi.json"),
        ("write-open", "/openapi.json"),
        ("admin-open", "/metrics"),
        ("admin-open", "/readyz"),
    ] {
        let text = get(name, path);
        assert!(text.contains("open"), "{name} {path}: {text}");
        for hidden in [
            "secret",
            "/other/route",
            "streams/other",
            "=\"other\"",
            ":\"other\"",
            "streams/_rejects",
            "=\"_rejects\"",
            ":\"_rejects\"",
        ] {
            assert!(!text.contains(hidden), "{name} {path} shows {hidden}: {text}");
        }
    }
    for (name, path) in [
        ("read", "/v1/streams"),
        ("read", "/v1/stats"),
        ("read", "/openapi.json"),
        ("write", "/openapi.json"),
        ("admin", "/metrics"),
        ("admin", "/readyz"),
    ] {
        assert!(get(name, path).contains("secret_one"), "{name} {path}");
    }
    assert!(
        !get("write", "/openapi.json").contains("_rejects"),
        "it may not read them"
    );
    // Whoever has no token learns whether it is ready, and no more.
    let ready = ask(&program, None, "GET", "/readyz", "").json();
    assert_eq!(ready, serde_json::json!({"ready": true, "draining": false}));
}
