//! What it costs to tell duplicates: time for a row, memory for a known id.
//!
//! ```sh
//! cargo run --release -p event --example unique_cost
//! ```

use std::time::Instant;

use bytes::Bytes;
use event::decode::{Decoder, Format};
use event::stream::parse_streams;
use event::unique::Seen;
use event::{Batch, Partition, Span, TraceId};

const ROWS: u64 = 2_000_000;
const RECORD: u64 = 20_000;

fn main() {
    println!("{ROWS} ids that are all new, then the same again; a record has {RECORD} rows");
    println!("kind     new ns/row  known ns/row  held ids  bytes/id");
    for kind in ["uuid", "int", "string"] {
        let text = format!("[s]\nunique = \"id\"\nunique_ids_max = 50000000\n[s.fields]\nid = \"{kind}\"");
        let streams = parse_streams(&text.parse().expect("TOML")).expect("right");
        let stream = std::sync::Arc::new(streams.into_iter().next().expect("one"));
        let batches: Vec<Batch> = (0..ROWS / RECORD)
            .map(|record| {
                let mut lines = String::new();
                for number in record * RECORD..(record + 1) * RECORD {
                    // Spread as random ids are.
                    let spread = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
                    let id = uuid::Uuid::from_u128(spread);
                    match kind {
                        "int" => lines.push_str(&format!("{{\"id\":{}}}\n", spread as i64)),
                        _ => lines.push_str(&format!("{{\"id\":\"{id}\"}}\n")),
                    }
                }
                let mut decoder = Decoder::new(std::sync::Arc::clone(&stream), Format::Ndjson);
                decoder.push(Bytes::from(lines)).expect("lines");
                let mut decoded = decoder.finish().expect("lines");
                let rows = decoded.batches.remove(0);
                Batch {
                    stream: stream.name.clone(),
                    partition: Partition(0),
                    version: 1,
                    spans: vec![Span {
                        rows: u32::try_from(rows.num_rows()).expect("few"),
                        trace_id: TraceId::from_bytes([1; 16]),
                        received_at: 0,
                        idempotency_key: None,
                        producer: None,
                    }],
                    rows,
                }
            })
            .collect();
        let mut seen = Seen::new(&stream).expect("it is unique");
        let mut round = || {
            let begun = Instant::now();
            for batch in &batches {
                seen.admit(batch, &stream).expect("decides");
            }
            begun.elapsed().as_nanos() as f64 / ROWS as f64
        };
        let (new, known) = (round(), round());
        let (held, bytes) = (seen.len(), seen.bytes());
        let each = bytes as f64 / held as f64;
        println!("{kind:7} {new:11.0} {known:13.0} {held:9} {each:9.1}");
    }
}
