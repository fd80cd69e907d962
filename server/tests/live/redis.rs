//! Redis: what is published is what is stored, once and in order; and the bus tells other processes.

use futures::StreamExt;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::client::EventStream;
use crate::harness::{PATIENCE, Program, running, until};
use crate::{config, directory};

/// Where Redis is. `None`, loudly, when it is not up.
fn redis_url() -> Option<String> {
    let url = std::env::var_os("REDIS_URL").and_then(|url| url.into_string().ok());
    if url.is_none() {
        assert!(
            std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none(),
            "REDIS_URL must be set"
        );
        println!("SKIPPED: needs REDIS_URL (cargo xtask services up)");
    }
    url
}

/// A name that nobody else uses, and what is removed in the end: keys that begin with it.
struct Own {
    client: redis::Client,
    name: String,
    runtime: Runtime,
}

impl Own {
    fn new(url: &str) -> Self {
        Self {
            client: redis::Client::open(url).expect("a URL"),
            name: format!("tm{}", uuid::Uuid::new_v4().simple()),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime"),
        }
    }

    /// What is published on a channel from now on, in order.
    fn listen(&self, channel: &str) -> tokio::sync::mpsc::UnboundedReceiver<Value> {
        let (out, received) = tokio::sync::mpsc::unbounded_channel();
        let subscribed = self.runtime.block_on(async {
            let mut subscription = self.client.get_async_pubsub().await.expect("connect");
            subscription.subscribe(channel).await.expect("subscribe");
            subscription
        });
        self.runtime.spawn(async move {
            let mut messages = subscribed.into_on_message();
            while let Some(message) = messages.next().await {
                let event = serde_json::from_slice(message.get_payload_bytes()).expect("JSON");
                if out.send(event).is_err() {
                    return;
                }
            }
        });
        received
    }

    fn next(&self, received: &mut tokio::sync::mpsc::UnboundedReceiver<Value>) -> Value {
        let next = async { tokio::time::timeout(PATIENCE, received.recv()).await };
        self.runtime.block_on(next).expect("in time").expect("a message")
    }

    /// A hash.
    fn hash(&self, key: &str) -> std::collections::HashMap<String, String> {
        self.runtime.block_on(async {
            let mut connection = self
                .client
                .get_multiplexed_async_connection()
                .await
                .expect("connect");
            redis::cmd("HGETALL")
                .arg(key)
                .query_async(&mut connection)
                .await
                .expect("a hash")
        })
    }

    fn remove(&self, key: &str) {
        self.runtime.block_on(async {
            let mut connection = self
                .client
                .get_multiplexed_async_connection()
                .await
                .expect("connect");
            let _: i64 = redis::cmd("DEL")
                .arg(key)
                .query_async(&mut connection)
                .await
                .expect("removed");
        });
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for key in [format!("{}:running:0", self.name), format!("{}.bus", self.name)] {
            self.remove(&key);
        }
    }
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .map(|event| event["duration"].as_u64().expect("a number"))
        .collect()
}

#[test]
fn what_is_stored_is_published_once_and_in_order_through_kills_of_the_server() {
    let Some(url) = redis_url() else { return };
    let rounds = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        30
    } else {
        4
    };
    let own = Own::new(&url);
    let name = &own.name;
    let data = directory();
    let config = config(
        data.path(),
        &format!(
            "[lake.roll]\nevery = \"100ms\"\n[destinations.out]\nkind = \"redis\"\nurl = \"{url}\"\ngroup = \"{name}\"\n\
             channel_prefix = \"{name}.\"\nstreams = [\"running\"]\n"
        ),
    );
    let mut received = own.listen(&format!("{name}.running"));
    let mut posted = 0;
    for _ in 0..rounds {
        let program = Program::start(data.path(), &["--config", &config]);
        for _ in 0..20 {
            assert_eq!(program.ndjson("running", &running(posted, 10)).status, 200);
            posted += 10;
        }
        // In the middle of it, wherever that is.
        program.kill();
    }
    let program = Program::start(data.path(), &["--config", &config]);
    // A Redis that forgets where it is is told by who knows.
    until("everything is published", || {
        let position = own.hash(&format!("{name}:running:0"));
        let described = program.get("/v1/streams/running").json();
        let end = described["journal"]["positions"][0]["offset"]
            .as_u64()
            .expect("an end");
        position
            .get("offset")
            .and_then(|offset| offset.parse::<u64>().ok())
            == Some(end)
    });
    own.remove(&format!("{name}:running:0"));
    assert_eq!(program.ndjson("running", &running(posted, 10)).status, 200);
    posted += 10;
    let events: Vec<_> = (0..posted).map(|_| own.next(&mut received)).collect();
    let rows = program.rows("select duration from running order by _offset, _row");
    let stored: Vec<_> = rows
        .iter()
        .map(|row| row[0].as_u64().expect("a number"))
        .collect();
    assert_eq!(numbers(&events), stored);
    assert!(program.stop().success());
    assert!(received.try_recv().is_err(), "nothing is published twice");
}

#[test]
fn another_process_shows_events_once_the_destination_has_them() {
    let Some(url) = redis_url() else { return };
    let own = Own::new(&url);
    let name = &own.name;
    let data = directory();
    let shared = format!(
        "[destinations.out]\nkind = \"redis\"\nurl = \"{url}\"\ngroup = \"{name}\"\nchannel_prefix = \"{name}.\"\n\
         streams = [\"running\"]\n[live]\nafter = \"out\"\nbus = \"out\"\nbus_channel = \"{name}.bus\"\n"
    );
    let config = config(data.path(), &shared);
    let writer = Program::start(
        data.path(),
        &["--config", &config, "--role", "ingest", "--role", "sink"],
    );
    let reader = Program::start(data.path(), &["--config", &config, "--role", "analytics"]);
    let mut published = own.listen(&format!("{name}.running"));
    let (mut stream, at) = EventStream::of(reader.address, "/v1/streams/running/tail");
    assert_eq!(at, "0:0");
    for number in 0..20 {
        assert_eq!(writer.ndjson("running", &running(number, 1)).status, 200);
        let event = stream.next_event().expect("an event");
        assert_eq!(event.json()["duration"], number);
        assert_eq!(own.next(&mut published)["duration"], number);
    }
    let told = own.hash(&format!("{name}.bus"));
    assert!(
        told.keys().any(|field| field.starts_with("out/running/0/")),
        "{told:?}"
    );
    // A stream that the destination does not get is shown as it arrives.
    let (mut music, _) = EventStream::of(reader.address, "/v1/streams/music/tail");
    let song = "{\"user_id\":\"d290f1ee-6c54-4b01-90e6-d701748f0851\",\"song_name\":\"Run Boy Run\",\"artist\":\"Woodkid\",\
                \"song_duration\":180,\"timestamp\":\"2024-09-10T09:12:33.001Z\"}\n";
    assert_eq!(writer.ndjson("music", song).status, 200);
    assert_eq!(music.next_event().expect("an event").json()["artist"], "Woodkid");
    // What was told while nobody listened is found.
    drop(reader);
    assert_eq!(writer.ndjson("running", &running(20, 1)).status, 200);
    assert_eq!(own.next(&mut published)["duration"], 20);
    let reader = Program::start(data.path(), &["--config", &config, "--role", "analytics"]);
    let (mut stream, _) = EventStream::of(reader.address, "/v1/streams/running/tail?from=0:19:0");
    assert_eq!(stream.next_event().expect("an event").json()["duration"], 20);
    assert!(writer.stop().success());
}
