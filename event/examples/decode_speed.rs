//! How fast the decoder is on a file: `cargo run --release -p event --example decode_speed -- FILE [STREAM]`.
//!
//! The file is NDJSON; its declaration is inferred from its first thousand lines, unless the name of
//! one of the starter streams is given. Prints the best and the median
//! of twenty-one passes on one core, in chunks of 256 KiB as a socket gives them: bytes by seconds of processor time, so
//! that what else runs on the machine disturbs less (Linux only).

use std::sync::Arc;

use bytes::Bytes;
use event::decode::{Decoder, Format};
use event::stream::infer::Sample;
use event::{StreamDeclaration, StreamName};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: decode_speed FILE")?;
    let body = Bytes::from(std::fs::read(&path)?);
    let stream = match std::env::args().nth(2) {
        Some(name) => starter(&name)?,
        None => inferred(&body)?,
    };
    let stream = Arc::new(stream);
    let mut seconds = Vec::new();
    let mut counts = (0, 0);
    for _ in 0..PASSES {
        let begun = processor_seconds()?;
        let mut decoder = Decoder::new(Arc::clone(&stream), Format::Ndjson);
        for at in (0..body.len()).step_by(256 << 10) {
            decoder.push(body.slice(at..(at + (256 << 10)).min(body.len())))?;
        }
        let decoded = decoder.finish()?;
        seconds.push(processor_seconds()? - begun);
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
        speed(seconds[PASSES / 2])
    );
    Ok(())
}

const PASSES: usize = 21;

/// How long this thread has been on a processor: the kernel's own count, in nanoseconds.
fn processor_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: u64 = counts.split(' ').next().ok_or("no count")?.parse()?;
    Ok(nanoseconds as f64 / 1e9)
}

fn starter(name: &str) -> Result<StreamDeclaration, Box<dyn std::error::Error>> {
    let mut starters = StreamDeclaration::starters().into_iter();
    Ok(starters
        .find(|stream| stream.name.as_str() == name)
        .ok_or("no such starter stream")?)
}

fn inferred(body: &[u8]) -> Result<StreamDeclaration, Box<dyn std::error::Error>> {
    let mut sample = Sample::new();
    let lines = body.split(|byte| *byte == b'\n');
    for line in lines.filter(|line| !line.is_empty()).take(1_000) {
        sample.add(&serde_json::from_slice(line)?);
    }
    Ok(sample.declaration(StreamName::parse("sample")?))
}
