//! The journal on Kafka, against real brokers: it keeps the contract, names what is wrong with topics, loses nothing
//! when brokers die, and shares partitions among processes.
//!
//! Most tests use the broker that `KAFKA_BROKERS` names, each with topics of its own; those that kill one start it
//! themselves, from the jars in `KAFKA_LIBS`.

mod broker;
mod faults;
mod groups;
mod json;
mod measure;
mod positions;
mod secure;
mod topics;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{RecordFormat, StreamDeclaration, StreamName};
use journal::Journal;
use journal::contract::{self, Harness};
use journal::kafka::{KafkaJournal, KafkaOptions};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

/// Until when something must have happened; a bound for machines that are busy.
const SOON: Duration = Duration::from_secs(30);

/// The broker to test against, or `None` where there is none and none is required.
fn brokers() -> Option<String> {
    variable("KAFKA_BROKERS")
}

fn variable(name: &str) -> Option<String> {
    if let Some(value) = std::env::var_os(name) {
        return value.into_string().ok();
    }
    assert!(
        std::env::var_os("TIDEMILL_SERVICES_REQUIRED").is_none(),
        "{name} is missing (cargo xtask services up)"
    );
    eprintln!("SKIPPED: needs {name} (cargo xtask services up)");
    None
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !so().await {
        assert!(Instant::now() < deadline, "{what} within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A declaration with one integer, and with a key when it has several partitions.
fn stream(name: &str) -> StreamDeclaration {
    let declaration = format!("[{name}.fields]\nn = \"int\"");
    let table: toml::Table = declaration.parse().expect("TOML");
    event::stream::parse_streams(&table)
        .expect("a declaration")
        .remove(0)
}

fn name(stream: &str) -> StreamName {
    StreamName::parse(stream).expect("allowed")
}

fn shared(streams: impl IntoIterator<Item = StreamDeclaration>) -> Vec<Arc<StreamDeclaration>> {
    streams.into_iter().map(Arc::new).collect()
}

/// Topics of one test's own, which are removed when it is over.
struct Topics {
    options: KafkaOptions,
}

impl Topics {
    fn new(brokers: &str) -> Self {
        let mut options = KafkaOptions::new(brokers);
        options.topic_prefix = format!("test{:016x}.", rand::random::<u64>());
        options.partitions = 1;
        options.replication = Some(1);
        Self { options }
    }

    async fn open(&self, streams: &[&str]) -> Arc<KafkaJournal> {
        let streams = shared(streams.iter().map(|name| stream(name)));
        let opened = KafkaJournal::open(self.options.clone(), &streams).await;
        opened.expect("opens")
    }

    fn topic(&self, stream: &str) -> String {
        format!("{}{stream}", self.options.topic_prefix)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.options.brokers);
        for (name, value) in &self.options.properties {
            config.set(name, value);
        }
        config
    }

    fn administrator(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("a client")
    }

    async fn delete(&self, topic: &str) {
        let administrator = self.administrator();
        let options = AdminOptions::new().operation_timeout(Some(SOON));
        let deleted = administrator.delete_topics(&[topic], &options).await;
        deleted.expect("answers").remove(0).expect("deleted");
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let administrator = self.administrator();
        let Ok(metadata) = administrator.inner().fetch_metadata(None, Duration::from_secs(2)) else {
            return;
        };
        let own = |name: &&str| name.starts_with(&self.options.topic_prefix);
        let names: Vec<_> = metadata
            .topics()
            .iter()
            .map(|topic| topic.name())
            .filter(own)
            .collect();
        if !names.is_empty() {
            let deleted = administrator.delete_topics(&names, &AdminOptions::new());
            drop(futures::executor::block_on(deleted));
        }
    }
}

impl Harness for Topics {
    fn open(&self) -> futures::future::BoxFuture<'_, Arc<dyn Journal>> {
        Box::pin(async {
            let streams = [
                "dense_a",
                "dense_b",
                "waiting",
                "group_a",
                "group_b",
                "concurrent",
                "killed",
                "outside",
            ];
            self.open(&streams).await as Arc<dyn Journal>
        })
    }

    /// What a process has not been told to be durable is what its producer forgets when it is dropped.
    fn kill(&self, journal: Arc<dyn Journal>) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(async { drop(journal) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract_of_a_journal() {
    let Some(brokers) = brokers() else { return };
    contract::all(&Topics::new(&brokers)).await;
}

/// A stream of the format `json`.
fn json_stream(declaration: &str, topic: Option<&str>) -> StreamDeclaration {
    let table: toml::Table = declaration.parse().expect("TOML");
    let mut stream = event::stream::parse_streams(&table)
        .expect("a declaration")
        .remove(0);
    stream.format = RecordFormat::Json;
    stream.topic = topic.map(str::to_owned);
    stream
}
