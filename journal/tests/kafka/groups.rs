//! Members of a group share the partitions of its streams, and take over from one that has died.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use event::{Offset, Partition, Position, StreamName};
use journal::{Assignment, GroupMember, Journal};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Topics, brokers, name, until};

const CHILD: &str = "TIDEMILL_TEST_GROUP_CHILD";

fn partitions_of(member: &dyn GroupMember) -> BTreeSet<(StreamName, Partition)> {
    let assigned: Assignment = Arc::clone(&member.assigned().borrow());
    BTreeSet::clone(&assigned)
}

fn every(streams: &[StreamName], partitions: u32) -> BTreeSet<(StreamName, Partition)> {
    let of = |stream: &StreamName| {
        let stream = stream.clone();
        (0..partitions).map(move |partition| (stream.clone(), Partition(partition)))
    };
    streams.iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_the_partitions_and_one_takes_over_when_the_other_leaves() {
    let Some(brokers) = brokers() else { return };
    let mut topics = Topics::new(&brokers);
    topics.options.partitions = 4;
    let journal = topics.open(&["a", "b"]).await;
    let streams = [name("a"), name("b")];
    let group = format!("{}group", topics.options.topic_prefix);
    let first = journal.join(&group, &streams).await.expect("joins");
    until("the first has everything", || async {
        partitions_of(&*first) == every(&streams, 4)
    })
    .await;
    let other = topics.open(&["a", "b"]).await;
    let second = other.join(&group, &streams).await.expect("joins");
    until("both have some, none the same, and together all", || async {
        let (mine, theirs) = (partitions_of(&*first), partitions_of(&*second));
        let all: BTreeSet<_> = mine.union(&theirs).cloned().collect();
        !mine.is_empty() && !theirs.is_empty() && mine.is_disjoint(&theirs) && all == every(&streams, 4)
    })
    .await;
    let (stream, partition) = partitions_of(&*second).first().cloned().expect("has some");
    second.committed(&stream, Position::new(partition, Offset(7)));
    let mut config = topics.config();
    config.set("group.id", &group);
    let asking: BaseConsumer = config.create().expect("a client");
    let topic = topics.topic(stream.as_str());
    until("the group's offsets show the position", || async {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, partition.0 as i32);
        let committed = asking
            .committed_offsets(list, Duration::from_secs(5))
            .expect("answers");
        committed.elements()[0].offset() == rdkafka::Offset::Offset(7)
    })
    .await;
    second.leave().await;
    until("the first has everything again", || async {
        partitions_of(&*first) == every(&streams, 4)
    })
    .await;
    first.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_member_that_was_killed_are_taken_over() {
    let Some(brokers) = brokers() else { return };
    let mut topics = Topics::new(&brokers);
    topics.options.partitions = 2;
    let journal = topics.open(&["a"]).await;
    let streams = [name("a")];
    let group = format!("{}group", topics.options.topic_prefix);
    let member = journal.join(&group, &streams).await.expect("joins");
    until("it has everything", || async {
        partitions_of(&*member) == every(&streams, 2)
    })
    .await;
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "groups::the_member_in_a_process_of_its_own",
            "--exact",
            "--nocapture",
        ])
        .env(
            CHILD,
            format!("{brokers} {} {group}", topics.options.topic_prefix),
        )
        .stdin(Stdio::piped())
        .spawn()
        .expect("runs");
    until("the other process has one", || async {
        partitions_of(&*member).len() == 1
    })
    .await;
    child.kill().expect("killed");
    child.wait().expect("ended");
    let begun = std::time::Instant::now();
    until("its partition is taken over", || async {
        partitions_of(&*member) == every(&streams, 2)
    })
    .await;
    eprintln!("took over {:?} after the kill", begun.elapsed());
    member.leave().await;
}

/// Not a test by itself: what the other process of the test above does until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn the_member_in_a_process_of_its_own() {
    let Some(told) = std::env::var_os(CHILD) else {
        return;
    };
    let told = told.into_string().expect("text");
    let mut told = told.split(' ');
    let mut next = || told.next().expect("three words").to_owned();
    let mut topics = std::mem::ManuallyDrop::new(Topics::new(&next()));
    topics.options.topic_prefix = next();
    topics.options.partitions = 2;
    let journal = topics.open(&["a"]).await;
    let _member = journal.join(&next(), &[name("a")]).await.expect("joins");
    // Ends with the other's pipe at the latest.
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    drop(ended.await);
}
