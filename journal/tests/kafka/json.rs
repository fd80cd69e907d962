//! Streams of the format `json`: one event in each message, ours and other people's.

use std::sync::Arc;

use event::decode::EventDecoder;
use event::{Batch, Offset, Partition, Position, RejectCode, Span, StreamDeclaration, TraceId};
use journal::contract::read_all;
use journal::kafka::KafkaJournal;
use journal::{Decoded, Journal, Payload, Record, RecordDecoder};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{SOON, Topics, brokers, json_stream, name, shared};

const DECLARATION: &str = r#"
    [runs]
    key = "user"
    [runs.fields]
    user = "uuid"
    n = "int"
    note = { type = "string", optional = true }
"#;
const USERS: [&str; 2] = [
    "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
    "00000000-0000-4000-8000-000000000001",
];

fn runs(stream: &StreamDeclaration, lines: &[String], trace: u8) -> Batch {
    let mut decoder = EventDecoder::new(stream);
    let rows: Vec<_> = lines
        .iter()
        .map(|line| decoder.decode(line.as_bytes()).expect("an event"))
        .collect();
    let rows = arrow_select::concat::concat_batches(rows[0].schema_ref(), &rows).expect("one schema");
    Batch {
        stream: stream.name.clone(),
        partition: Partition(0),
        version: 1,
        spans: vec![Span {
            rows: lines.len() as u32,
            trace_id: TraceId::from_bytes([trace; 16]),
            received_at: 1_700_000_000_123_456,
            idempotency_key: None,
            producer: None,
        }],
        rows,
    }
}

fn line(user: usize, n: i64) -> String {
    format!(r#"{{"user":"{}","n":{n}}}"#, USERS[user])
}

fn numbers(decoder: &mut RecordDecoder, records: &[Record]) -> Vec<i64> {
    use arrow_array::cast::AsArray;
    let mut found = Vec::new();
    for record in records {
        if let Decoded::Batch(batch) = decoder.decode(record).expect("readable") {
            let column = batch.rows.column_by_name("n").expect("a column");
            let values = column.as_primitive::<arrow_array::types::Int64Type>().values();
            found.extend(values.iter().copied());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_messages_that_other_programs_read_and_come_back_as_they_were() {
    let Some(brokers) = brokers() else { return };
    let topics = Topics::new(&brokers);
    let stream = json_stream(DECLARATION, None);
    let journal = KafkaJournal::open(topics.options.clone(), &shared([stream.clone()])).await;
    let journal = journal.expect("opens");
    let first = runs(&stream, &[line(0, 1), line(1, 2)], 7);
    let second = runs(&stream, &[line(0, 3)], 8);
    let positions = journal.append(vec![first, second]).await.expect("appends");
    let position = |offset| Position::new(Partition(0), Offset(offset));
    assert_eq!(
        positions,
        [position(2), position(3)],
        "just after the last message of each"
    );

    let mut config = topics.config();
    config
        .set("group.id", "reads")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().expect("a client");
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&topics.topic("runs"), 0, rdkafka::Offset::Beginning)
        .expect("a list");
    consumer.assign(&list).expect("assigned");
    let message = consumer.poll(SOON).expect("a message").expect("no error");
    assert_eq!(message.payload().expect("a value"), line(0, 1).as_bytes());
    assert_eq!(message.key().expect("a key"), USERS[0].as_bytes());
    let header = |message: &BorrowedMessage<'_>, key: &str| {
        let headers = message.headers().expect("headers");
        let found = headers.iter().find(|header| header.key == key).expect(key);
        String::from_utf8(found.value.expect("a value").to_vec()).expect("text")
    };
    assert_eq!(header(&message, "content-type"), "application/json");
    let trace = format!("00-{}-{}-01", "07".repeat(16), "07".repeat(8));
    assert_eq!(header(&message, "traceparent"), trace);

    let records = read_all(&*journal, &name("runs"), Offset(0)).await;
    let mut decoder = RecordDecoder::new(Arc::new(stream));
    assert_eq!(numbers(&mut decoder, &records), [1, 2, 3]);
    let Decoded::Batch(batch) = decoder.decode(&records[2]).expect("readable") else {
        panic!("an event")
    };
    assert_eq!(batch.spans[0].trace_id, TraceId::from_bytes([8; 16]));
    assert_eq!(
        batch.spans[0].received_at, 1_700_000_000_123_456,
        "to the microsecond"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_programs_write_is_events_or_rejects_and_the_same_at_every_reading() {
    let Some(brokers) = brokers() else { return };
    let topics = Topics::new(&brokers);
    let stream = json_stream(DECLARATION, Some(&topics.topic("theirs")));
    let journal = KafkaJournal::open(topics.options.clone(), &shared([stream.clone()])).await;
    let journal = journal.expect("opens");
    let producer: BaseProducer = topics.config().create().expect("a client");
    let topic = topics.topic("theirs");
    let values = [
        Some(line(0, 1)),
        None,
        Some("no json".to_owned()),
        Some(line(1, 2)),
    ];
    for value in &values {
        let mut record = BaseRecord::<str, str>::to(&topic)
            .partition(0)
            .timestamp(1_700_000_000_500);
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| error).expect("sent");
    }
    producer.flush(SOON).expect("confirmed");
    let records = read_all(&*journal, &name("runs"), Offset(0)).await;
    assert_eq!(records.len(), 4);
    let mut decoder = RecordDecoder::new(Arc::new(stream));
    assert_eq!(numbers(&mut decoder, &records), [1, 2]);
    for (record, message) in [(&records[1], "no value"), (&records[2], "")] {
        let Decoded::Reject(reject, _) = decoder.decode(record).expect("no error") else {
            panic!("a reject")
        };
        assert_eq!(reject.code, RejectCode::InvalidJson);
        assert!(reject.message.contains(message), "{}", reject.message);
    }
    let trace = |record: &Record| match &record.payload {
        Payload::Json(message) => (message.trace_id, message.received_at),
        _ => panic!("a message"),
    };
    assert_eq!(trace(&records[0]).1, 1_700_000_000_500_000);
    assert_ne!(trace(&records[0]).0, trace(&records[1]).0);
    let again = read_all(&*journal, &name("runs"), Offset(0)).await;
    for (first, second) in records.iter().zip(&again) {
        assert_eq!(trace(first), trace(second));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_hold_nothing_are_records_of_nothing() {
    let Some(brokers) = brokers() else { return };
    let topics = Topics::new(&brokers);
    let topic = topics.topic("theirs");
    let stream = json_stream(DECLARATION, Some(&topic));
    let journal = KafkaJournal::open(topics.options.clone(), &shared([stream.clone()])).await;
    let journal = journal.expect("opens");
    let mut config = topics.config();
    config.set("transactional.id", &topic);
    let producer: BaseProducer = config.create().expect("a client");
    producer.init_transactions(SOON).expect("transactions");
    // Each commit takes an offset of its own, and what is taken back holds nothing either.
    for (n, commit) in [(1, true), (2, false), (3, true)] {
        producer.begin_transaction().expect("begins");
        let (first, second) = (line(0, n), line(1, n + 10));
        for value in [&first, &second] {
            let record = BaseRecord::<str, str>::to(&topic).partition(0).payload(value);
            producer.send(record).map_err(|(error, _)| error).expect("sent");
        }
        producer.flush(SOON).expect("confirmed");
        if commit {
            producer.commit_transaction(SOON).expect("committed");
        } else {
            producer.abort_transaction(SOON).expect("taken back");
        }
    }
    super::until("the last transaction is over", || async {
        journal.end(&name("runs")).await.expect("known")[0].offset == Offset(9)
    })
    .await;
    let records = read_all(&*journal, &name("runs"), Offset(0)).await;
    let offsets: Vec<_> = records.iter().map(|record| record.offset.0).collect();
    assert_eq!(offsets, (0..9).collect::<Vec<_>>(), "no gap, up to the end");
    let mut decoder = RecordDecoder::new(Arc::new(stream));
    assert_eq!(numbers(&mut decoder, &records), [1, 11, 3, 13]);
}
