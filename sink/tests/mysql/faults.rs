//! Exactly once, whatever dies, pauses, is cut off or comes back.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use event::{Offset, Partition, StreamDeclaration};
use journal::Journal;
use mysql_async::prelude::Queryable;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sink::database::{Database, DatabaseError, Rows, TargetTable, transaction};
use sink::{DatabaseOptions, LoadData};

use crate::world::{Server, World, batch, connect, mysql_url, quick, soak, stream, until, until_caught_up};

const SEED: u64 = 4_711;

pub(crate) fn counted() -> Arc<StreamDeclaration> {
    stream("[counted]\n[counted.fields]\nn = \"int\"\nword = \"string\"\n")
}

/// Lines of the next `count` numbers.
pub(crate) fn lines(next: &AtomicU64, count: u64) -> String {
    let first = next.fetch_add(count, Ordering::SeqCst);
    let mut lines = String::new();
    for n in first..first + count {
        writeln!(lines, "{{\"n\":{n},\"word\":\"it's {n}\"}}").expect("writes");
    }
    lines
}

/// Each number below `next` is there once and nothing else is.
pub(crate) async fn assert_each_once(world: &World, next: &AtomicU64) {
    let rows = world
        .rows("SELECT COUNT(*), COUNT(DISTINCT n), MIN(n), MAX(n) FROM counted")
        .await;
    let found: Vec<u64> = rows[0]
        .iter()
        .map(|n| n.as_ref().expect("rows").parse().expect("a number"))
        .collect();
    let all = next.load(Ordering::SeqCst);
    assert_eq!(found, [all, all, 0, all - 1], "seed {SEED}");
    assert_eq!(world.number("SELECT COUNT(*) FROM tidemill_refused").await, 0);
}

/// Each round runs on a runtime of its own, whose end drops every task wherever it is, as a kill does.
#[test]
fn after_abrupt_ends_each_row_is_there_once() {
    let Some(url) = mysql_url() else { return };
    println!("seed {SEED}");
    let rounds = if soak() { 200 } else { 12 };
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let stream = counted();
    let next = AtomicU64::new(0);
    let outer = tokio::runtime::Runtime::new().expect("a runtime");
    let world = outer.block_on(World::new(&url));
    for round in 0..rounds {
        let way = if round % 3 == 0 {
            LoadData::Off
        } else {
            LoadData::Auto
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            for _ in 0..random.random_range(1..20) {
                world
                    .append(&stream, &lines(&next, random.random_range(1..400)))
                    .await;
            }
            let options = DatabaseOptions {
                batch_rows: 500,
                ..quick()
            };
            let sink = world.sink_by(&[Arc::clone(&stream)], options, way);
            let progress = sink.progress();
            let some = progress.read().await[0].end.0 - random.random_range(0..3);
            until("most is read", async || progress.read().await[0].read.0 >= some).await;
        });
        runtime.shutdown_background();
    }
    outer.block_on(async {
        let sink = world.sink(&[Arc::clone(&stream)], quick());
        until_caught_up(&sink).await;
        sink.shutdown().await;
        assert_each_once(&world, &next).await;
        world.remove().await;
    });
}

fn rows(stream: &Arc<StreamDeclaration>, from: u64, lines: &str) -> Arc<Rows> {
    let batch = batch(stream, lines, 0);
    let (partition, offset) = (Partition(0), Offset(from));
    let columns = event::schema::to_lake(&batch, offset, stream).expect("fits");
    let mut rows = Rows::new(partition, offset);
    rows.push(columns, offset.next());
    Arc::new(rows)
}

/// A process that was paused in the middle of a transaction and one that comes back with an old position.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_overtaken_writes_nothing() {
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let stream = counted();
    let next = AtomicU64::new(0);
    let (first, second) = (lines(&next, 10), lines(&next, 10));
    let table = Arc::new(TargetTable::resolve(Arc::clone(&stream), "", None).expect("resolves"));
    let database = world.mysql(LoadData::Auto);
    let mut zombie = database.connect().await.expect("connects");
    zombie.prepare(&table).await.expect("prepares");
    let stored = zombie
        .position(&table, Partition(0), "j")
        .await
        .expect("a position");
    assert_eq!(stored.offset, Offset(0));
    let mut other = database.connect().await.expect("connects");
    let early = rows(&stream, 0, &first);
    transaction::write(other.as_mut(), &table, &early, "j")
        .await
        .expect("writes");
    // The zombie still believes that it is at 0, and another one that it is ahead.
    for (from, lines) in [(0, &first), (0, &second), (2, &second)] {
        let late = rows(&stream, from, lines);
        let error = transaction::write(zombie.as_mut(), &table, &late, "j")
            .await
            .expect_err("overtaken");
        assert!(matches!(error, DatabaseError::Moved { .. }), "{error}");
        zombie = database.connect().await.expect("connects");
    }
    // One that holds the position row: the other waits for it, and is overtaken when it commits.
    zombie
        .begin(&table, Partition(0))
        .await
        .expect("begins")
        .expect("a position");
    let next_rows = rows(&stream, 1, &second);
    let waiting = transaction::write(other.as_mut(), &table, &next_rows, "j");
    let committing = async {
        let all = 0..next_rows.len();
        let loaded = zombie
            .load(&table, &next_rows, all, sink::database::Attempt::First)
            .await
            .expect("loads");
        assert!(matches!(loaded, sink::database::Loaded::Rows { .. }));
        let position = sink::database::StoredPosition {
            journal: "j".to_owned(),
            offset: Offset(2),
        };
        zombie
            .commit(&table, Partition(0), &position)
            .await
            .expect("commits");
    };
    let (waited, ()) = futures::join!(waiting, committing);
    assert!(matches!(waited, Err(DatabaseError::Moved { .. })), "{waited:?}");
    // Its transaction is still open.
    drop(other);
    assert_each_once(&world, &next).await;
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sinks_at_once_write_each_row_once() {
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let stream = counted();
    let next = AtomicU64::new(0);
    let options = || DatabaseOptions {
        batch_rows: 100,
        ..quick()
    };
    let sinks: Vec<_> = (0..3)
        .map(|_| world.sink(&[Arc::clone(&stream)], options()))
        .collect();
    for _ in 0..60 {
        world.append(&stream, &lines(&next, 37)).await;
    }
    let end = world.journal.end(&stream.name).await.expect("an end")[0].offset.0;
    until("all is there", async || {
        let asked = "SELECT COALESCE(MAX(next_offset), 0) FROM tidemill_positions";
        let mut conn = world.conn().await;
        let stored: mysql_async::Result<Option<u64>> = conn.query_first(asked).await;
        conn.disconnect().await.expect("disconnects");
        stored.ok().flatten() == Some(end)
    })
    .await;
    for sink in sinks {
        sink.shutdown().await;
    }
    assert_each_once(&world, &next).await;
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_another_journal_stops_the_stream_and_names_both() {
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let stream = counted();
    world.append(&stream, &lines(&AtomicU64::new(0), 1)).await;
    let sink = world.sink(&[Arc::clone(&stream)], quick());
    until_caught_up(&sink).await;
    sink.shutdown().await;
    world
        .run("UPDATE tidemill_positions SET journal = 'elsewhere'")
        .await;
    let sink = world.sink(&[Arc::clone(&stream)], quick());
    let progress = sink.progress();
    until("it stopped", async || progress.read().await[0].stopped.is_some()).await;
    let reason = progress.read().await[0].stopped.clone().expect("stopped");
    assert!(
        reason.contains("elsewhere") && reason.contains(&world.journal.id().0),
        "{reason}"
    );
    sink.shutdown().await;
    world.remove().await;
}

/// Connections are killed by the server's own command while rows go in.
#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_lose_and_double_nothing() {
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let stream = counted();
    let next = AtomicU64::new(0);
    let options = DatabaseOptions {
        batch_rows: 300,
        ..quick()
    };
    let sink = world.sink(&[Arc::clone(&stream)], options);
    let done = AtomicBool::new(false);
    let killing = async {
        let mut conn = connect(&url).await;
        let mut killed = 0;
        while !done.load(Ordering::SeqCst) {
            let query = format!(
                "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}'",
                world.database
            );
            let ids: Vec<u64> = conn.query(query).await.expect("a list");
            for id in ids {
                // It may be gone already.
                killed += u64::from(conn.query_drop(format!("KILL {id}")).await.is_ok());
            }
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        conn.disconnect().await.expect("disconnects");
        killed
    };
    let appending = async {
        for _ in 0..if soak() { 2_000 } else { 80 } {
            world.append(&stream, &lines(&next, 50)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        done.store(true, Ordering::SeqCst);
    };
    let (killed, ()) = futures::join!(killing, appending);
    assert!(killed > 0, "nothing was killed");
    until_caught_up(&sink).await;
    sink.shutdown().await;
    assert_each_once(&world, &next).await;
    world.remove().await;
}

/// Somebody else's transactions lock the table: deadlocks and lock waits are tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_waited_for_and_a_deadlock_tried_again() {
    let Some(url) = mysql_url() else { return };
    let world = World::new(&url).await;
    let stream = counted();
    let next = AtomicU64::new(0);
    world.append(&stream, &lines(&next, 10)).await;
    let sink = world.sink(&[Arc::clone(&stream)], quick());
    until_caught_up(&sink).await;
    let mut locker = world.conn().await;
    let mut deadlocks = 0;
    for _ in 0..5 {
        // The sink locks the position, then rows; this one rows, then the position. The smaller one is the victim.
        locker.query_drop("START TRANSACTION").await.expect("begins");
        locker
            .query_drop("UPDATE counted SET word = CONCAT(word, '') WHERE n >= 0")
            .await
            .expect("locks");
        locker
            .query_drop("SELECT * FROM counted WHERE _offset >= 0 FOR UPDATE")
            .await
            .expect("locks");
        world.append(&stream, &lines(&next, 3)).await;
        until("the sink waits for the lock", async || {
            // The server renews this view only when nobody looked at it for a tenth of a second.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let waiting = "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'";
            world.number(waiting).await > 0
        })
        .await;
        let locked = locker
            .query_drop("SELECT * FROM tidemill_positions FOR UPDATE")
            .await;
        deadlocks += u32::from(locked.is_err());
        locker.query_drop("ROLLBACK").await.expect("goes back");
    }
    until_caught_up(&sink).await;
    println!("{deadlocks} of 5 deadlocks had the other one as victim");
    sink.shutdown().await;
    locker.disconnect().await.expect("disconnects");
    assert_each_once(&world, &next).await;
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_paused_and_started_again_has_each_row_once() {
    let Some(mut server) = Server::start(&[]).await else {
        return;
    };
    println!("seed {SEED}");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let world = World::new(&server.url()).await;
    let stream = counted();
    let next = AtomicU64::new(0);
    let options = DatabaseOptions {
        batch_rows: 400,
        connect_timeout: Duration::from_millis(500),
        transaction_timeout: Duration::from_millis(500),
        ..quick()
    };
    let sink = world.sink(&[Arc::clone(&stream)], options);
    for round in 0..if soak() { 40 } else { 4 } {
        let appending = async {
            for _ in 0..40 {
                world.append(&stream, &lines(&next, 60)).await;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        let hurting = async {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
            if round % 2 == 0 {
                server.kill_and_restart().await;
            } else {
                server.signal("-STOP");
                tokio::time::sleep(Duration::from_millis(1_200)).await;
                server.signal("-CONT");
            }
        };
        futures::join!(appending, hurting);
    }
    until_caught_up(&sink).await;
    sink.shutdown().await;
    assert_each_once(&world, &next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_local_infile_gets_inserts_and_the_same_table() {
    let Some(server) = Server::start(&["--local-infile=0"]).await else {
        return;
    };
    let world = World::new(&server.url()).await;
    let stream = counted();
    let next = AtomicU64::new(0);
    world.append(&stream, &lines(&next, 5_000)).await;
    let sink = world.sink(&[Arc::clone(&stream)], quick());
    until_caught_up(&sink).await;
    // Switched off while connections are open: the refusal of the statement counts.
    world.run("SET GLOBAL local_infile = 1").await;
    sink.shutdown().await;
    let sink = world.sink(&[Arc::clone(&stream)], quick());
    world.append(&stream, &lines(&next, 100)).await;
    until_caught_up(&sink).await;
    world.run("SET GLOBAL local_infile = 0").await;
    world.append(&stream, &lines(&next, 100)).await;
    until_caught_up(&sink).await;
    sink.shutdown().await;
    assert_each_once(&world, &next).await;
}

/// Small packets, a server that becomes read-only, too few connections, a wrong password: each passes by itself when
/// its cause does.
#[tokio::test(flavor = "multi_thread")]
async fn limits_and_rights_of_the_server_are_waited_out() {
    let Some(server) = Server::start(&["--max-allowed-packet=16K"]).await else {
        return;
    };
    let mut world = World::new(&server.url()).await;
    let stream = counted();
    let next = AtomicU64::new(0);
    let url = world.url.replace("root@", "app:hunter2@");
    let admin_url = std::mem::replace(&mut world.url, url);
    world.append(&stream, &lines(&next, 2_000)).await;
    let sink = world.sink_by(&[Arc::clone(&stream)], quick(), LoadData::Off);
    let progress = sink.progress();
    until("the user is not there", async || {
        progress.read().await[0].failing.is_some()
    })
    .await;
    let failing = progress.read().await[0].failing.clone().expect("fails");
    assert!(
        failing.contains("1045") && !failing.contains("hunter2"),
        "{failing}"
    );
    let mut admin = connect(&admin_url).await;
    let run = async |admin: &mut mysql_async::Conn, statement: &str| {
        admin.query_drop(statement).await.expect("runs");
    };
    run(&mut admin, "CREATE USER app@'127.0.0.1' IDENTIFIED BY 'hunter2'").await;
    // One statement, and of one database: a connection keeps the rights that it began with, and one that began between a
    // grant of everything and the taking back of `READ_ONLY ADMIN` would go on to write.
    run(
        &mut admin,
        &format!("GRANT ALL ON `{}`.* TO app@'127.0.0.1'", world.database),
    )
    .await;
    until_caught_up(&sink).await;
    run(&mut admin, "SET GLOBAL read_only = 1").await;
    world.append(&stream, &lines(&next, 10)).await;
    until("it is read-only", async || {
        progress.read().await[0]
            .failing
            .as_ref()
            .is_some_and(|failing| failing.contains("1290"))
    })
    .await;
    run(&mut admin, "SET GLOBAL read_only = 0").await;
    until_caught_up(&sink).await;
    assert!(progress.read().await[0].failing.is_none());
    // A row that no packet holds is refused, and its neighbours are not.
    let huge = "x".repeat(20_000);
    world
        .append(
            &stream,
            &format!("{{\"n\":-1,\"word\":\"{huge}\"}}\n{}", lines(&next, 1)),
        )
        .await;
    until_caught_up(&sink).await;
    sink.shutdown().await;
    let refused = world.rows("SELECT code, reason FROM tidemill_refused").await;
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0][1]
            .as_ref()
            .expect("a reason")
            .contains("max_allowed_packet"),
        "{refused:?}"
    );
    world.run("DELETE FROM tidemill_refused").await;
    assert_each_once(&world, &next).await;
    admin.disconnect().await.expect("disconnects");
}

/// A certificate of an own authority is checked against the file that the URL names, and another's is not taken.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_certificates_are_checked_as_the_url_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let name = |name: &str| rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = name("authority");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).expect("signs");
    let issuer = rcgen::Issuer::new(authority, key);
    let server_key = rcgen::KeyPair::generate().expect("a key");
    let certificate = name("127.0.0.1").signed_by(&server_key, &issuer).expect("signs");
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("signs");
    for (file, text) in [
        ("ca.pem", root.pem()),
        ("server.pem", certificate.pem()),
        ("server.key", server_key.serialize_pem()),
        ("other.pem", stranger.cert.pem()),
    ] {
        std::fs::write(path(file), text).expect("writes");
    }
    let arguments = [
        format!("--ssl-cert={}", path("server.pem")),
        format!("--ssl-key={}", path("server.key")),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let Some(server) = Server::start(&arguments).await else {
        return;
    };
    let world = World::new(&server.url()).await;
    world.run("CREATE USER safe@'127.0.0.1' REQUIRE SSL").await;
    world.run("GRANT ALL ON *.* TO safe@'127.0.0.1'").await;
    for (parameters, connects) in [
        (String::new(), false),
        ("?require_ssl=true".to_owned(), false),
        (format!("?ssl_ca={}", path("ca.pem")), true),
        (format!("?ssl_ca={}&require_ssl=true", path("ca.pem")), true),
        (format!("?require_ssl=true&ssl_ca={}", path("other.pem")), false),
        (format!("?ssl_ca={}", path("missing.pem")), false),
        ("?require_ssl=true&verify_ca=false".to_owned(), true),
    ] {
        let options = sink::MysqlOptions {
            url: format!("{}{parameters}", world.url.replace("root@", "safe@")),
            ..sink::MysqlOptions::default()
        };
        let connected = sink::MysqlDatabase::new(&options).expect("a URL").connect().await;
        assert_eq!(connected.is_ok(), connects, "{parameters}: {:?}", connected.err());
    }
}
