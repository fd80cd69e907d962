//! Windows against what they are made of: whatever is read when, ranges are contiguous and nothing is left out.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, TimestampMicrosecondArray};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const SEED: u64 = 20_261_121;
const SECOND: i64 = 1_000_000;

/// Rows of one record, by their arrival.
fn record(offset: u64, received: &[i64]) -> RecordBatch {
    let moments: ArrayRef = Arc::new(TimestampMicrosecondArray::from(received.to_vec()).with_timezone("UTC"));
    let offsets: ArrayRef = Arc::new(Int64Array::from_value(offset.cast_signed(), received.len()));
    let rows: ArrayRef = Arc::new(Int32Array::from_iter_values(0..received.len() as i32));
    RecordBatch::try_from_iter([
        (schema::RECEIVED_AT, moments),
        (schema::OFFSET, offsets),
        (schema::ROW, rows),
    ])
    .expect("three columns of one length")
}

fn chunk(offset: u64, received: &[i64]) -> Chunk {
    Chunk {
        rows: vec![record(offset, received)],
        to: Offset(offset + 1),
    }
}

fn one() -> Windows {
    Windows::new(10 * SECOND, 4, &[Place::default()], 0)
}

#[test]
fn a_window_ends_at_its_rows_inside_of_a_record() {
    let mut windows = one();
    windows.push(Partition(0), chunk(0, &[3 * SECOND; 6]));
    let first = windows
        .advance(&[Offset(1)], 0, i64::MAX)
        .expect("rows")
        .expect("full");
    assert_eq!((first.start, first.end, first.count), (0, 3 * SECOND, 4));
    let inside = Place { offset: 0, row: 4 };
    assert_eq!(
        first.ranges,
        [Range {
            partition: 0,
            from: Place::default(),
            to: inside
        }]
    );
    assert!(
        windows
            .advance(&[Offset(1)], 0, i64::MAX)
            .expect("rows")
            .is_none()
    );
    let rest = windows.flush().expect("two rows");
    // It begins where the full one ended.
    assert_eq!((rest.start, rest.count), (3 * SECOND, 2));
    assert_eq!(
        rest.ranges,
        [Range {
            partition: 0,
            from: inside,
            to: Place { offset: 1, row: 0 }
        }]
    );
    assert!(windows.flush().is_none(), "there is no empty window");
}

#[test]
fn a_window_ends_with_its_time_when_everything_until_then_is_read() {
    let mut windows = one();
    windows.push(Partition(0), chunk(0, &[12 * SECOND, 13 * SECOND]));
    let due = 20 * SECOND + GRACE_US;
    assert!(
        windows
            .advance(&[Offset(1)], due - 1, due)
            .expect("rows")
            .is_none()
    );
    assert_eq!(windows.due(), Some(due));
    // Something was durable by then that is not read yet.
    assert!(windows.advance(&[Offset(2)], due, due).expect("rows").is_none());
    windows.push(Partition(0), chunk(1, &[19 * SECOND]));
    let window = windows
        .advance(&[Offset(2)], due, due)
        .expect("rows")
        .expect("ended");
    assert_eq!(
        (window.start, window.end, window.count),
        (10 * SECOND, 20 * SECOND, 3)
    );
    assert_eq!(windows.due(), None);
}

#[test]
fn a_row_that_is_read_late_is_in_the_next_window() {
    let mut windows = one();
    windows.push(Partition(0), chunk(0, &[12 * SECOND, 25 * SECOND, 14 * SECOND]));
    let first = windows
        .advance(&[Offset(1)], 0, i64::MAX)
        .expect("rows")
        .expect("ended");
    assert_eq!(
        (first.start, first.end, first.count),
        (10 * SECOND, 20 * SECOND, 1)
    );
    assert!(
        windows
            .advance(&[Offset(1)], 0, i64::MAX)
            .expect("rows")
            .is_none()
    );
    let next = windows.flush().expect("two rows");
    assert_eq!((next.start, next.count), (20 * SECOND, 2));
}

#[test]
fn windows_of_random_partitions_are_contiguous_and_in_time() {
    println!("seed {SEED}");
    for round in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(SEED + round);
        let lanes = random.random_range(1..5_usize);
        let rows_max = random.random_range(1..40);
        let places = vec![Place::default(); lanes];
        let mut windows = Windows::new(SECOND, rows_max, &places, 0);
        let (mut ends, mut clocks) = (vec![0_u64; lanes], vec![0_i64; lanes]);
        let (mut sent, mut counted, mut last_end) = (0, 0, 0);
        let mut reached = places.clone();
        let mut waiting: Vec<VecDeque<Chunk>> = (0..lanes).map(|_| VecDeque::new()).collect();
        let mut take = |window: Window, reached: &mut Vec<Place>| {
            assert!(window.count > 0 && window.count <= rows_max, "round {round}");
            assert!(window.start >= last_end, "round {round}: windows do not overlap");
            last_end = window.end;
            for range in &window.ranges {
                let before = std::mem::replace(&mut reached[range.partition as usize], range.to);
                assert_eq!(before, range.from, "round {round}");
            }
            let rows: usize = window.rows.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(rows as u64, window.count, "round {round}");
            for rows in &window.rows {
                assert!(received(rows).expect("there").iter().all(|at| *at <= window.end));
            }
            counted += window.count;
        };
        for _ in 0..60 {
            let lane = random.random_range(0..lanes);
            let count = random.random_range(0..15);
            let arrivals: Vec<i64> = (0..count)
                .map(|_| {
                    clocks[lane] += random.random_range(0..SECOND / 3);
                    clocks[lane]
                })
                .collect();
            waiting[lane].push_back(chunk(ends[lane], &arrivals));
            ends[lane] += 1;
            sent += count;
            let lane = random.random_range(0..lanes);
            if windows.is_empty(lane)
                && let Some(chunk) = waiting[lane].pop_front()
            {
                windows.push(Partition(lane as u32), chunk);
            }
            let none = vec![Offset(0); lanes];
            while let Some(window) = windows.advance(&none, 0, i64::MAX).expect("rows") {
                take(window, &mut reached);
            }
        }
        let target: Vec<Offset> = ends.iter().copied().map(Offset).collect();
        loop {
            while let Some(window) = windows.advance(&target, i64::MAX, i64::MAX).expect("rows") {
                take(window, &mut reached);
            }
            let Some(lane) = (0..lanes).find(|lane| windows.misses(*lane, target[*lane])) else {
                break;
            };
            windows.push(
                Partition(lane as u32),
                waiting[lane].pop_front().expect("not read yet"),
            );
        }
        assert_eq!(counted, sent, "round {round}");
        for (lane, place) in reached.iter().enumerate() {
            // Records without rows at the end are in no window.
            assert!(place.offset <= ends[lane], "round {round}");
        }
    }
}
