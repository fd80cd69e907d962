//! A disk in memory that remembers what was synced, so that the power can be cut after any operation.
//!
//! Model: what a file was synced with survives. Of what was written since, each write survives whole, in part (by
//! sectors) or not at all, and so does each change of a length and each change of a directory, whatever their
//! order. After a failed fsync the system takes the file's pages for written ones: they can still be read, but no
//! later fsync brings them to the disk, unless they are written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use journal::embedded::disk::{Disk, DiskFile, SyncPoint};
use rand::{Rng, RngExt};

/// The unit that a disk writes whole or not at all.
const SECTOR: usize = 512;

type Inode = usize;

/// One operation, in the order in which they came.
#[derive(Clone, Debug)]
enum Operation<M> {
    CreateDirectory(PathBuf),
    Create(PathBuf, Inode),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Inode),
    Change(Inode, Change),
    Sync(Inode),
    FailedSync(Inode),
    SyncDirectory(PathBuf),
    Mark(M),
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Allocate(u64),
    Truncate(u64),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                file.resize(file.len().max(end), 0);
                file[at..end].copy_from_slice(bytes);
            }
            Self::Allocate(length) => file.resize(file.len().max(*length as usize), 0),
            Self::Truncate(length) => file.truncate(*length as usize),
        }
    }

    /// What is left of a lost change when another one has come to the disk after it.
    fn outside_of(&self, later: &Self) -> Vec<Self> {
        let (Self::Write(at, bytes), Self::Write(from, over)) = (self, later) else {
            return vec![self.clone()];
        };
        let part = |begin: u64, end: u64| {
            let range = (begin - at) as usize..(end - at) as usize;
            Self::Write(begin, bytes[range].to_vec())
        };
        let (end, to) = (at + bytes.len() as u64, from + over.len() as u64);
        let before = (*at < *from).then(|| part(*at, end.min(*from)));
        let behind = (end > to).then(|| part(to.max(*at), end));
        before.into_iter().chain(behind).collect()
    }

    /// What a power cut leaves of a change that was not synced.
    fn apply_after_power_cut(&self, file: &mut Vec<u8>, random: &mut impl Rng) {
        match (self, random.random_range(0..3)) {
            (_, 0) => {}
            (Self::Write(at, bytes), 1) => {
                for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                    if random.random() {
                        Self::Write(at + (sector * SECTOR) as u64, bytes.to_vec()).apply(file);
                    }
                }
            }
            _ => self.apply(file),
        }
    }
}

/// Files and directories as they are on the disk or in the system's cache.
#[derive(Clone, Debug, Default)]
struct Image {
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, Inode>,
    files: BTreeMap<Inode, Vec<u8>>,
}

#[derive(Debug)]
struct State<M> {
    /// What the disk had when it was switched on.
    begun: Image,
    cached: Image,
    operations: Vec<Operation<M>>,
    left_out: Option<SyncPoint>,
    fails: Option<usize>,
    full: bool,
    /// What an ordinary user can still write.
    free_bytes: u64,
    /// How many operations that can fail there were.
    counted: usize,
}

/// The disk. `M` is what a test notes between the operations.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedDisk<M> {
    state: Arc<Mutex<State<M>>>,
}

#[derive(Debug)]
struct SimulatedFile<M> {
    disk: SimulatedDisk<M>,
    inode: Inode,
}

impl<M: Clone + std::fmt::Debug + Send + 'static> SimulatedDisk<M> {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        Self::from_image(Image {
            directories: [PathBuf::from("/")].into(),
            ..Image::default()
        })
    }

    fn from_image(begun: Image) -> Self {
        let state = State {
            cached: begun.clone(),
            begun,
            operations: Vec::new(),
            left_out: None,
            fails: None,
            full: false,
            free_bytes: u64::MAX,
            counted: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().expect("no test panics while it holds this")
    }

    /// From now on the syncs of one place in the code do nothing.
    pub(crate) fn leave_out(&self, point: SyncPoint) {
        self.state().left_out = Some(point);
    }

    /// The operation of this number fails, counted from now.
    pub(crate) fn fail(&self, number: Option<usize>) {
        let mut state = self.state();
        (state.fails, state.counted) = (number, 0);
    }

    /// Says whether there is no room for another segment.
    pub(crate) fn fill(&self, full: bool) {
        self.state().full = full;
    }

    /// Says how much an ordinary user can still write.
    pub(crate) fn set_free_bytes(&self, free_bytes: u64) {
        self.state().free_bytes = free_bytes;
    }

    /// How many files are there whose names have this ending.
    pub(crate) fn count(&self, ending: &str) -> usize {
        let state = self.state();
        let has = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == ending);
        state.cached.names.keys().filter(has).count()
    }

    /// How many times a file was given a name with this ending instead of another one.
    pub(crate) fn renamed(&self, ending: &str) -> usize {
        let state = self.state();
        let renamed = state.operations.iter().filter(|operation| match operation {
            Operation::Rename(_, to, _) => to.extension().is_some_and(|extension| extension == ending),
            _ => false,
        });
        renamed.count()
    }

    /// How many operations there were that could fail, since [`SimulatedDisk::fail`].
    pub(crate) fn counted(&self) -> usize {
        self.state().counted
    }

    /// Notes something at this place of the operations.
    pub(crate) fn mark(&self, mark: M) {
        self.state().operations.push(Operation::Mark(mark));
    }

    /// How many operations and marks there were.
    pub(crate) fn operations(&self) -> usize {
        self.state().operations.len()
    }

    /// The disk after a power cut that came after so many operations, and what was noted until then.
    pub(crate) fn after_power_cut(&self, operations: usize, random: &mut impl Rng) -> (Self, Vec<M>) {
        let state = self.state();
        let cut = PowerCut::replay(&state.begun, &state.operations[..operations]);
        let marks = state.operations[..operations]
            .iter()
            .filter_map(|operation| match operation {
                Operation::Mark(mark) => Some(mark.clone()),
                _ => None,
            });
        (Self::from_image(cut.image(random)), marks.collect())
    }

    /// Counts an operation that changes something; an error when it is the one that fails.
    fn step(&self) -> io::Result<()> {
        let mut state = self.state();
        state.counted += 1;
        match state.fails == Some(state.counted - 1) {
            true => Err(io::Error::other("failed on purpose")),
            false => Ok(()),
        }
    }

    fn done(&self, operation: Operation<M>) {
        let mut state = self.state();
        match &operation {
            Operation::CreateDirectory(path) => drop(state.cached.directories.insert(path.clone())),
            Operation::Create(path, inode) => {
                state.cached.names.insert(path.clone(), *inode);
                state.cached.files.insert(*inode, Vec::new());
            }
            Operation::Remove(path) => drop(state.cached.names.remove(path)),
            Operation::Rename(from, to, inode) => {
                state.cached.names.remove(from);
                state.cached.names.insert(to.clone(), *inode);
            }
            Operation::Change(inode, change) => {
                change.apply(state.cached.files.get_mut(inode).expect("created"));
            }
            _ => {}
        }
        state.operations.push(operation);
    }

    fn file(&self, inode: Inode) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile {
            disk: self.clone(),
            inode,
        })
    }
}

/// What is surely on the disk, and what was done since.
struct PowerCut {
    durable: Image,
    pending: BTreeMap<Inode, Vec<Change>>,
    /// What a failed fsync left in the cache.
    lost: BTreeMap<Inode, Vec<Change>>,
    entries: BTreeMap<PathBuf, Vec<Entry>>,
}

#[derive(Clone)]
enum Entry {
    Directory(PathBuf),
    File(PathBuf, Inode),
    Gone(PathBuf),
    /// A rename happens as a whole or not at all, as file systems promise.
    Renamed(PathBuf, PathBuf, Inode),
}

impl Entry {
    fn apply(&self, image: &mut Image) {
        match self {
            Self::Directory(path) => drop(image.directories.insert(path.clone())),
            Self::File(path, inode) => drop(image.names.insert(path.clone(), *inode)),
            Self::Gone(path) => drop(image.names.remove(path)),
            Self::Renamed(from, to, inode) => {
                image.names.remove(from);
                image.names.insert(to.clone(), *inode);
            }
        }
    }
}

impl PowerCut {
    fn replay<M>(begun: &Image, operations: &[Operation<M>]) -> Self {
        let mut cut = Self {
            durable: begun.clone(),
            pending: BTreeMap::new(),
            lost: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        for operation in operations {
            match operation {
                Operation::CreateDirectory(path) => cut.entry(path, Entry::Directory(path.clone())),
                Operation::Create(path, inode) => {
                    cut.durable.files.insert(*inode, Vec::new());
                    cut.entry(path, Entry::File(path.clone(), *inode));
                }
                Operation::Remove(path) => cut.entry(path, Entry::Gone(path.clone())),
                Operation::Rename(from, to, inode) => {
                    cut.entry(to, Entry::Renamed(from.clone(), to.clone(), *inode));
                }
                Operation::Change(inode, change) => {
                    cut.pending.entry(*inode).or_default().push(change.clone());
                }
                Operation::Sync(inode) => {
                    let file = cut.durable.files.get_mut(inode).expect("created");
                    let pending = cut.pending.remove(inode).unwrap_or_default();
                    pending.iter().for_each(|change| change.apply(file));
                    if let Some(lost) = cut.lost.get_mut(inode) {
                        for change in &pending {
                            *lost = lost.iter().flat_map(|lost| lost.outside_of(change)).collect();
                        }
                    }
                }
                Operation::FailedSync(inode) => {
                    let pending = cut.pending.remove(inode).unwrap_or_default();
                    cut.lost.entry(*inode).or_default().extend(pending);
                }
                Operation::SyncDirectory(path) => {
                    let entries = cut.entries.remove(path).unwrap_or_default();
                    entries.iter().for_each(|entry| entry.apply(&mut cut.durable));
                }
                Operation::Mark(_) => {}
            }
        }
        cut
    }

    fn entry(&mut self, path: &Path, entry: Entry) {
        let parent = path.parent().expect("never the root").to_owned();
        self.entries.entry(parent).or_default().push(entry);
    }

    fn image(self, random: &mut impl Rng) -> Image {
        let mut image = self.durable;
        for changes in [self.lost, self.pending] {
            for (inode, changes) in changes {
                let file = image.files.get_mut(&inode).expect("created");
                changes
                    .iter()
                    .for_each(|change| change.apply_after_power_cut(file, random));
            }
        }
        for entry in self.entries.into_values().flatten() {
            if random.random() {
                entry.apply(&mut image);
            }
        }
        let directories = image.directories.clone();
        let reachable = |path: &Path| path.ancestors().skip(1).all(|above| directories.contains(above));
        image.directories.retain(|path| reachable(path));
        image.names.retain(|path, _| reachable(path));
        image
    }
}

impl<M: Clone + std::fmt::Debug + Send + 'static> Disk for SimulatedDisk<M> {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        if !self.state().cached.directories.contains(path) {
            self.step()?;
            self.done(Operation::CreateDirectory(path.to_owned()));
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.state().cached.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.step()?;
        let inode = self.state().cached.files.len();
        self.done(Operation::Create(path.to_owned(), inode));
        Ok(self.file(inode))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.state().cached.names.get(path).copied();
        Ok(self.file(inode.ok_or(io::ErrorKind::NotFound)?))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.state().cached.names.clone();
        Ok(names
            .into_keys()
            .filter(|path| path.parent() == Some(directory))
            .collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.done(Operation::Remove(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.state().cached.names.get(from).copied();
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        assert!(
            !self.state().cached.names.contains_key(to),
            "{} is there",
            to.display()
        );
        self.step()?;
        self.done(Operation::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn sync_directory(&self, directory: &Path, point: SyncPoint) -> io::Result<()> {
        self.step()?;
        if self.state().left_out != Some(point) {
            self.done(Operation::SyncDirectory(directory.to_owned()));
        }
        Ok(())
    }

    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        Ok(self.state().free_bytes)
    }
}

impl<M: Clone + std::fmt::Debug + Send + 'static> SimulatedFile<M> {
    fn change(&self, change: Change) -> io::Result<()> {
        let failed = self.disk.step();
        let change = match (&failed, change) {
            // A write that fails has written some of it.
            (Err(_), Change::Write(at, bytes)) => Change::Write(at, bytes[..bytes.len() / 2].to_vec()),
            (Err(_), _) => return failed,
            (Ok(()), change) => change,
        };
        self.disk.done(Operation::Change(self.inode, change));
        failed
    }
}

impl<M: Clone + std::fmt::Debug + Send + 'static> DiskFile for SimulatedFile<M> {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.change(Change::Write(at, bytes.to_vec()))
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let file = &state.cached.files[&self.inode];
        let from = (at as usize).min(file.len());
        let read = bytes.len().min(file.len() - from);
        bytes[..read].copy_from_slice(&file[from..from + read]);
        Ok(read)
    }

    fn sync(&self, point: SyncPoint) -> io::Result<()> {
        let synced = self.disk.step();
        if synced.is_err() {
            self.disk.done(Operation::FailedSync(self.inode));
        } else if self.disk.state().left_out != Some(point) {
            self.disk.done(Operation::Sync(self.inode));
        }
        synced
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        // A header's block is always there; a segment's are not.
        if self.disk.state().full && length > 4_096 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(Change::Allocate(length))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.change(Change::Truncate(length))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().cached.files[&self.inode].len() as u64)
    }
}
