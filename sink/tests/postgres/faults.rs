//! The server is killed, paused, read-only, full of connections or speaks TLS: nothing is lost, nothing waits for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sink::database::Database;
use sink::{DatabaseOptions, PostgresDatabase, PostgresOptions};

use super::world::{Server, World, caught_up, connect, numbers, options, simple, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_has_each_row_once() {
    let Some(server) = Server::start("a_server_that_is_killed_and_comes_back_has_each_row_once") else {
        return;
    };
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        30
    } else {
        2
    };
    let world = World::new(&server.url).await;
    let stream = simple("killed");
    let options = DatabaseOptions {
        batch_rows: 1_000,
        ..options()
    };
    let sink = world.start(std::slice::from_ref(&stream), options);
    let progress = sink.progress();
    let mut appended = 0;
    for round in 0..rounds {
        let before = progress.read().await[0].committed;
        for _ in 0..40 {
            world.append(&stream, &numbers(appended..appended + 1_000)).await;
            appended += 1_000;
        }
        until("something is written", Duration::from_secs(20), async || {
            progress.read().await[0].committed > before
        })
        .await;
        server.kill();
        world.append(&stream, &numbers(appended..appended + 1_000)).await;
        appended += 1_000;
        until("the outage is seen", Duration::from_secs(20), async || {
            progress.read().await[0].failing.is_some()
        })
        .await;
        server.up();
        let begun = Instant::now();
        until("it writes again", Duration::from_secs(15), async || {
            let one = &progress.read().await[0];
            one.failing.is_none() && one.committed == one.end
        })
        .await;
        println!("round {round}: caught up after {:?}", begun.elapsed());
    }
    sink.shutdown().await;
    let (admin, _driver) = connect(&world.url).await.expect("connects");
    let found = admin
        .query_one("SELECT count(*), count(DISTINCT n) FROM killed", &[])
        .await
        .expect("a query");
    assert_eq!(
        (found.get::<_, i64>(0), found.get::<_, i64>(1)),
        (appended, appended)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_is_given_up_in_bounded_time_and_caught_up_with() {
    let Some(server) = Server::start("a_paused_server_is_given_up_in_bounded_time_and_caught_up_with") else {
        return;
    };
    let world = World::new(&server.url).await;
    let stream = simple("stopped");
    let mut postgres = world.postgres();
    postgres.statement_timeout = Duration::from_secs(1);
    let database: Arc<dyn Database> = Arc::new(PostgresDatabase::new(&postgres).expect("a URL"));
    let options = DatabaseOptions {
        batch_rows: 1_000,
        connect_timeout: Duration::from_secs(1),
        transaction_timeout: Duration::from_secs(4),
        drain: Duration::from_secs(1),
        ..options()
    };
    let journal = Arc::<journal::embedded::EmbeddedJournal>::clone(&world.journal);
    let sink = sink::DatabaseSink::start(
        &tokio::runtime::Handle::current(),
        journal,
        std::slice::from_ref(&stream),
        database,
        options,
    )
    .expect("maps");
    world.append(&stream, &numbers(0..5_000)).await;
    let progress = sink.progress();
    caught_up(&progress).await;
    server.pause();
    let begun = Instant::now();
    for part in 5..50 {
        world
            .append(&stream, &numbers(1_000 * part..1_000 * (part + 1)))
            .await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the journal waits for the server"
    );
    until("the outage is seen", Duration::from_secs(15), async || {
        progress.read().await[0].failing.is_some()
    })
    .await;
    println!("given up after {:?}", begun.elapsed());
    server.resume();
    until("it has caught up", Duration::from_secs(15), async || {
        let one = &progress.read().await[0];
        one.failing.is_none() && one.committed == one.end
    })
    .await;
    assert_eq!(world.count("stopped").await, 50_000);

    // A shutdown is not held up either.
    server.pause();
    world.append(&stream, &numbers(0..10)).await;
    let begun = Instant::now();
    sink.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_no_is_asked_again_until_somebody_mends_it() {
    let Some(server) = Server::start("a_server_that_says_no_is_asked_again_until_somebody_mends_it") else {
        return;
    };
    let world = World::new(&server.url).await;
    world
        .admin
        .batch_execute(&format!(
            "CREATE ROLE app LOGIN PASSWORD 'right'; GRANT ALL ON SCHEMA {} TO app",
            world.schema
        ))
        .await
        .expect("a role");
    let stream = simple("mended");
    let url = world
        .url
        .replace("postgres://postgres@", "postgres://app:hunter2@");
    let database: Arc<dyn Database> = Arc::new(
        PostgresDatabase::new(&PostgresOptions {
            url,
            ..world.postgres()
        })
        .expect("a URL"),
    );
    let journal = Arc::<journal::embedded::EmbeddedJournal>::clone(&world.journal);
    let sink = sink::DatabaseSink::start(
        &tokio::runtime::Handle::current(),
        journal,
        std::slice::from_ref(&stream),
        database,
        options(),
    )
    .expect("maps");
    let progress = sink.progress();
    let role = |sql: &str| format!("ALTER ROLE app {sql}");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
    let troubles = [
        ("NOLOGIN", "LOGIN", "28000"),
        ("CONNECTION LIMIT 0", "CONNECTION LIMIT -1", "53300"),
        (
            "SET default_transaction_read_only = on",
            "RESET default_transaction_read_only",
            "25006",
        ),
    ];
    let mut appended = 0;
    for (trouble, mend, code) in troubles {
        world.admin.batch_execute(&role(trouble)).await.expect("altered");
        world.admin.batch_execute(end).await.expect("ended");
        world.append(&stream, &numbers(appended..appended + 10)).await;
        appended += 10;
        until(code, Duration::from_secs(20), async || {
            let one = progress.read().await.remove(0);
            assert_eq!(one.stopped, None);
            let said = one.failing.unwrap_or_default();
            assert!(!said.contains("hunter2"), "{said}");
            said.contains(code)
        })
        .await;
        world.admin.batch_execute(&role(mend)).await.expect("altered");
        until("it is mended", Duration::from_secs(20), async || {
            let one = progress.read().await.remove(0);
            one.failing.is_none() && one.committed == one.end && one.end.0 > 0
        })
        .await;
    }
    world
        .admin
        .batch_execute("REVOKE ALL ON mended FROM app; ALTER TABLE mended OWNER TO postgres")
        .await
        .expect("revoked");
    world.append(&stream, &numbers(appended..appended + 10)).await;
    appended += 10;
    until("42501", Duration::from_secs(20), async || {
        let said = progress.read().await.remove(0).failing.unwrap_or_default();
        said.contains("42501")
    })
    .await;
    world
        .admin
        .batch_execute("GRANT ALL ON mended TO app")
        .await
        .expect("granted");
    caught_up(&progress).await;
    assert_eq!(world.count("mended").await, appended);
    assert_eq!(world.count("tidemill_refused").await, 0);
    sink.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_certificates_are_checked_as_the_url_says() {
    let Some(server) = Server::start("tls_is_spoken_and_certificates_are_checked_as_the_url_says") else {
        return;
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address as a name");
    let certificate = parameters.self_signed(&key).expect("signed");
    server.write("server.crt", &certificate.pem());
    server.write("server.key", &key.serialize_pem());
    let (admin, _driver) = connect(&server.url).await.expect("connects");
    admin
        .batch_execute("ALTER SYSTEM SET ssl = on")
        .await
        .expect("set");
    admin
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .expect("reloaded");
    until("the server speaks TLS", Duration::from_secs(20), async || {
        let row = admin.query_one("SHOW ssl", &[]).await.expect("shown");
        row.get::<_, String>(0) == "on"
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem()).expect("written");
    let other = folder.path().join("other.pem");
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("signed");
    std::fs::write(&other, stranger.cert.pem()).expect("written");

    let connects = async |parameters: &str| {
        let options = PostgresOptions {
            url: format!("{}?{parameters}", server.url),
            ..PostgresOptions::default()
        };
        let database = PostgresDatabase::new(&options).expect("a URL");
        let connected = database.connect().await;
        let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                         WHERE application_name = 'tidemill' AND ssl";
        match connected {
            Ok(_session) => Ok(super::world::one(&admin, encrypted).await == 1),
            Err(error) => Err(error.to_string()),
        }
    };
    let gone = async || {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidemill'";
        until("the connection is closed", Duration::from_secs(10), async || {
            super::world::one(&admin, left).await == 0
        })
        .await;
    };
    for (parameters, expected) in [
        ("sslmode=disable".to_owned(), Some(false)),
        ("sslmode=prefer".to_owned(), Some(true)),
        (
            format!("sslmode=require&sslrootcert={}", ca.display()),
            Some(true),
        ),
        ("sslmode=require".to_owned(), None),
        (
            format!("sslmode=verify-full&sslrootcert={}", other.display()),
            None,
        ),
        (
            format!("sslrootcert={}/missing.pem", folder.path().display()),
            None,
        ),
    ] {
        let found = connects(&parameters).await;
        assert_eq!(found.clone().ok(), expected, "{parameters}: {found:?}");
        gone().await;
    }
}
