//! Chunks of whole lines to send: of files, of the standard input, or made on the way.
//!
//! A chunk is filled in one go and handed out as slices, so that what is sent was copied once, by the system,
//! whatever the size of a batch; only the line that straddles two chunks is moved.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use event::limits::BODY_BYTES_MAX;

use super::options::Source;
use crate::load::generate::Generator;

/// Compressed bytes that are read at once.
const INPUT_BYTES: usize = 256 << 10;

/// Room for the longest generated event, so that a chunk never grows while one is written.
const EVENT_BYTES: usize = 4 << 10;

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read, or does not inflate.
    #[error("read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system, or the inflater, said.
        source: io::Error,
    },
    /// A line cannot be sent at all.
    #[error("a line of `{}` is longer than a body may be, `{BODY_BYTES_MAX}` bytes", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Whole lines, each with its newline.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    /// The times of its lines in microseconds since 1970, where the source knows them and they are wanted.
    pub(crate) micros: VecDeque<i64>,
    /// Nothing follows.
    pub(crate) last: bool,
}

/// Gives one chunk after the other.
pub(crate) struct Chunks {
    input: Input,
    /// The beginning of a line whose end did not fit into the chunk before.
    partial: Vec<u8>,
    /// The time of the generated line in `partial`.
    partial_micros: Option<i64>,
    wants_times: bool,
}

enum Input {
    Files(Files),
    Generated { generator: Box<Generator>, left: u64 },
}

impl Chunks {
    /// Opens the first file, so that a wrong name is known before anything is sent; the others must be there.
    pub(crate) fn open(source: &Source, wants_times: bool) -> Result<Self, SourceError> {
        let input = match source {
            Source::Files(paths) => Input::Files(Files::open(paths)?),
            Source::Generated {
                starter,
                count,
                options,
            } => Input::Generated {
                generator: Box::new(Generator::new(*starter, *options)),
                left: *count,
            },
        };
        Ok(Self {
            input,
            partial: Vec::new(),
            partial_micros: None,
            wants_times,
        })
    }

    /// The next chunk: `carry`, which was not sent yet, and what follows it, `size` bytes unless one line is
    /// longer or the source ends.
    pub(crate) fn next(&mut self, carry: &[u8], size: usize) -> Result<Chunk, SourceError> {
        let mut bytes = Vec::with_capacity(size + EVENT_BYTES);
        bytes.extend_from_slice(carry);
        bytes.append(&mut self.partial);
        match &mut self.input {
            Input::Files(files) => {
                let last = files.fill(&mut bytes, carry.len(), size)?;
                let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
                self.partial.extend_from_slice(&bytes[whole..]);
                bytes.truncate(whole);
                Ok(Chunk {
                    bytes: bytes.into(),
                    micros: VecDeque::new(),
                    last,
                })
            }
            Input::Generated { generator, left } => {
                let mut micros: VecDeque<i64> = self.partial_micros.take().into_iter().collect();
                while *left > 0 {
                    let from = bytes.len();
                    let ms = generator.write_event(&mut bytes);
                    *left -= 1;
                    let time = i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000);
                    if bytes.len() > size && from > 0 {
                        self.partial.extend_from_slice(&bytes[from..]);
                        self.partial_micros = self.wants_times.then_some(time);
                        bytes.truncate(from);
                        break;
                    }
                    if self.wants_times {
                        micros.push_back(time);
                    }
                }
                Ok(Chunk {
                    bytes: bytes.into(),
                    micros,
                    last: *left == 0 && self.partial.is_empty(),
                })
            }
        }
    }
}

/// Several files, read as one; each one's last line ends with its file.
struct Files {
    /// Files that were not begun, the next one last.
    waiting: Vec<PathBuf>,
    path: PathBuf,
    input: Box<dyn Read + Send>,
    ended: bool,
}

impl Files {
    fn open(paths: &[PathBuf]) -> Result<Self, SourceError> {
        for path in paths.iter().filter(|path| !is_standard_input(path)) {
            // Opened rather than looked at: it may be there and not be readable.
            File::open(path).map_err(|source| read_error(path, source))?;
        }
        let mut waiting: Vec<_> = paths.iter().rev().cloned().collect();
        let path = waiting.pop().unwrap_or_else(|| PathBuf::from("-"));
        Ok(Self {
            input: open(&path)?,
            waiting,
            path,
            ended: false,
        })
    }

    /// Fills up to `size` bytes in all, and more when there is no newline after the first `taken` ones. Gives
    /// whether nothing follows.
    fn fill(&mut self, bytes: &mut Vec<u8>, taken: usize, size: usize) -> Result<bool, SourceError> {
        let size_max = taken + BODY_BYTES_MAX + 1;
        let mut size = size.clamp(taken + 1, size_max);
        let mut searched = taken;
        while !self.ended {
            if bytes.len() >= size {
                if memchr::memrchr(b'\n', &bytes[searched..]).is_some() {
                    return Ok(false);
                }
                if bytes.len() >= size_max {
                    return Err(SourceError::LineTooLong {
                        path: self.path.clone(),
                    });
                }
                searched = bytes.len();
                size = (size * 2).min(size_max);
            }
            let room = (size - bytes.len()) as u64;
            let read = match (&mut self.input).take(room).read_to_end(bytes) {
                Ok(read) => read,
                Err(source) if source.kind() == ErrorKind::Interrupted => continue,
                Err(source) => return Err(read_error(&self.path, source)),
            };
            if (read as u64) < room {
                self.next_file(bytes)?;
            }
        }
        Ok(true)
    }

    fn next_file(&mut self, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        if bytes.last().is_some_and(|byte| *byte != b'\n') {
            bytes.push(b'\n');
        }
        match self.waiting.pop() {
            Some(path) => {
                self.input = open(&path)?;
                self.path = path;
            }
            None => self.ended = true,
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, SourceError> {
    if is_standard_input(path) {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    Ok(match extension {
        Some("gz") => {
            let input = BufReader::with_capacity(INPUT_BYTES, file);
            Box::new(flate2::bufread::MultiGzDecoder::new(input))
        }
        Some("zst") => Box::new(zstd::Decoder::new(file).map_err(|source| read_error(path, source))?),
        _ => Box::new(file),
    })
}

/// Whether a name means the standard input.
fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_error(path: &Path, source: io::Error) -> SourceError {
    SourceError::Read {
        path: path.to_owned(),
        source,
    }
}
