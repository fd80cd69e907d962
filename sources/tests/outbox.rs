//! A relay from an outbox table, against a real PostgreSQL: what commits late, what dies in between, what is no event,
//! and who shares.

mod support;

use journal::Batcher;
use serde_json::json;
use sources::{Schedule, SourceKind, Sources};
use support::*;

async fn all_sent(database: &Database, rows: usize) {
    let expected = format!("sent={rows}");
    until(&expected, async || database.states().await == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_transaction_commits_late_is_found_later() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    let (late, _driver) = connect(&database.url).await;
    // The lower number and the earlier time, in a transaction that is still open.
    late.batch_execute("BEGIN; INSERT INTO orders (event_id, n) VALUES ('e1', 1)")
        .await
        .expect("runs");
    database.insert(2, 5).await;
    let relay = start(&log.batcher(), SourceKind::Outbox(Box::new(database.outbox())));
    all_sent(&database, 3).await;
    assert_eq!(ids(&log.events(&stream()).await), ["e2", "e3", "e4"]);
    late.batch_execute("COMMIT").await.expect("commits");
    all_sent(&database, 4).await;
    relay.shutdown().await;
    assert_eq!(ids(&log.events(&stream()).await), ["e1", "e2", "e3", "e4"]);
    database.drop_schema().await;
}

/// Method: the journal makes the append durable and never tells, so the relay dies before it can commit.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_death_between_append_and_mark_the_same_ids_come_again() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    database.insert(0, 250).await;
    let gate = Gate::new(&log, Mode::Silent);
    let mut silent = gate.silent.subscribe();
    let relay = start(
        &Batcher::new(gate),
        SourceKind::Outbox(Box::new(database.outbox())),
    );
    silent.wait_for(|count| *count == 1).await.expect("an append");
    assert_eq!(
        database.states().await,
        "pending=250",
        "nothing is marked before the append is told"
    );
    drop(relay);
    assert_eq!(ids(&log.events(&stream()).await).len(), 100);

    let relay = start(&log.batcher(), SourceKind::Outbox(Box::new(database.outbox())));
    all_sent(&database, 250).await;
    relay.shutdown().await;
    let mut found = ids(&log.events(&stream()).await);
    assert_eq!(found.len(), 350, "one batch is there twice");
    found.dedup();
    assert_eq!(found.len(), 250, "with the same ids");
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_no_event_is_set_aside_and_stops_nobody() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    database.insert(0, 10).await;
    database.run("UPDATE orders SET n = -1 WHERE event_id = 'e3'; UPDATE orders SET n = NULL WHERE event_id = 'e4'; \
                  UPDATE orders SET made = 'infinity' WHERE event_id = 'e5'").await;
    let mut options = database.outbox();
    options.batch = 3;
    let relay = start(&log.batcher(), SourceKind::Outbox(Box::new(options)));
    until("all are marked", async || {
        database.states().await == "refused=3 sent=7"
    })
    .await;
    let progress = part(&relay, "relay");
    assert_eq!((progress.taken, progress.refused), (7, 3));
    relay.shutdown().await;
    let reason = one(&database.admin, "SELECT reason FROM orders WHERE event_id = 'e3'").await;
    assert!(reason.starts_with("out_of_range n: "), "{reason}");
    let rejects = log.rejects().await;
    let mut codes: Vec<_> = rejects
        .iter()
        .map(|reject| reject["code"].as_str().expect("a code"))
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, ["invalid_timestamp", "missing_field", "out_of_range"]);
    assert!(rejects.iter().all(|reject| reject["stream"] == "orders"));
    assert_eq!(log.events(&stream()).await.len(), 7);
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_table_does_not_let_be_marked_is_left_and_never_sent() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    database.insert(0, 40).await;
    database
        .run("ALTER TABLE orders ADD CHECK (n NOT IN (7, 21) OR state = 'pending')")
        .await;
    let mut options = database.outbox();
    options.batch = 16;
    let relay = start(&log.batcher(), SourceKind::Outbox(Box::new(options)));
    until("the others are marked", async || {
        database.states().await == "pending=2 sent=38"
    })
    .await;
    until("the backlog is known", async || {
        part(&relay, "relay")
            .backlog
            .is_some_and(|backlog| backlog.rows == 2)
    })
    .await;
    assert_eq!(part(&relay, "relay").failing, None);
    relay.shutdown().await;
    let found = ids(&log.events(&stream()).await);
    assert_eq!(found.len(), 38, "each of the others once");
    assert!(!found.contains(&"e7".to_owned()) && !found.contains(&"e21".to_owned()));
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_share_the_rows() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    database.insert(0, 3_000).await;
    let relay = |_| start(&log.batcher(), SourceKind::Outbox(Box::new(database.outbox())));
    let relays: Vec<Sources> = (0..3).map(relay).collect();
    all_sent(&database, 3_000).await;
    for relay in relays {
        relay.shutdown().await;
    }
    let mut found = ids(&log.events(&stream()).await);
    assert_eq!(found.len(), 3_000);
    found.dedup();
    assert_eq!(found.len(), 3_000, "each row once");
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_told_and_mended() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    let proxy = Proxy::before(&authority(&base)).await;
    let mut options = database.outbox();
    options.url = through(&database.url, &proxy);
    let relay = start(&log.batcher(), SourceKind::Outbox(Box::new(options)));
    database.insert(0, 5).await;
    all_sent(&database, 5).await;
    proxy.open.send_replace(false);
    until("it is told", async || part(&relay, "relay").failing.is_some()).await;
    database.insert(5, 12).await;
    proxy.open.send_replace(true);
    all_sent(&database, 12).await;
    until("it is mended", async || part(&relay, "relay").failing.is_none()).await;
    relay.shutdown().await;
    assert_eq!(log.events(&stream()).await.len(), 12);
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_refuses_leaves_the_rows_as_they_were() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    database.insert(0, 20).await;
    let gate = Gate::new(&log, Mode::Refusing);
    let batcher = Batcher::new(std::sync::Arc::<Gate>::clone(&gate));
    let relay = start(&batcher, SourceKind::Outbox(Box::new(database.outbox())));
    until("it is told", async || part(&relay, "relay").failing.is_some()).await;
    assert_eq!(database.states().await, "pending=20");
    gate.mode.send_replace(Mode::Open);
    all_sent(&database, 20).await;
    relay.shutdown().await;
    assert_eq!(log.events(&stream()).await.len(), 20);
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_expression_says_when() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    let mut options = database.outbox();
    options.schedule = Schedule::cron("*/2 * * * * *").expect("an expression");
    let relay = start(&log.batcher(), SourceKind::Outbox(Box::new(options)));
    database.insert(0, 250).await;
    // All batches of a turn at once, and the turn at an even second.
    all_sent(&database, 250).await;
    let second = "SELECT extract(second FROM clock_timestamp())::int::text";
    let second: i32 = one(&database.admin, second).await.parse().expect("a number");
    relay.shutdown().await;
    eprintln!("relayed in second {second}");
    assert_eq!(log.events(&stream()).await.len(), 250);
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_and_its_age_are_known_while_nothing_is_due() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    database.insert(0, 7).await;
    database
        .run("UPDATE orders SET made = now() - interval '100 s' WHERE event_id = 'e2'")
        .await;
    let mut options = database.outbox();
    // New Year's Eve.
    options.schedule = Schedule::cron("0 0 0 31 12 *").expect("an expression");
    let relay = start(&log.batcher(), SourceKind::Outbox(Box::new(options)));
    until("it has looked", async || part(&relay, "relay").backlog.is_some()).await;
    let backlog = part(&relay, "relay").backlog.expect("known");
    assert_eq!(backlog.rows, 7);
    assert!(
        backlog.oldest_s.is_some_and(|age| (100.0..160.0).contains(&age)),
        "{backlog:?}"
    );
    relay.shutdown().await;
    assert_eq!(database.states().await, "pending=7");
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_every_kind_become_the_fields_that_are_declared() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    let text = "[all.fields]\nid = \"uuid\"\nflag = \"bool\"\nratio = \"float\"\nkind = { type = \"enum\", values = [\"a\", \"b\"] }\n\
                plain = \"timestamp\"\nzoned = \"timestamp\"\nday = \"timestamp\"\nepoch = { type = \"timestamp\", unit = \"ms\" }\n\
                code = \"string\"\ndeep = { type = \"int\", from = \"at.x\" }\nextra = { type = \"json\", optional = true }";
    let mut streams = event::stream::parse_streams(&text.parse().expect("TOML")).expect("right");
    let all = std::sync::Arc::new(streams.remove(0));
    database
        .run(
            "CREATE TYPE kind AS ENUM ('a', 'b'); CREATE TABLE \"All\" (\"Id\" uuid PRIMARY KEY, flag boolean, ratio numeric, kind kind, \
             plain timestamp, zoned timestamptz, day date, epoch timestamptz, code int, x int, extra jsonb, sent_at timestamptz); \
             INSERT INTO \"All\" VALUES ('D290F1EE-6C54-4B01-90E6-D701748F0851', true, 1.5, 'b', '2024-09-10 09:12:33.001', \
             '2024-09-10 11:12:33.000001+02', '2024-09-10', '2024-09-10 09:12:33.5Z', 42, 7, '{\"a\": [1, null]}')",
        )
        .await;
    let mut options = database.outbox();
    options.table = "All".to_owned();
    options.id = "Id".to_owned();
    options.order = None;
    // A column that is null as long as a row waits, and gets the moment when it goes.
    options.state.column = "sent_at".to_owned();
    options.state.pending = None;
    options.state.sent = "now".to_owned();
    options.state.reason = None;
    let pairs = [
        ("id", "Id"),
        ("flag", "flag"),
        ("ratio", "ratio"),
        ("kind", "kind"),
        ("plain", "plain"),
        ("zoned", "zoned"),
        ("day", "day"),
        ("epoch", "epoch"),
        ("code", "code"),
        ("deep", "x"),
        ("extra", "extra"),
    ];
    options.columns = Some(
        pairs
            .map(|(field, column)| (field.to_owned(), column.to_owned()))
            .into(),
    );
    let relay = start_into(&log.batcher(), &all, SourceKind::Outbox(Box::new(options)));
    until("it is there", async || {
        part(&relay, "relay").taken + part(&relay, "relay").refused == 1
    })
    .await;
    relay.shutdown().await;
    assert_eq!(log.rejects().await, Vec::<serde_json::Value>::new());
    let expected = json!({
        "id": "d290f1ee-6c54-4b01-90e6-d701748f0851", "flag": true, "ratio": 1.5, "kind": "b",
        "plain": "2024-09-10T09:12:33.001000Z", "zoned": "2024-09-10T09:12:33.000001Z", "day": "2024-09-10T00:00:00Z",
        "epoch": 1_725_959_553_500_i64, "code": "42", "at": {"x": 7}, "extra": {"a": [1, null]},
    });
    assert_eq!(log.events(&all).await, [expected]);
    let sent = one(
        &database.admin,
        "SELECT (now() - sent_at < interval '1 min')::text FROM \"All\"",
    )
    .await;
    assert_eq!(sent, "true");
    database.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_relayed_says_why_and_begins_when_it_can() {
    let Some(base) = server("POSTGRES_URL") else {
        return;
    };
    let (database, log) = (Database::new(&base).await, Log::new());
    database
        .run("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
        .await;
    database.insert(0, 3).await;
    let relay = start(&log.batcher(), SourceKind::Outbox(Box::new(database.outbox())));
    until("it says why", async || {
        part(&relay, "relay")
            .failing
            .is_some_and(|why| why.contains("`event_id` must be unique"))
    })
    .await;
    database.run("DROP TABLE orders").await;
    until("it says why", async || {
        part(&relay, "relay")
            .failing
            .is_some_and(|why| why.contains("is not there"))
    })
    .await;
    assert_eq!(log.events(&stream()).await.len(), 0);
    let url = &database.url;
    let writer = sources::outbox::OutboxWriter::open(url, "orders")
        .await
        .expect("connects");
    let sql = sources::outbox::table_sql("orders", &stream(), "event_id");
    writer.create(&sql).await.expect("makes the table");
    writer.create(&sql).await.expect("it may be there already");
    writer
        .insert(&json!({"event_id": "it's \"one\"", "n": 1}))
        .await
        .expect("writes");
    all_sent(&database, 1).await;
    relay.shutdown().await;
    assert_eq!(ids(&log.events(&stream()).await), ["it's \"one\""]);
    database.drop_schema().await;
}
