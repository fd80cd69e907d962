//! How fast the decoder is on a file: `cargo run --release -p event --example decode_speed -- FILE`.
//!
//! The file is NDJSON; its declaration is inferred from its first thousand lines. Prints the best and the median
//! of eleven passes on one core, in chunks of 256 KiB as a socket gives them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use event::StreamName;
use event::decode::{Decoder, Format};
use event::stream::infer::Sample;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: decode_speed FILE")?;
    let body = Bytes::from(std::fs::read(&path)?);
    let mut sample = Sample::new();
    for line in body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .take(1_000)
    {
        sample.add(&serde_json::from_slice(line)?);
    }
    let stream = Arc::new(sample.declaration(StreamName::parse("sample")?));
    let mut seconds = Vec::new();
    let mut counts = (0, 0);
    for _ in 0..11 {
        let begun = Instant::now();
        let mut decoder = Decoder::new(Arc::clone(&stream), Format::Ndjson);
        for at in (0..body.len()).step_by(256 << 10) {
            decoder.push(body.slice(at..(at + (256 << 10)).min(body.len())))?;
        }
        let decoded = decoder.finish()?;
        seconds.push(begun.elapsed().as_secs_f64());
        counts = (decoded.accepted, decoded.rejects.total());
    }
    seconds.sort_by(f64::total_cmp);
    let speed = |seconds: f64| body.len() as f64 / seconds / 1e6;
    println!(
        "{} accepted, {} rejected, {} bytes",
        counts.0,
        counts.1,
        body.len()
    );
    println!(
        "best {:.0} MB/s, median {:.0} MB/s",
        speed(seconds[0]),
        speed(seconds[5])
    );
    Ok(())
}
