//! What is kept, against a model that has every kept row and asks the definition of each one.
//!
//! Method: seeded rows whose ids repeat and whose arrival times mostly rise, with jitter, gaps, clocks that are far
//! ahead and clocks that go back. Now and then what is known is thrown away and found out again from the kept rows, as
//! after a start, read backwards only as far as [`LookBack`] asks.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::stream::parse_streams;
use crate::{Batch, Partition, Span, StreamDeclaration, TraceId, Unique, schema};

const SECOND: i64 = 1_000_000;

/// Every kept row: id and arrival.
struct Model {
    unique: Unique,
    kept: Vec<(u64, i64)>,
}

impl Model {
    fn admit(&mut self, id: u64, at: i64) -> bool {
        let duplicate = (0..self.kept.len())
            .rev()
            .any(|number| self.knows(number, id, at));
        if !duplicate {
            self.kept.push((id, at));
        }
        !duplicate
    }

    /// The definition of the module, word by word.
    fn knows(&self, number: usize, id: u64, at: i64) -> bool {
        let (found, received) = self.kept[number];
        let end = received + self.unique.window.as_micros() as i64;
        found == id && at < end && self.kept.len() - number <= self.unique.ids_max && {
            let after = &self.kept[number + 1..];
            let mut runs = after.windows(AGREEING);
            !runs.any(|run| run.iter().all(|(_, at)| *at >= end))
        }
    }

    /// What is known, from the kept rows alone; and how many of them were looked at.
    fn found_again(&self, stream: &StreamDeclaration, random: &mut ChaCha8Rng) -> (Seen, usize) {
        let mut look = LookBack::new(stream).expect("it is unique");
        let mut begin = self.kept.len();
        loop {
            let newest = self.kept[..begin].iter().map(|(_, at)| *at).max();
            if begin == 0 || look.is_enough(newest) {
                break;
            }
            // A file.
            let rows = random.random_range(1..40).min(begin);
            for (_, at) in self.kept[begin - rows..begin].iter().rev() {
                look.push(*at);
            }
            begin -= rows;
        }
        let mut seen = Seen::new(stream).expect("it is unique");
        for (id, at) in &self.kept[begin..] {
            seen.keep(id_of(*id), *at);
        }
        (seen, self.kept.len() - begin)
    }
}

fn stream(window: Duration, ids_max: usize) -> StreamDeclaration {
    let text = "[s]\nunique = \"id\"\n[s.fields]\nid = \"int\"";
    let mut stream = parse_streams(&text.parse().expect("TOML"))
        .expect("right")
        .remove(0);
    stream.unique = Some(Unique {
        field: "id".to_owned(),
        window,
        ids_max,
    });
    stream
}

fn id_of(id: u64) -> Id {
    let column: arrow_array::ArrayRef = std::sync::Arc::new(arrow_array::Int64Array::from(vec![id as i64]));
    Ids::of(&column, &stream(Unique::WINDOW, 1)).expect("ids").get(0)
}

fn rounds() -> u64 {
    if std::env::var_os("TIDEMILL_SOAK").is_some() {
        400
    } else {
        12
    }
}

#[test]
fn rows_are_kept_as_the_definition_says_also_after_any_start() {
    for seed in 0..rounds() {
        println!("seed {seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let ids_max = [40, 200, 100_000][random.random_range(0..3)];
        let stream = stream(Duration::from_secs(60), ids_max);
        let unique = stream.unique.clone().expect("it is unique");
        let mut model = Model {
            unique,
            kept: Vec::new(),
        };
        let mut seen = Seen::new(&stream).expect("it is unique");
        let (mut now, mut skew, mut duplicates) = (0, 0, 0);
        for row in 0..2_000_u64 {
            now += match random.random_range(0..1_000) {
                // A quiet time.
                0..3 => random.random_range(0..200 * SECOND),
                _ => random.random_range(0..SECOND),
            };
            match random.random_range(0..600) {
                0 => skew = random.random_range(-100 * SECOND..100 * SECOND),
                1..5 => skew = 0,
                _ => {}
            }
            let odd = match random.random_range(0..300) {
                0 => 1_000 * SECOND,
                1 => -1_000 * SECOND,
                _ => 0,
            };
            let at = now + skew + odd - random.random_range(0..2 * SECOND);
            let id = row.saturating_sub(random.random_range(0..260)) / 2;
            let expected = model.admit(id, at);
            assert_eq!(seen.admit_one(id_of(id), at), expected, "row {row}, seed {seed}");
            duplicates += u64::from(!expected);
            if random.random_range(0..150) == 0 {
                seen = model.found_again(&stream, &mut random).0;
            }
            assert!(seen.len() <= ids_max);
        }
        assert!(duplicates > 100, "{duplicates} duplicates test nothing");
    }
}

#[test]
fn a_start_reads_as_much_as_the_window_holds_and_memory_does_not_grow_with_the_stream() {
    let stream = stream(Duration::from_secs(60), 1_000_000);
    let mut model = Model {
        unique: stream.unique.clone().expect("it is unique"),
        kept: Vec::new(),
    };
    let mut seen = Seen::new(&stream).expect("it is unique");
    for number in 0..20_000 {
        let at = number * SECOND / 10;
        model.kept.push((number as u64, at));
        assert!(seen.admit_one(id_of(number as u64), at));
    }
    assert!(seen.len() <= 600 + AGREEING, "{} ids are held", seen.len());
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (again, read) = model.found_again(&stream, &mut random);
    assert!(read <= 600 + 2 * AGREEING, "{read} rows were read");
    assert_eq!(again.len(), seen.len());
}

#[test]
fn a_clock_that_is_far_ahead_makes_nobody_forget() {
    let stream = stream(Duration::from_secs(60), 1_000);
    let mut seen = Seen::new(&stream).expect("it is unique");
    assert!(seen.admit_one(id_of(1), 0));
    for number in 0..AGREEING as u64 - 1 {
        assert!(seen.admit_one(id_of(100 + number), 1_000 * SECOND));
    }
    assert!(!seen.admit_one(id_of(1), SECOND), "still known");
    assert!(seen.admit_one(id_of(99), 1_000 * SECOND));
    assert!(
        seen.admit_one(id_of(1), SECOND),
        "so many agree that it is forgotten"
    );
    assert!(
        !seen.admit_one(id_of(1), 2 * SECOND),
        "and this one is known instead"
    );
}

#[test]
fn an_id_is_the_same_in_the_journal_and_in_the_lake() {
    for (kind, values) in [
        ("int", "[1, 2, 1]"),
        (
            "uuid",
            "[\"D290F1EE-6c54-4b01-90e6-d701748f0851\", \"00000000-0000-4000-8000-000000000000\", \
              \"d290f1ee-6c54-4b01-90e6-d701748f0851\"]",
        ),
        ("string", "[\"a\", \"A\", \"a\"]"),
    ] {
        let text = format!("[s]\nunique = \"id\"\n[s.fields]\nid = \"{kind}\"");
        let stream = parse_streams(&text.parse().expect("TOML"))
            .expect("right")
            .remove(0);
        let mut decoder = crate::decode::EventDecoder::new(&std::sync::Arc::new(stream.clone()));
        let values: Vec<serde_json::Value> = serde_json::from_str(values).expect("JSON");
        for value in &values {
            let event = serde_json::json!({ "id": value }).to_string();
            decoder.push(event.as_bytes()).expect("an event");
        }
        let span = |rows, received_at| Span {
            rows,
            trace_id: TraceId::from_bytes([1; 16]),
            received_at,
            idempotency_key: None,
            producer: None,
        };
        let batch = Batch {
            stream: stream.name.clone(),
            partition: Partition(0),
            version: 1,
            spans: vec![span(2, 0), span(1, 3_600 * SECOND - 1)],
            rows: decoder.take().expect("rows"),
        };
        let mut seen = Seen::new(&stream).expect("it is unique");
        let mask = seen
            .admit(&batch, &stream)
            .expect("decides")
            .expect("a duplicate");
        assert_eq!(
            mask,
            arrow_array::BooleanArray::from(vec![true, true, false]),
            "{kind}"
        );
        let rows = schema::to_lake(&batch, crate::Offset(0), &stream).expect("rows");
        let ids = Ids::of(rows.column(0), &stream).expect("ids");
        for row in 0..2 {
            assert!(
                !seen.admit_one(ids.get(row), 10),
                "{kind}: known by the lake's form"
            );
        }
        let mut later = batch.clone();
        later.spans = vec![span(3, 3_600 * SECOND)];
        let mask = seen.admit(&later, &stream).expect("decides");
        assert_eq!(
            mask,
            Some(arrow_array::BooleanArray::from(vec![true, true, false])),
            "{kind}: the window is over"
        );
    }
}
