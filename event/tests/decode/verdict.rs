//! One verdict: a body of many lines against each of its lines alone.
//!
//! A fresh decoder has learned nothing, so that its first line is judged by the scanner. What a decoder makes of a line
//! after any others must be the same: the row, or the reject with its code, field, message and bytes.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use event::decode::{BodyError, Decoded, Decoder, Envelope, Format};
use event::limits::REJECTS_DESCRIBED_MAX;
use event::{Reject, StreamDeclaration};

/// What every line alone comes to.
#[derive(Default)]
struct Alone {
    rows: Vec<RecordBatch>,
    rejects: Vec<Reject>,
    counts: [u64; event::RejectCode::ALL.len()],
    fields_ignored: u64,
}

impl Alone {
    fn add(&mut self, decoded: Decoded, number: u64) {
        self.rows.extend(decoded.batches);
        self.fields_ignored += decoded.fields_ignored;
        for (sum, count) in self.counts.iter_mut().zip(decoded.rejects.counts) {
            *sum += count;
        }
        let rejects = decoded.rejects.described.into_iter();
        self.rejects.extend(rejects.map(|reject| Reject {
            line: number,
            ..reject
        }));
        self.rejects.truncate(REJECTS_DESCRIBED_MAX);
    }

    /// What is different in `together`, in words.
    fn difference(&self, together: &Decoded) -> Option<String> {
        let rows = together
            .batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));
        for (number, (found, alone)) in rows.zip(&self.rows).enumerate() {
            if found != *alone {
                return Some(format!(
                    "row {number} is {:?}, alone it is {:?}",
                    found.columns(),
                    alone.columns()
                ));
            }
        }
        let rejects = together.rejects.described.iter().zip(&self.rejects);
        for (found, alone) in rejects {
            if found != alone {
                return Some(format!("rejected {found:?}, alone {alone:?}"));
            }
        }
        let found = (
            together.accepted,
            together.rejects.counts,
            together.fields_ignored,
        );
        let alone = (self.rows.len() as u64, self.counts, self.fields_ignored);
        (found != alone)
            .then(|| format!("accepted, rejected by code and fields ignored are {found:?}, alone {alone:?}"))
    }
}

/// What is different about lines that come together, in chunks of the sizes that `chunk_bytes` gives.
pub(crate) fn of_lines(
    stream: &Arc<StreamDeclaration>,
    body: &[u8],
    chunk_bytes: impl FnMut() -> usize,
) -> Result<(), String> {
    let mut alone = Alone::default();
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        let mut decoder = Decoder::new(Arc::clone(stream), Format::Ndjson);
        let decoded = decoder
            .push(Bytes::copy_from_slice(line))
            .and_then(|()| decoder.finish());
        alone.add(decoded.expect("lines are never refused whole"), number);
    }
    let decoder = Decoder::new(Arc::clone(stream), Format::Ndjson);
    let together = decoded(decoder, body, chunk_bytes).expect("lines are never refused whole");
    alone.difference(&together).map_or(Ok(()), Err)
}

/// The same for elements of an array, or of an envelope. Elements that are none alone must refuse the document.
pub(crate) fn of_elements(
    stream: &Arc<StreamDeclaration>,
    envelope: Option<&Arc<Envelope>>,
    elements: &[Vec<u8>],
    chunk_bytes: impl FnMut() -> usize,
) -> Result<(), String> {
    let decoder = || match envelope {
        None => Decoder::new(Arc::clone(stream), Format::Json),
        Some(envelope) => Decoder::enveloped(stream, Arc::clone(envelope)),
    };
    let document = |elements: &[&[u8]]| match envelope {
        None => [b"[", elements.join(&b","[..]).as_slice(), b"]"].concat(),
        Some(_) => {
            let events = elements.join(&b","[..]);
            [b"{\"events\":[", events.as_slice(), b"],\"place\":\"here\"}"].concat()
        }
    };
    let mut alone = Alone::default();
    let mut sound: Vec<&[u8]> = Vec::new();
    let mut unsound = None;
    for element in elements {
        let body = document(&[element]);
        let decoded = decoded(decoder(), &body, || body.len());
        // An element with a comma in it may be two.
        match decoded
            .ok()
            .filter(|found| found.accepted + found.rejects.total() == 1)
        {
            Some(decoded) => {
                sound.push(element);
                alone.add(decoded, sound.len() as u64);
            }
            None => unsound = Some(element),
        }
    }
    let mut chunk_bytes = chunk_bytes;
    let together = decoded(decoder(), &document(&sound), &mut chunk_bytes);
    let together = together.map_err(|error| format!("refused whole: {error}"))?;
    if let Some(difference) = alone.difference(&together) {
        return Err(difference);
    }
    if let Some(unsound) = unsound.filter(|_| envelope.is_none()) {
        let sole = document(&[unsound]);
        let refused = decoded(decoder(), &sole, || sole.len()).is_err();
        sound.push(unsound);
        let body = document(&sound);
        if refused && decoded(decoder(), &body, chunk_bytes).is_ok() {
            return Err(format!("accepted with {}", String::from_utf8_lossy(unsound)));
        }
    }
    Ok(())
}

fn decoded(
    mut decoder: Decoder,
    body: &[u8],
    mut chunk_bytes: impl FnMut() -> usize,
) -> Result<Decoded, BodyError> {
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk_bytes().clamp(1, rest.len()));
        decoder.push(Bytes::copy_from_slice(chunk))?;
        rest = after;
    }
    decoder.finish()
}
