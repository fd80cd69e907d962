//! What positions mean when the broker has removed records, or the whole topic.

use std::time::Duration;

use event::{Offset, Partition, Position};
use journal::contract::{batch, read_all, rows};
use journal::kafka::KafkaHealth;
use journal::{AppendError, Journal, ReadError};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use super::{Topics, brokers, name, until};

fn at(offset: u64) -> Position {
    Position::new(Partition(0), Offset(offset))
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_broker_removed_are_gone_and_nothing_is_passed_over() {
    let Some(brokers) = brokers() else { return };
    let topics = Topics::new(&brokers);
    let journal = topics.open(&["a"]).await;
    for n in 0..10 {
        journal.append(vec![batch("a", n, 1)]).await.expect("appends");
    }
    // One that was opened before, one that is opened while the old beginning is remembered, one after.
    let mut opened = journal.reader(&name("a"), at(2)).await.expect("still there");
    let mut list = TopicPartitionList::new();
    let cut = list.add_partition_offset(&topics.topic("a"), 0, rdkafka::Offset::Offset(5));
    cut.expect("a list");
    let deleted = topics
        .administrator()
        .delete_records(&list, &AdminOptions::new())
        .await;
    deleted.expect("deleted");
    let error = opened.next(1_000).await.expect_err("gone");
    assert!(
        matches!(error, ReadError::Gone { asked, start: Offset(5) } if asked == at(2)),
        "{error}"
    );
    assert_eq!(opened.position(), at(2), "it stays where it was");
    assert_eq!(journal.start(&name("a")).await.expect("known"), [at(5)]);
    let error = journal.reader(&name("a"), at(4)).await.err().expect("gone");
    assert!(
        matches!(error, ReadError::Gone { start: Offset(5), .. }),
        "{error}"
    );
    let left = read_all(&*journal, &name("a"), Offset(5)).await;
    assert_eq!(left.iter().flat_map(rows).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_an_error_to_everybody() {
    let Some(brokers) = brokers() else { return };
    let topics = Topics::new(&brokers);
    let journal = topics.open(&["a", "b"]).await;
    for n in 0..3 {
        journal.append(vec![batch("a", n, 1)]).await.expect("appends");
    }
    let mut waiting = journal
        .reader(&name("a"), at(3))
        .await
        .expect("the end is a position");
    let topic = topics.topic("a");
    topics.delete(&topic).await;
    let administrator = topics.administrator();
    until("it is made anew", || async {
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "33554432");
        let made = administrator.create_topics([&new], &AdminOptions::new()).await;
        made.expect("answers").remove(0).is_ok()
    })
    .await;
    let mut health = journal.health();
    let seen = health.wait_for(|health| matches!(health, KafkaHealth::Replaced { .. }));
    let seen = tokio::time::timeout(super::SOON, seen)
        .await
        .expect("seen")
        .expect("open")
        .clone();
    let KafkaHealth::Replaced { message } = seen else {
        unreachable!()
    };
    assert!(message.contains(&topic), "{message}");
    let error = tokio::time::timeout(Duration::from_secs(5), waiting.next(1)).await;
    let error = error
        .expect("it does not wait for ever")
        .expect_err("another topic");
    assert!(matches!(error, ReadError::Replaced(_)), "{error}");
    let error = journal
        .append(vec![batch("a", 3, 1)])
        .await
        .expect_err("another topic");
    assert!(matches!(error, AppendError::Replaced(_)), "{error}");
    let error = journal.end(&name("a")).await.expect_err("another topic");
    assert!(matches!(error, ReadError::Replaced(_)), "{error}");
    assert!(journal.reader(&name("a"), at(0)).await.is_err());
    journal
        .append(vec![batch("b", 0, 1)])
        .await
        .expect("another stream goes on");
    let before = journal.stream_id(&name("a"));
    let again = topics.open(&["a"]).await;
    assert_ne!(
        again.stream_id(&name("a")),
        before,
        "destinations see that it is another one"
    );
    again
        .append(vec![batch("a", 0, 1)])
        .await
        .expect("after a restart it is a topic as any");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_of_one_partition_and_of_many_do_not_disturb_each_other() {
    let Some(brokers) = brokers() else { return };
    let topics = Topics::new(&brokers);
    let journal = topics.open(&["a", "b"]).await;
    for n in 0..50 {
        let group = vec![batch("a", n, 1), batch("b", n + 1_000, 1)];
        journal.append(group).await.expect("appends");
    }
    // More readers at once than lanes stay, again and again from other positions.
    for round in 0..3_u64 {
        let reads = (0..20_u64).map(|n| {
            let (stream, from) = if n % 2 == 0 { ("a", n) } else { ("b", n + round) };
            let journal = &journal;
            async move {
                let records = read_all(&**journal, &name(stream), Offset(from)).await;
                let found: Vec<_> = records.iter().flat_map(rows).collect();
                let first = if stream == "a" { 0 } else { 1_000 };
                let expected: Vec<_> = (first + from as i64..first + 50).collect();
                assert_eq!(found, expected, "{stream} from {from}");
                let offsets: Vec<_> = records.iter().map(|record| record.offset.0).collect();
                assert_eq!(offsets, (from..50).collect::<Vec<_>>());
            }
        });
        futures::future::join_all(reads).await;
    }
}
