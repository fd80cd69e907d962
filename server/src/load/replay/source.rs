//! Lines to send: of files, of the standard input, or made on the way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use event::limits::BODY_BYTES_MAX;

use super::options::Source;
use crate::load::generate::Generator;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read, or does not inflate.
    #[error("read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system, or the inflater, said.
        source: io::Error,
    },
    /// A line cannot be sent at all.
    #[error("line {line} of `{}` is longer than a body may be, {BODY_BYTES_MAX} bytes", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
    },
}

/// Gives one line after the other.
pub(super) enum Lines {
    Files(FileLines),
    Generated { generator: Generator, left: u64 },
}

/// A line that was appended.
pub(super) struct Appended {
    /// The event's time in microseconds since 1970, where the source knows it.
    pub(super) micros: Option<i64>,
}

impl Lines {
    /// Opens the first file, so that a wrong name is known before anything is sent; the others must be there.
    pub(super) fn open(source: &Source) -> Result<Self, SourceError> {
        match source {
            Source::Files(paths) => FileLines::open(paths).map(Self::Files),
            Source::Generated {
                starter,
                count,
                options,
            } => Ok(Self::Generated {
                generator: Generator::new(*starter, *options),
                left: *count,
            }),
        }
    }

    /// Appends the next line that is not blank, with a newline. `None` at the end.
    pub(super) fn append(&mut self, body: &mut Vec<u8>) -> Result<Option<Appended>, SourceError> {
        match self {
            Self::Files(files) => {
                let more = files.append(body)?;
                Ok(more.then_some(Appended { micros: None }))
            }
            Self::Generated { left: 0, .. } => Ok(None),
            Self::Generated { generator, left } => {
                *left -= 1;
                let ms = generator.write_event(body);
                let micros = i64::try_from(ms).ok().and_then(|ms| ms.checked_mul(1_000));
                Ok(Some(Appended { micros }))
            }
        }
    }
}

/// The lines of several files.
pub(super) struct FileLines {
    /// Files that were not begun, the next one last.
    waiting: Vec<PathBuf>,
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    line: u64,
}

impl FileLines {
    fn open(paths: &[PathBuf]) -> Result<Self, SourceError> {
        for path in paths.iter().filter(|path| !is_standard_input(path)) {
            // Opened rather than looked at: it may be there and not be readable.
            File::open(path).map_err(read_error(path))?;
        }
        let mut waiting: Vec<_> = paths.iter().rev().cloned().collect();
        let path = waiting.pop().unwrap_or_else(|| PathBuf::from("-"));
        Ok(Self {
            input: open(&path)?,
            waiting,
            path,
            line: 0,
        })
    }

    fn append(&mut self, body: &mut Vec<u8>) -> Result<bool, SourceError> {
        loop {
            let from = body.len();
            // One byte more than allowed shows that there is more.
            let mut limited = (&mut self.input).take(BODY_BYTES_MAX as u64 + 1);
            let read = limited.read_until(b'\n', body).map_err(read_error(&self.path))?;
            if read == 0 {
                let Some(path) = self.waiting.pop() else {
                    return Ok(false);
                };
                self.input = open(&path)?;
                self.path = path;
                self.line = 0;
                continue;
            }
            self.line += 1;
            if read > BODY_BYTES_MAX {
                return Err(SourceError::LineTooLong {
                    path: self.path.clone(),
                    line: self.line,
                });
            }
            if body[from..]
                .iter()
                .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
            {
                // The server passes over such lines and counts nothing for them.
                body.truncate(from);
                continue;
            }
            if body.last() != Some(&b'\n') {
                body.push(b'\n');
            }
            return Ok(true);
        }
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, SourceError> {
    if is_standard_input(path) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin())));
    }
    let file = File::open(path).map_err(read_error(path))?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let input: Box<dyn Read + Send> = match extension {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(
            BUFFER_BYTES,
            file,
        ))),
        Some("zst") => Box::new(zstd::Decoder::new(file).map_err(read_error(path))?),
        _ => Box::new(file),
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, input)))
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    let path = path.to_owned();
    move |source| SourceError::Read { path, source }
}
