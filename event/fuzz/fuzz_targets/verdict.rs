//! One verdict under libFuzzer: whatever came before a line, and whoever read it, the scanner's word stands; and what
//! is JSON is what serde_json and the one rule say.
//!
//! The first byte chooses the stream, the second the form; what follows is the text. In half of the inputs it comes
//! between generated lines in the usual shape, so that it meets a decoder that has learned something.

#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use event::decode::{Decoder, EventDecoder, Format};
use event::limits::LINE_BYTES_MAX;
use event::{RejectCode, StreamDeclaration};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[path = "../../tests/decode/lines.rs"]
mod lines;
#[path = "../../tests/decode/strict.rs"]
mod strict;
#[path = "../../tests/decode/values.rs"]
mod values;
#[path = "../../tests/decode/verdict.rs"]
mod verdict;

static STREAMS: LazyLock<Vec<Arc<StreamDeclaration>>> = LazyLock::new(lines::declarations);

fuzz_target!(|input: &[u8]| {
    let [stream, form, text @ ..] = input else { return };
    let stream = &STREAMS[usize::from(*stream) % STREAMS.len()];
    let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.truncate(40);
    for line in &lines {
        judged_as_json_has_it(stream, line);
    }
    if form & 1 == 1 {
        let seed = text.iter().fold(u64::from(*form), |seed, byte| {
            seed.rotate_left(5) ^ u64::from(*byte)
        });
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut usual = lines::Lines::new(stream, &mut random).usual(5);
        let after = usual.split_off(3);
        lines = [usual, lines, after].concat();
    }
    let sizes = [usize::MAX, 1, 13, 1_000];
    let mut size = sizes[usize::from(form >> 1) % sizes.len()];
    let chunk_bytes = || {
        size = size.rotate_left(1) | 1;
        size
    };
    match form >> 3 & 3 {
        0 | 1 => verdict::of_lines(stream, &lines.join(&b'\n'), chunk_bytes),
        2 => verdict::of_elements(stream, None, &lines, chunk_bytes),
        _ => of_messages(stream, &lines),
    }
    .unwrap_or_else(|difference| panic!("{}: {difference}", stream.name));
});

fn of_messages(stream: &Arc<StreamDeclaration>, lines: &[Vec<u8>]) -> Result<(), String> {
    let mut together = EventDecoder::new(stream);
    for line in lines {
        let (found, alone) = (together.decode(line), EventDecoder::new(stream).decode(line));
        if found != alone {
            return Err(format!("{found:?}, alone {alone:?}"));
        }
    }
    Ok(())
}

fn judged_as_json_has_it(stream: &Arc<StreamDeclaration>, line: &[u8]) {
    let mut decoder = Decoder::new(Arc::clone(stream), Format::Ndjson);
    let decoded = decoder
        .push(Bytes::copy_from_slice(line))
        .and_then(|()| decoder.finish())
        .expect("lines are never refused whole");
    let code = decoded.rejects.described.first().map(|reject| reject.code);
    let blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    if blank || line.len() > LINE_BYTES_MAX {
        return;
    }
    let Ok(text) = std::str::from_utf8(line) else {
        assert_eq!(code, Some(RejectCode::InvalidUtf8));
        return;
    };
    let object = strict::members(text).is_some();
    assert_eq!(object, code != Some(RejectCode::InvalidJson), "{text}: {code:?}");
}
