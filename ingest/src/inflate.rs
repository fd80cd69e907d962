//! Streaming decompression of request bodies: gzip, zstd, deflate and br, in bounded steps.
//!
//! [`Inflater::step`] consumes some input and gives at most [`PIECE_BYTES`] of output, so a bomb meets the
//! body limit after a piece, and no whole body is ever held.
//!
//! # Strictness
//! A stream must be complete, checksums must match, and nothing may follow it. gzip and zstd allow several
//! members or frames one after another, so those are read as one body. `deflate` means zlib (RFC 9110); raw
//! deflate is taken too, because some clients send it, and tells itself apart by the first four bits.
//!
//! # Memory
//! Windows: 32 KiB for gzip and deflate, 8 MiB for zstd (RFC 9659), 16 MiB for br. A frame that asks for more
//! is refused. Windows are touched only as far as output was written, which the byte budget counts.

use std::io::{self, Write};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Operation};

use crate::media::Encoding;

/// Most bytes of output of one step: stays in a core's cache between inflating and decoding.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// 2^23 bytes: what RFC 9659 says every receiver of `zstd` content takes, and none must exceed.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Why a compressed body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InflateError {
    /// The bytes are not of this encoding, or damaged.
    #[error("the body is not valid `{encoding}`: {message}")]
    Malformed { encoding: &'static str, message: String },
    /// The body ends before the compressed stream does.
    #[error("the body ends in the middle of its `{encoding}` stream")]
    Truncated { encoding: &'static str },
    /// Bytes follow the compressed stream.
    #[error("bytes follow the end of the body's `{encoding}` stream")]
    Trailing { encoding: &'static str },
}

/// One compressed stream.
pub(crate) struct Inflater {
    encoding: Encoding,
    stream: Stream,
}

enum Stream {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// The stream is made when its first byte is here; `ended` at its end.
    Deflate {
        inflate: Option<Decompress>,
        ended: bool,
    },
    /// `complete` between frames.
    Zstd {
        decoder: zstd::stream::raw::Decoder<'static>,
        complete: bool,
    },
    Brotli {
        state: Box<Brotli>,
        ended: bool,
    },
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

impl Inflater {
    /// A decompressor for one body, or `None` for an encoding that is none.
    pub(crate) fn new(encoding: Encoding) -> io::Result<Option<Self>> {
        let stream = match encoding {
            Encoding::Identity => return Ok(None),
            Encoding::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Encoding::Deflate => Stream::Deflate {
                inflate: None,
                ended: false,
            },
            Encoding::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                Stream::Zstd {
                    decoder,
                    complete: false,
                }
            }
            Encoding::Brotli => {
                let alloc = StandardAlloc::default;
                // Strict: no "large window" of up to 1 GiB, which is not part of RFC 7932.
                let state = Box::new(BrotliState::new_strict(alloc(), alloc(), alloc()));
                Stream::Brotli { state, ended: false }
            }
        };
        Ok(Some(Self { encoding, stream }))
    }

    /// Reads on in `input` and gives the next piece of output. An empty piece means that all of the input is
    /// consumed and more is needed.
    pub(crate) fn step(&mut self, input: &mut Bytes) -> Result<Bytes, InflateError> {
        let encoding = self.encoding.as_str();
        let malformed = |message: String| InflateError::Malformed { encoding, message };
        let trailing = || InflateError::Trailing { encoding };
        match &mut self.stream {
            Stream::Gzip(gzip) => step_gzip(gzip, input).map_err(|error| malformed(error.to_string())),
            Stream::Deflate { inflate, ended } => step_with(input, |input, output| {
                if *ended {
                    return if input.is_empty() {
                        Ok((0, 0))
                    } else {
                        Err(trailing())
                    };
                }
                let zlib = input.first().is_some_and(|byte| byte & 0x0f == 8);
                let inflate = inflate.get_or_insert_with(|| Decompress::new(zlib));
                let (read_before, written_before) = (inflate.total_in(), inflate.total_out());
                let status = inflate
                    .decompress(input, output, FlushDecompress::None)
                    .map_err(|error| malformed(error.to_string()))?;
                *ended = matches!(status, Status::StreamEnd);
                Ok((
                    (inflate.total_in() - read_before) as usize,
                    (inflate.total_out() - written_before) as usize,
                ))
            }),
            Stream::Zstd { decoder, complete } => step_with(input, |input, output| {
                if *complete && input.is_empty() {
                    // Asking here would begin a frame that may never come.
                    return Ok((0, 0));
                }
                let status = decoder
                    .run_on_buffers(input, output)
                    .map_err(|error| malformed(error.to_string()))?;
                *complete = status.remaining == 0;
                Ok((status.bytes_read, status.bytes_written))
            }),
            Stream::Brotli { state, ended } => step_with(input, |input, output| {
                if *ended {
                    return if input.is_empty() {
                        Ok((0, 0))
                    } else {
                        Err(trailing())
                    };
                }
                let (read, written, result) = step_brotli(state, input, output);
                match result {
                    BrotliResult::ResultFailure => return Err(malformed("damaged stream".to_owned())),
                    BrotliResult::ResultSuccess => *ended = true,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                }
                Ok((read, written))
            }),
        }
    }

    /// Ends the input; gives what was still held back.
    pub(crate) fn finish(self) -> Result<Bytes, InflateError> {
        let encoding = self.encoding.as_str();
        let complete = match self.stream {
            Stream::Gzip(gzip) => {
                return gzip
                    .finish()
                    .map(Bytes::from)
                    .map_err(|_| InflateError::Truncated { encoding });
            }
            Stream::Deflate { ended, .. } | Stream::Brotli { ended, .. } => ended,
            Stream::Zstd { complete, .. } => complete,
        };
        if complete {
            Ok(Bytes::new())
        } else {
            Err(InflateError::Truncated { encoding })
        }
    }
}

/// Runs `run(input, output) → (read, written)` until there is output or no input is left.
fn step_with(
    input: &mut Bytes,
    mut run: impl FnMut(&[u8], &mut [u8]) -> Result<(usize, usize), InflateError>,
) -> Result<Bytes, InflateError> {
    let mut output = vec![0; PIECE_BYTES];
    let mut filled = 0;
    loop {
        let (read, written) = run(input, &mut output[filled..])?;
        input.advance(read);
        filled += written;
        // A full piece may have left more output inside, which the next step gets; one without progress needs
        // input that is not here.
        if filled == output.len() || (read == 0 && written == 0) {
            break;
        }
    }
    output.truncate(filled);
    Ok(Bytes::from(output))
}

fn step_gzip(gzip: &mut MultiGzDecoder<Vec<u8>>, input: &mut Bytes) -> io::Result<Bytes> {
    while !input.is_empty() && gzip.get_ref().len() < PIECE_BYTES {
        // One write gives at most two internal buffers of 32 KiB, and says how much input that took.
        let read = gzip.write(input)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no progress"));
        }
        input.advance(read);
    }
    Ok(Bytes::from(std::mem::take(gzip.get_mut())))
}

fn step_brotli(state: &mut Brotli, input: &[u8], output: &mut [u8]) -> (usize, usize, BrotliResult) {
    let (mut available_in, mut read) = (input.len(), 0);
    let (mut available_out, mut written) = (output.len(), 0);
    let mut total = 0;
    let result = BrotliDecompressStream(
        &mut available_in,
        &mut read,
        input,
        &mut available_out,
        &mut written,
        output,
        &mut total,
        state,
    );
    (read, written, result)
}
