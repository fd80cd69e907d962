//! A stream with every type, rows that follow from where they are, and a table in a directory of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use event::{FieldDeclaration, FieldType, Offset, Partition, StreamDeclaration, StreamName, UnknownFields};
use lake::{
    Advance, CommitError, CompactOptions, Disk, Lake, LakeError, LakeOptions, LocalDisk, Snapshot, Table,
    WriterOptions, WrittenFile,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The time of the first event: 2024-01-01, microseconds.
pub(crate) const FIRST_TIME: i64 = 1_704_067_200_000_000;

fn field(name: &str, kind: FieldType, optional: bool) -> FieldDeclaration {
    FieldDeclaration {
        name: name.to_owned(),
        kind,
        optional,
        description: String::new(),
        path: vec![name.to_owned()],
    }
}

/// A stream with a field of every type.
pub(crate) fn declaration() -> StreamDeclaration {
    let fields = vec![
        field("flag", FieldType::Bool, true),
        field(
            "count",
            FieldType::Int {
                min: i64::MIN,
                max: i64::MAX,
            },
            false,
        ),
        field(
            "ratio",
            FieldType::Float {
                min: f64::MIN,
                max: f64::MAX,
            },
            true,
        ),
        field("note", FieldType::String { max_bytes: 512 }, true),
        field(
            "colour",
            FieldType::Enum {
                values: vec!["red".to_owned(), "green".to_owned()],
            },
            false,
        ),
        field("user_id", FieldType::Uuid, false),
        field("at", FieldType::Timestamp { unit: None }, false),
        field("detail", FieldType::Json, true),
    ];
    StreamDeclaration {
        name: StreamName::parse("every").expect("a name"),
        time: Some("at".to_owned()),
        key: Some("user_id".to_owned()),
        unknown_fields: UnknownFields::Keep,
        fields,
        ..StreamDeclaration::rejects()
    }
}

/// Opens the lake in a directory.
pub(crate) async fn lake(root: &Path, disk: Arc<dyn Disk>) -> Result<Arc<Lake>, LakeError> {
    let options = LakeOptions {
        root: root.to_owned().into(),
        store: lake::StoreSettings::default(),
        journal: "journal".to_owned(),
        read_only: false,
        shared: false,
        keep_removed: Duration::ZERO,
    };
    Lake::open_on(options, disk).await
}

/// Opens the table of a directory.
pub(crate) async fn table_on(
    root: &Path,
    stream: StreamDeclaration,
    disk: Arc<dyn Disk>,
) -> Result<Arc<Table>, LakeError> {
    lake(root, disk).await?.table(Arc::new(stream)).await
}

/// The table with a field of every type, on the real disk.
pub(crate) async fn table(root: &Path) -> Arc<Table> {
    let table = table_on(root, declaration(), Arc::new(LocalDisk)).await;
    table.expect("the table opens")
}

/// The rows of one record. Each value follows from where its row is.
pub(crate) fn record(stream: &StreamDeclaration, partition: u32, offset: u64, rows: i32) -> RecordBatch {
    let number = |row: i32| offset as i64 * 1_000 + i64::from(row);
    let texts = |text: &dyn Fn(i64) -> Option<String>| {
        Arc::new(StringArray::from_iter((0..rows).map(|row| text(number(row))))) as ArrayRef
    };
    let times = |step: i64| {
        let moments = (0..rows).map(|row| FIRST_TIME + number(row) * step + 1);
        Arc::new(TimestampMicrosecondArray::from_iter_values(moments).with_timezone("UTC")) as ArrayRef
    };
    let columns: Vec<ArrayRef> = event::schema::lake(stream)
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            "flag" => {
                let flag = |row| (number(row) % 3 != 0).then_some(number(row) % 2 == 0);
                Arc::new(BooleanArray::from_iter((0..rows).map(flag))) as ArrayRef
            }
            "count" => Arc::new(Int64Array::from_iter_values(
                (0..rows).map(|row| number(row) - 1_500),
            )),
            "ratio" => Arc::new(Float64Array::from_iter(
                (0..rows).map(|row| (number(row) % 5 != 0).then_some(number(row) as f64 / 8.0)),
            )),
            "note" => texts(&|n| (n % 7 != 0).then(|| format!("a note of more than 32 characters: ä {n}"))),
            "colour" => texts(&|n| Some(if n % 2 == 0 { "red" } else { "green" }.to_owned())),
            "user_id" => {
                texts(&|n| Some(uuid::Uuid::from_u128(n as u128 * 0x9e37_79b9_7f4a_7c15).to_string()))
            }
            "at" => times(1_000_000),
            "detail" => texts(&|n| (n % 2 == 0).then(|| format!("{{\"n\":{n}}}"))),
            "_extra" | "later" => texts(&|n| (n % 11 == 0).then(|| format!("{{\"odd\":{n}}}"))),
            "_received_at" => times(1_001),
            "_trace_id" => texts(&|n| Some(format!("{n:032x}"))),
            "_partition" => Arc::new(Int32Array::from_value(partition as i32, rows as usize)),
            "_offset" => Arc::new(Int64Array::from_value(offset as i64, rows as usize)),
            "_row" => Arc::new(Int32Array::from_iter_values(0..rows)),
            other => panic!("no values for `{other}`"),
        })
        .collect();
    RecordBatch::try_new(event::schema::lake(stream), columns).expect("columns of the stream")
}

/// Rows of the record at an offset: few, and not the same number everywhere.
pub(crate) fn rows_of(offset: u64) -> i32 {
    (offset % 5 + 1) as i32
}

/// Rows of all records below an offset.
pub(crate) fn rows_below(offset: u64) -> u64 {
    (0..offset).map(|offset| rows_of(offset) as u64).sum()
}

/// Writes records [from, to) of a partition into a durable file.
pub(crate) fn write(table: &Table, partition: u32, from: u64, to: u64) -> Result<WrittenFile, LakeError> {
    let mut writer = table.writer(&WriterOptions::default())?;
    for offset in from..to {
        writer.write(&record(table.declaration(), partition, offset, rows_of(offset)))?;
    }
    writer.finish()
}

/// Appends records [from, to) of a partition in one commit.
pub(crate) async fn append(
    table: &Table,
    partition: u32,
    from: u64,
    to: u64,
) -> Result<Arc<Snapshot>, CommitError> {
    let file = write(table, partition, from, to)?;
    let advance = Advance {
        partition: Partition(partition),
        from: Offset(from),
        to: Offset(to),
    };
    table.commit(vec![file], &[advance]).await
}

/// Merges whatever can be merged.
pub(crate) async fn compact(table: &Table) -> Result<u64, LakeError> {
    let options = CompactOptions {
        small_bytes: 64 << 20,
        target_bytes: 128 << 20,
    };
    let mut removed = 0;
    loop {
        let report = table.compact(&options, &WriterOptions::default()).await?;
        if report.files_removed == 0 {
            return Ok(removed);
        }
        removed += report.files_removed;
    }
}

/// All rows of a file, with every column that it has.
pub(crate) fn read_file(path: &PathBuf) -> Vec<RecordBatch> {
    let file = std::fs::File::open(path).expect("the file opens");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let rows = reader.build().expect("readable");
    rows.map(|rows| rows.expect("readable")).collect()
}

/// (partition, offset, row) of every event of a snapshot, by index.
pub(crate) fn events(snapshot: &Snapshot) -> Vec<(u64, (i32, i64, i32))> {
    let mut events = Vec::new();
    for file in snapshot.files.iter() {
        let mut index = file.first_index;
        for rows in read_file(&snapshot.directory.local().expect("a directory").join(&file.path)) {
            let partitions = rows["_partition"].as_primitive::<Int32Type>();
            let offsets = rows["_offset"].as_primitive::<Int64Type>();
            let numbers = rows["_row"].as_primitive::<Int32Type>();
            for row in 0..rows.num_rows() {
                events.push((
                    index,
                    (partitions.value(row), offsets.value(row), numbers.value(row)),
                ));
                index += 1;
            }
        }
        assert_eq!(index, file.first_index + file.rows, "rows of {}", file.path);
    }
    events
}
