//! Where a shared table lies in a test, and what its readers find there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use futures::TryStreamExt;
use lake::{
    DataFile, Disk, FileLocation, Lake, LakeError, LakeOptions, LocalDisk, Location, ObjectFile, Snapshot,
    StoreSettings, Table,
};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use crate::fixture::{declaration, read_file};
use crate::s3::Bucket;

/// (partition, offset, row) of an event.
pub(crate) type Event = (i32, i64, i32);

/// Where a table lies.
pub(crate) enum Place {
    Directory(tempfile::TempDir),
    Bucket(Bucket),
}

impl Place {
    pub(crate) fn directory() -> Self {
        Self::Directory(tempfile::tempdir().expect("a directory"))
    }

    /// What every process opens it with.
    pub(crate) fn options(&self) -> LakeOptions {
        let (root, store) = match self {
            Self::Directory(directory) => (Location::from(directory.path()), StoreSettings::default()),
            Self::Bucket(bucket) => (
                Location::parse(&format!("s3://{}/some/lake", bucket.name)).expect("a location"),
                StoreSettings::new(bucket.settings.clone()),
            ),
        };
        LakeOptions {
            store,
            shared: true,
            keep_removed: Duration::ZERO,
            ..LakeOptions::new(root, "journal")
        }
    }

    /// A process that writes.
    pub(crate) async fn open(&self) -> Result<Arc<Table>, LakeError> {
        self.open_on(Arc::new(LocalDisk)).await
    }

    /// The same, through a disk of the test's.
    pub(crate) async fn open_on(&self, disk: Arc<dyn Disk>) -> Result<Arc<Table>, LakeError> {
        let lake = Lake::open_on(self.options(), disk).await?;
        lake.table(Arc::new(declaration())).await
    }

    /// A process that reads.
    pub(crate) async fn follow(&self) -> Arc<Table> {
        self.try_follow().await.expect("opens")
    }

    /// The same, while others remove what it reads.
    pub(crate) async fn try_follow(&self) -> Result<Arc<Table>, LakeError> {
        let options = LakeOptions {
            read_only: true,
            ..self.options()
        };
        Lake::open(options).await?.table(Arc::new(declaration())).await
    }

    /// Removes what is left.
    pub(crate) async fn remove(self) {
        if let Self::Bucket(bucket) = self {
            bucket.remove().await;
        }
    }
}

/// Events of files, each read once: files never change.
#[derive(Default)]
pub(crate) struct Reader {
    files: HashMap<String, Vec<Event>>,
}

impl Reader {
    /// The events of a version in index order. `None` when a file has been vacuumed meanwhile.
    pub(crate) async fn events(&mut self, snapshot: &Snapshot) -> Option<Vec<Event>> {
        let (mut events, mut index) = (Vec::new(), snapshot.removed);
        for file in snapshot.files.iter() {
            if !self.files.contains_key(&file.path) {
                let rows = rows_of(snapshot, file).await?;
                self.files
                    .insert(file.path.clone(), rows.iter().flat_map(events_of).collect());
            }
            let found = &self.files[&file.path];
            assert_eq!(file.first_index, index, "`{}` leaves a gap", file.path);
            assert_eq!(file.rows, found.len() as u64, "rows of `{}`", file.path);
            index += file.rows;
            events.extend(found);
        }
        Some(events)
    }
}

async fn rows_of(snapshot: &Snapshot, file: &DataFile) -> Option<Vec<RecordBatch>> {
    match snapshot.directory.join(&file.path) {
        FileLocation::Local(path) => path.exists().then(|| read_file(&path)),
        FileLocation::Bucket { store, path } => {
            let object = ObjectFile::new(&store, path, file.bytes);
            let builder = ParquetRecordBatchStreamBuilder::new(object).await.ok()?;
            builder.build().expect("readable").try_collect().await.ok()
        }
    }
}

fn events_of(rows: &RecordBatch) -> Vec<Event> {
    let partitions = rows["_partition"].as_primitive::<Int32Type>();
    let offsets = rows["_offset"].as_primitive::<Int64Type>();
    let numbers = rows["_row"].as_primitive::<Int32Type>();
    let row = |row| (partitions.value(row), offsets.value(row), numbers.value(row));
    (0..rows.num_rows()).map(row).collect()
}

/// What a table must have once every partition has come to its end: each row once.
pub(crate) fn assert_whole(events: &[Event], ends: &[(u32, u64)]) {
    let mut expected = Vec::new();
    for (partition, end) in ends {
        for offset in 0..*end {
            let rows = 0..crate::fixture::rows_of(offset);
            expected.extend(rows.map(|row| (*partition as i32, offset as i64, row)));
        }
    }
    let mut found = events.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found.len(), expected.len(), "rows are missing, or there twice");
    assert_eq!(found, expected);
}
