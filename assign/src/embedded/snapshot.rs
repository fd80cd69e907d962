//! The state in a file, so that a start need not read every step that was ever made.
//!
//! ```text
//! state                one JSON object a line
//!   header             format, journal, next offset of the stream of assignments, next place of each stream of events
//!   {"open": …}        what is open, in order
//!   {"past": […]}      id, event, status of what has ended, the oldest first
//!   {"end": lines}     without it the file is not whole
//! ```
//!
//! Written beside and renamed, everything synced first. Nothing hangs on it but time: without a snapshot the steps are
//! read from the beginning.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::state::{Assignment, Past, State};
use super::{Place, StartError};
use crate::Status;

/// The form of the file.
const FORMAT: u32 = 1;

/// What a snapshot holds.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) journal: String,
    /// The offset of the stream of assignments that it reaches.
    pub(super) next: u64,
    pub(super) sources: BTreeMap<String, Place>,
    pub(super) open: Vec<Arc<Assignment>>,
    pub(super) past: Vec<Past>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    journal: String,
    next: u64,
    sources: BTreeMap<String, (u64, u32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Open {
        id: String,
        event_id: String,
        user: String,
        event: Option<String>,
    },
    Past(String, String, String),
    End(u64),
}

impl Line {
    fn open(assignment: &Assignment) -> Self {
        Self::Open {
            id: assignment.id.to_string(),
            event_id: assignment.event_id.to_string(),
            user: assignment.user.to_string(),
            event: assignment.event.as_deref().map(str::to_owned),
        }
    }

    fn past(past: &Past) -> Self {
        let status = past.status.as_str().to_owned();
        Self::Past(past.id.to_string(), past.event_id.to_string(), status)
    }
}

impl Snapshot {
    /// A snapshot of a state that reaches `next`.
    pub(super) fn of(state: &State, journal: String, next: u64) -> Self {
        Self {
            journal,
            next,
            sources: state.next.clone(),
            open: state.open_in_order(),
            past: state.past_in_order(),
        }
    }

    /// Puts what it holds into an empty state.
    pub(super) fn restore(self, state: &mut State) {
        state.next = self.sources;
        for past in self.past {
            state.restore_past(past);
        }
        for assignment in self.open {
            state.restore(Assignment::clone(&assignment));
        }
    }

    /// Reads the snapshot of a directory; `None` when there is none.
    ///
    /// # Errors
    /// [`StartError::Snapshot`] when there is one that is not whole.
    pub(super) fn load(directory: &Path) -> Result<Option<Self>, StartError> {
        let path = file_of(directory);
        let failed = |message: String| StartError::Snapshot {
            path: path.clone(),
            message,
        };
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| failed(error.to_string()))?,
        };
        let mut lines = BufReader::new(file).lines();
        let mut next_line = || match lines.next() {
            Some(line) => line.map_err(|error| failed(error.to_string())),
            None => Err(failed("it ends too early".to_owned())),
        };
        let wrong = |error: serde_json::Error| failed(error.to_string());
        let header: Header = serde_json::from_str(&next_line()?).map_err(wrong)?;
        if header.format != FORMAT {
            return Err(failed(format!(
                "its form is {}, this program knows {FORMAT}",
                header.format
            )));
        }
        let sources = header.sources.into_iter();
        let mut snapshot = Self {
            journal: header.journal,
            next: header.next,
            sources: sources
                .map(|(name, (offset, row))| (name, Place { offset, row }))
                .collect(),
            open: Vec::new(),
            past: Vec::new(),
        };
        let mut count = 0;
        loop {
            match serde_json::from_str(&next_line()?).map_err(wrong)? {
                Line::Open {
                    id,
                    event_id,
                    user,
                    event,
                } => snapshot.open.push(Arc::new(Assignment {
                    id: id.into(),
                    event_id: event_id.into(),
                    user: user.into(),
                    event: event.map(Arc::from),
                })),
                Line::Past(id, event_id, status) => {
                    let status =
                        Status::parse(&status).ok_or_else(|| failed(format!("status `{status}`")))?;
                    snapshot.past.push(Past {
                        id: id.into(),
                        event_id: event_id.into(),
                        status,
                    });
                }
                Line::End(lines) if lines == count => return Ok(Some(snapshot)),
                Line::End(lines) => return Err(failed(format!("it has {count} lines and says {lines}"))),
            }
            count += 1;
        }
    }

    /// Replaces the snapshot of a directory, durably.
    ///
    /// # Errors
    /// What the system says; the snapshot before it stays then.
    pub(super) fn store(&self, directory: &Path) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        let path = file_of(directory);
        let beside = path.with_extension("new");
        let mut out = BufWriter::new(File::create(&beside)?);
        let places = self.sources.iter();
        let header = Header {
            format: FORMAT,
            journal: self.journal.clone(),
            next: self.next,
            sources: places
                .map(|(name, place)| (name.clone(), (place.offset, place.row)))
                .collect(),
        };
        let mut line = |line: &dyn Fn(&mut BufWriter<File>) -> serde_json::Result<()>| {
            line(&mut out).map_err(std::io::Error::from)?;
            out.write_all(b"\n")
        };
        line(&|out| serde_json::to_writer(out, &header))?;
        for assignment in &self.open {
            let assignment = Line::open(assignment);
            line(&|out| serde_json::to_writer(out, &assignment))?;
        }
        for past in &self.past {
            let past = Line::past(past);
            line(&|out| serde_json::to_writer(out, &past))?;
        }
        let count = Line::End((self.open.len() + self.past.len()) as u64);
        line(&|out| serde_json::to_writer(out, &count))?;
        out.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        rename(&beside, &path)?;
        File::open(directory)?.sync_all()
    }
}

fn file_of(directory: &Path) -> PathBuf {
    directory.join("state")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the file is synced before and the directory after it"
)]
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AssignOptions;

    #[test]
    fn a_state_comes_back_from_its_snapshot_and_a_torn_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("assign");
        assert!(Snapshot::load(&directory).expect("nothing is there").is_none());
        let assignment = |id: &str| Assignment {
            id: id.into(),
            event_id: format!("event {id}").into(),
            user: "a\"b".into(),
            event: Some(r#"{"x":1}"#.into()),
        };
        let mut state = State::new(AssignOptions::default(), 10);
        state.restore(assignment("1"));
        state.restore(assignment("2"));
        state.passed("detections", Place { offset: 7, row: 3 });
        state.restore_past(Past {
            id: "0".into(),
            event_id: "old".into(),
            status: Status::Rejected,
        });
        let stored = Snapshot::of(&state, "j".to_owned(), 9);
        stored.store(&directory).expect("stored");
        let loaded = Snapshot::load(&directory).expect("whole").expect("there");
        assert_eq!((loaded.journal.as_str(), loaded.next), ("j", 9));
        assert_eq!(loaded.open, stored.open);
        assert_eq!(loaded.sources["detections"], Place { offset: 7, row: 4 });
        assert_eq!(loaded.past[0].status, Status::Rejected);
        let path = file_of(&directory);
        let text = fs::read_to_string(&path).expect("readable");
        let cut = text.rfind("{\"end\"").expect("an end");
        fs::write(&path, &text[..cut]).expect("written");
        assert!(Snapshot::load(&directory).is_err());
    }
}
