//! A broker that dies or stops under load: nothing that was acknowledged is lost, whoever waits hears in a bounded
//! time, and everything goes on by itself when it is back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use event::Offset;
use journal::contract::{batch, read_all, rows};
use journal::kafka::{KafkaHealth, KafkaJournal};
use journal::{AppendError, Fault, Journal};

use super::broker::Broker;
use super::{Topics, name, until};

/// Appends until it is told to stop; remembers what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<i64>>>,
}

impl Load {
    fn start(journal: &Arc<KafkaJournal>, bound: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicI64::new(0));
        let (acknowledged, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let task = |_| {
            let (journal, stop, next) = (Arc::clone(journal), Arc::clone(&stop), Arc::clone(&next));
            let (acknowledged, refused) = (Arc::clone(&acknowledged), Arc::clone(&refused));
            tokio::runtime::Handle::current().spawn(async move {
                let mut durable = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let begun = Instant::now();
                    let answer = journal.append(vec![batch("a", n, 1)]).await;
                    let took = begun.elapsed();
                    assert!(took < bound, "an answer came after {took:?}");
                    match answer {
                        Ok(_) => {
                            durable.push(n);
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            assert_eq!(error.fault(), Fault::Outage, "{error}");
                            refused.fetch_add(1, Ordering::Relaxed);
                            // As a client that is told to come again later.
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
                durable
            })
        };
        Self {
            tasks: (0..8).map(task).collect(),
            stop,
            acknowledged,
            refused,
        }
    }

    async fn more(&self, counter: &AtomicU64, what: &str) {
        let before = counter.load(Ordering::Relaxed);
        until(what, || async { counter.load(Ordering::Relaxed) > before + 20 }).await;
    }

    async fn end(self) -> BTreeSet<i64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeSet::new();
        for task in self.tasks {
            for n in task.await.expect("no answer came too late") {
                assert!(all.insert(n));
            }
        }
        all
    }
}

async fn check_everything_is_there(journal: &KafkaJournal, acknowledged: &BTreeSet<i64>) {
    let records = read_all(journal, &name("a"), Offset(0)).await;
    let mut found = BTreeSet::new();
    for n in records.iter().flat_map(rows) {
        assert!(found.insert(n), "{n} is there twice");
    }
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_under_load_loses_nothing_and_is_taken_up_again() {
    let Some(mut broker) = Broker::start("log.flush.interval.messages=1", &[]) else {
        return;
    };
    broker.wait(&broker.plain());
    let mut topics = Topics::new(&broker.address);
    topics.options.timeout = Duration::from_secs(3);
    let journal = topics.open(&["a"]).await;
    let load = Load::start(&journal, Duration::from_secs(10));
    load.more(&load.acknowledged, "events are acknowledged").await;
    let kills = if std::env::var_os("TIDEMILL_SOAK").is_some() {
        10
    } else {
        1
    };
    for _ in 0..kills {
        broker.kill();
        let mut health = journal.health();
        let away = health.wait_for(|health| matches!(health, KafkaHealth::Unreachable { .. }));
        tokio::time::timeout(super::SOON, away)
            .await
            .expect("seen")
            .expect("open");
        load.more(&load.refused, "events are refused").await;
        let begun = Instant::now();
        assert!(journal.end(&name("a")).await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        broker.resume_after_kill();
        broker.wait(&broker.plain());
        load.more(&load.acknowledged, "events are acknowledged again")
            .await;
        let back = health.wait_for(|health| *health == KafkaHealth::Reachable);
        tokio::time::timeout(super::SOON, back)
            .await
            .expect("seen")
            .expect("open");
    }
    let acknowledged = load.end().await;
    check_everything_is_there(&journal, &acknowledged).await;
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_answering_leaves_memory_bounded_and_goes_on_later() {
    let Some(broker) = Broker::start("", &[]) else {
        return;
    };
    broker.wait(&broker.plain());
    let mut topics = Topics::new(&broker.address);
    topics.options.timeout = Duration::from_secs(3);
    topics.options.queue_bytes = 24 << 20;
    let journal = topics.open(&["a"]).await;
    until("it takes the first", || async {
        journal.append(vec![batch("a", -1, 1)]).await.is_ok()
    })
    .await;
    broker.signal("STOP");
    // 500 kB each, of which the queue holds some forty.
    let appends = (0..100).map(|n| journal.append(vec![batch("a", n * 65_536, 65_536)]));
    let begun = Instant::now();
    let answers = futures::future::join_all(appends).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let full = |answer: &&Result<_, AppendError>| matches!(answer, Err(AppendError::QueueFull { .. }));
    let unavailable =
        |answer: &&Result<_, AppendError>| matches!(answer, Err(AppendError::Unavailable { .. }));
    let (full, late) = (
        answers.iter().filter(full).count(),
        answers.iter().filter(unavailable).count(),
    );
    assert_eq!(
        full + late,
        100,
        "nothing was acknowledged: {:?}",
        answers.iter().find(|answer| answer.is_ok())
    );
    assert!(
        full >= 50 && late >= 20,
        "{full} found the queue full, {late} waited in vain"
    );
    broker.signal("CONT");
    until("it goes on", || async {
        journal.append(vec![batch("a", -2, 1)]).await.is_ok()
    })
    .await;
    journal.close().await;
    let closed = journal.append(vec![batch("a", 0, 1)]).await.expect_err("closed");
    assert!(matches!(closed, AppendError::Closed), "{closed}");
}
