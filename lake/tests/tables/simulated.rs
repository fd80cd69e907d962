//! A disk that remembers what was asked of it, so that the power can be taken away after any step.
//!
//! What is asked is done in a real directory (readers look there), without any fsync. The model knows besides what
//! would be left after a power cut: the bytes and names that were fsynced, and of the others any part.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lake::{Disk, DiskFile, LocalDisk, SyncPoint};
use rand::{Rng, RngExt};

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create {
        id: usize,
        path: PathBuf,
    },
    Append {
        id: usize,
        bytes: Vec<u8>,
    },
    SyncFile {
        id: usize,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeDirectory {
        path: PathBuf,
    },
    SyncDirectory {
        path: PathBuf,
    },
    /// Somebody was told that a partition is stored up to an offset.
    Acknowledge {
        partition: u32,
        offset: u64,
    },
}

/// What a power cut leaves of what was not fsynced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// Nothing.
    All,
    /// Any part, torn and in any order.
    Some,
    /// Everything: only the process ended.
    None,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// Fsyncs of this place are left out.
    pub(crate) skipped: Option<SyncPoint>,
    /// The call of this number fails.
    pub(crate) failing_call: Option<usize>,
    /// The link of this number is made, and reported as failed.
    pub(crate) lost_answer: Option<usize>,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct SimulatedDisk {
    root: PathBuf,
    trouble: Trouble,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    steps: Vec<Step>,
    files: usize,
    calls: usize,
    links: usize,
    /// What the failed call was.
    failed: Option<&'static str>,
}

impl SimulatedDisk {
    /// A disk whose directory `root` is there and durable. File ids begin at `files`.
    pub(crate) fn new(root: &Path, trouble: Trouble, files: usize) -> Arc<Self> {
        Arc::new(Self {
            root: root.to_owned(),
            trouble,
            state: Mutex::new(State {
                files,
                ..State::default()
            }),
        })
    }

    /// Notes what somebody was told.
    pub(crate) fn acknowledge(&self, partition: u32, offset: u64) {
        self.with(|state| state.steps.push(Step::Acknowledge { partition, offset }));
    }

    /// Everything that was asked so far.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.with(|state| state.steps.clone())
    }

    /// What the call was that failed, if it came to that.
    pub(crate) fn failed(&self) -> Option<&'static str> {
        self.with(|state| state.failed)
    }

    fn with<T>(&self, ask: impl FnOnce(&mut State) -> T) -> T {
        ask(&mut self.state.lock().expect("not poisoned"))
    }

    fn relative(&self, path: &Path) -> PathBuf {
        // The directories above are nobody's business here.
        path.strip_prefix(&self.root)
            .map(Path::to_owned)
            .unwrap_or_default()
    }

    /// Counts a call; it fails when it is its turn.
    fn call(&self, what: &'static str) -> io::Result<()> {
        self.with(|state| {
            state.calls += 1;
            if self.trouble.failing_call == Some(state.calls - 1) {
                state.failed = Some(what);
                return Err(io::Error::other(format!("the disk fails to {what}")));
            }
            Ok(())
        })
    }

    fn note(&self, step: Step) {
        self.with(|state| state.steps.push(step));
    }
}

impl Disk for Shared {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.call("create")?;
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let id = self.0.with(|state| {
            state.files += 1;
            state.files - 1
        });
        self.0.note(Step::Create {
            id,
            path: self.0.relative(path),
        });
        Ok(Box::new(SimulatedFile {
            id,
            file,
            disk: Arc::clone(&self.0),
        }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.call("link")?;
        LocalDisk.link(from, to)?;
        let (from, to) = (self.0.relative(from), self.0.relative(to));
        self.0.note(Step::Link { from, to });
        let number = self.0.with(|state| {
            state.links += 1;
            state.links - 1
        });
        if self.0.trouble.lost_answer == Some(number) {
            return Err(io::Error::other("the answer was lost"));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.call("rename")?;
        LocalDisk.rename(from, to)?;
        let (from, to) = (self.0.relative(from), self.0.relative(to));
        self.0.note(Step::Rename { from, to });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.call("remove")?;
        LocalDisk.remove(path)?;
        self.0.note(Step::Remove {
            path: self.0.relative(path),
        });
        Ok(())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.0.call("make a directory")?;
        LocalDisk.create_directory(path)?;
        self.0.note(Step::MakeDirectory {
            path: self.0.relative(path),
        });
        Ok(())
    }

    fn sync_directory(&self, path: &Path, point: SyncPoint) -> io::Result<()> {
        self.0.call("sync")?;
        if self.0.trouble.skipped != Some(point) && path.starts_with(&self.0.root) {
            self.0.note(Step::SyncDirectory {
                path: self.0.relative(path),
            });
        }
        Ok(())
    }
}

/// The disk as the lake gets it.
#[derive(Debug)]
pub(crate) struct Shared(pub(crate) Arc<SimulatedDisk>);

#[derive(Debug)]
struct SimulatedFile {
    id: usize,
    file: std::fs::File,
    disk: Arc<SimulatedDisk>,
}

impl DiskFile for SimulatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let called = self.disk.call("append");
        // What fails has written a part.
        let done = if called.is_ok() {
            bytes
        } else {
            &bytes[..bytes.len() / 2]
        };
        self.file.write_all(done)?;
        self.disk.note(Step::Append {
            id: self.id,
            bytes: done.to_vec(),
        });
        called
    }

    fn sync(&mut self, point: SyncPoint) -> io::Result<()> {
        self.disk.call("sync")?;
        if self.disk.trouble.skipped != Some(point) {
            self.disk.note(Step::SyncFile { id: self.id });
        }
        Ok(())
    }
}

/// What is in a directory under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    File(usize),
    Directory,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// How many of them are durable.
    synced: usize,
}

#[derive(Clone, Debug, Default)]
struct Names {
    durable: BTreeMap<OsString, Entry>,
    current: BTreeMap<OsString, Entry>,
}

/// What is on the disk, and what of it is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    files: BTreeMap<usize, Contents>,
    directories: BTreeMap<PathBuf, Names>,
}

impl Model {
    /// After some steps on an empty directory.
    pub(crate) fn after(steps: &[Step]) -> Self {
        let mut model = Self::default();
        model.directories.insert(PathBuf::new(), Names::default());
        steps.iter().for_each(|step| model.apply(step));
        model
    }

    /// After some more steps.
    pub(crate) fn and_then(mut self, steps: &[Step]) -> Self {
        steps.iter().for_each(|step| self.apply(step));
        self
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Create { id, path } => {
                self.files.insert(*id, Contents::default());
                self.name(path, Some(Entry::File(*id)));
            }
            Step::Append { id, bytes } => self.file(*id).bytes.extend_from_slice(bytes),
            Step::SyncFile { id } => {
                let file = self.file(*id);
                file.synced = file.bytes.len();
            }
            Step::Link { from, to } => {
                let entry = self.entry(from);
                self.name(to, entry);
            }
            Step::Rename { from, to } => {
                let entry = self.entry(from);
                self.name(to, entry);
                self.name(from, None);
            }
            Step::Remove { path } => self.name(path, None),
            Step::MakeDirectory { path } => {
                self.directories.insert(path.clone(), Names::default());
                self.name(path, Some(Entry::Directory));
            }
            Step::SyncDirectory { path } => {
                let names = self.directories.get_mut(path).expect("the directory is there");
                names.durable = names.current.clone();
            }
            Step::Acknowledge { .. } => {}
        }
    }

    fn file(&mut self, id: usize) -> &mut Contents {
        self.files.get_mut(&id).expect("the file is there")
    }

    fn entry(&self, path: &Path) -> Option<Entry> {
        let names = &self.directories[path.parent().expect("in a directory")];
        names.current.get(path.file_name().expect("a name")).copied()
    }

    fn name(&mut self, path: &Path, entry: Option<Entry>) {
        let directory = path.parent().expect("in a directory");
        let names = self
            .directories
            .get_mut(directory)
            .expect("the directory is there");
        let name = path.file_name().expect("a name").to_owned();
        match entry {
            Some(entry) => names.current.insert(name, entry),
            None => names.current.remove(&name),
        };
    }

    /// Puts what is left into an empty directory.
    pub(crate) fn leave(&self, target: &Path, loss: Loss, random: &mut impl Rng) {
        self.leave_directory(Path::new(""), target, loss, random);
    }

    fn leave_directory(&self, path: &Path, target: &Path, loss: Loss, random: &mut impl Rng) {
        let names = &self.directories[path];
        let mut all: Vec<_> = names.durable.keys().chain(names.current.keys()).collect();
        all.sort();
        all.dedup();
        for name in all {
            let new = match loss {
                Loss::All => false,
                Loss::Some => random.random(),
                Loss::None => true,
            };
            let names = if new { &names.current } else { &names.durable };
            match names.get(name) {
                Some(Entry::Directory) => {
                    std::fs::create_dir(target.join(name)).expect("creatable");
                    self.leave_directory(&path.join(name), &target.join(name), loss, random);
                }
                Some(Entry::File(id)) => {
                    let left = self.files[id].left(loss, random);
                    std::fs::write(target.join(name), left).expect("writable");
                }
                None => {}
            }
        }
    }
}

impl Contents {
    fn left(&self, loss: Loss, random: &mut impl Rng) -> Vec<u8> {
        let length = self.bytes.len();
        match loss {
            Loss::All => self.bytes[..self.synced].to_vec(),
            Loss::None => self.bytes.clone(),
            Loss::Some => {
                let mut left = self.bytes[..random.random_range(self.synced..=length)].to_vec();
                for block in left[self.synced..].chunks_mut(512) {
                    if random.random_range(0..3) == 0 {
                        block.fill(0);
                    }
                }
                left
            }
        }
    }
}

/// The real disk without its fsyncs, for whoever only looks at what is left.
#[derive(Debug)]
pub(crate) struct UnsyncedDisk;

#[derive(Debug)]
struct UnsyncedFile(Box<dyn DiskFile>);

impl Disk for UnsyncedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(UnsyncedFile(LocalDisk.create(path)?)))
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_directory(path)
    }
    fn sync_directory(&self, _path: &Path, _point: SyncPoint) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for UnsyncedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }
    fn sync(&mut self, _point: SyncPoint) -> io::Result<()> {
        Ok(())
    }
}
