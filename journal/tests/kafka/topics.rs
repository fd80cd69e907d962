//! Topics are made as they were asked for; what is otherwise is named and left as it is.

use std::time::{Duration, Instant};

use event::StreamDeclaration;
use journal::Journal;
use journal::kafka::{KafkaJournal, KafkaOptions, OpenError};
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};

use super::{Topics, brokers, json_stream, name, shared, stream};

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_with_the_settings_that_were_asked_for() {
    let Some(brokers) = brokers() else { return };
    let mut topics = Topics::new(&brokers);
    topics.options.partitions = 3;
    topics.options.retention = Some(Duration::from_secs(3_600));
    let journal = topics.open(&["a"]).await;
    assert_eq!(journal.partitions(&name("a")), 3);
    assert_eq!(journal.end(&name("a")).await.expect("known").len(), 3);
    let topic = topics.topic("a");
    assert_eq!(journal.topic(&name("a")), Some(topic.as_str()));
    let described = topics
        .administrator()
        .describe_configs([&ResourceSpecifier::Topic(&topic)], &AdminOptions::new())
        .await;
    let described = described.expect("answers").remove(0).expect("described");
    let settings = described.entry_map();
    let setting = |name: &str| settings[name].value.clone().expect("has a value");
    assert_eq!(setting("cleanup.policy"), "delete");
    assert_eq!(setting("retention.ms"), "3600000");
    let bytes = topics.options.record_bytes_max.to_string();
    assert_eq!(setting("max.message.bytes"), bytes);
    let id = journal.stream_id(&name("a"));
    let again = topics.open(&["a"]).await;
    assert_eq!(again.stream_id(&name("a")), id);
    assert!(id.0.starts_with(&format!("{}/", journal.id())), "{id}");
    journal.close().await;
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_otherwise_is_named_and_left_as_it_is() {
    let Some(brokers) = brokers() else { return };
    let mut topics = Topics::new(&brokers);
    let topic = topics.topic("a");
    let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(1))
        .set("max.message.bytes", "1000000")
        .set("retention.ms", "1000")
        .set("cleanup.policy", "compact");
    let made = topics
        .administrator()
        .create_topics([&new], &AdminOptions::new())
        .await;
    made.expect("answers").remove(0).expect("made");
    topics.options.partitions = 3;
    topics.options.replication = Some(2);
    topics.options.retention = Some(Duration::from_secs(60));
    let streams = shared([stream("a")]);
    let refused = KafkaJournal::open(topics.options.clone(), &streams).await;
    let Err(OpenError::Topics(problems)) = refused else {
        panic!("it must be refused: {refused:?}");
    };
    let named: Vec<_> = problems
        .iter()
        .map(|problem| (problem.setting.as_str(), problem.found.as_str()))
        .collect();
    let expected = [
        ("max.message.bytes", "1000000"),
        ("cleanup.policy", "compact"),
        ("retention.ms", "1000"),
        ("partitions", "2"),
        ("replication factor", "1"),
    ];
    assert_eq!(named, expected);
    let text = OpenError::Topics(problems).to_string();
    assert!(text.contains(&topic) && text.contains("wanted 3"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named_where_none_may_be_made() {
    let Some(brokers) = brokers() else { return };
    let mut topics = Topics::new(&brokers);
    topics.options.create_topics = false;
    let refused = KafkaJournal::open(topics.options.clone(), &shared([stream("a")])).await;
    let text = refused.expect_err("refused").to_string();
    assert!(
        text.contains(&topics.topic("a")) && text.contains("missing"),
        "{text}"
    );
    topics.options.create_topics = true;
    drop(topics.open(&["a"]).await);
    topics.options.create_topics = false;
    topics.options.partitions = 0;
    let found = topics.open(&["a"]).await;
    assert_eq!(found.partitions(&name("a")), 1, "the count of the topic is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_cannot_have_one_topic() {
    let Some(brokers) = brokers() else { return };
    let same = |name: &str| StreamDeclaration {
        topic: Some("same".to_owned()),
        ..stream(name)
    };
    let refused = KafkaJournal::open(KafkaOptions::new(brokers), &shared([same("a"), same("b")])).await;
    assert!(
        matches!(refused, Err(OpenError::Option { name: "topic", .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_others_fill_keeps_its_own_partitions() {
    let Some(brokers) = brokers() else { return };
    let topics = Topics::new(&brokers);
    let topic = topics.topic("theirs");
    let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(1));
    let made = topics
        .administrator()
        .create_topics([&new], &AdminOptions::new())
        .await;
    made.expect("answers").remove(0).expect("made");
    let stream = json_stream("[a.fields]\nn = \"int\"", Some(&topic));
    let opened = KafkaJournal::open(topics.options.clone(), &shared([stream])).await;
    assert_eq!(opened.expect("opens").partitions(&name("a")), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_librdkafka_does_not_take_are_named_without_their_values() {
    for (property, value) in [("no.such.property", "shown"), ("sasl.mechanism", "hidden-value")] {
        let mut options = KafkaOptions::new("127.0.0.1:1");
        options.properties.insert(property.to_owned(), value.to_owned());
        options
            .properties
            .insert("sasl.password".to_owned(), "hidden".to_owned());
        options
            .properties
            .insert("security.protocol".to_owned(), "SASL_PLAINTEXT".to_owned());
        let refused = KafkaJournal::open(options, &[]).await.expect_err("refused");
        let text = format!("{refused} {refused:?}");
        assert!(!text.contains("hidden\""), "{text}");
        if property == "no.such.property" {
            assert!(text.contains(property), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_the_start_fails_in_a_bounded_time() {
    // Nobody listens on the port of this listener once it is gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let mut options = KafkaOptions::new(&address);
    options.timeout = Duration::from_secs(2);
    let begun = Instant::now();
    let refused = KafkaJournal::open(options, &shared([stream("a")])).await;
    let took = begun.elapsed();
    let text = refused.expect_err("refused").to_string();
    assert!(text.contains(&address), "{text}");
    assert!(took < Duration::from_secs(8), "{took:?}");
}
