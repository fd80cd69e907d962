//! Columns of ids that come as 16 bytes: the file is as if texts had come, for every reader and every way to read it.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch};
use event::{
    Batch, FieldDeclaration, FieldType, Offset, Partition, Span, StreamDeclaration, StreamName, TraceId,
    schema,
};
use lake::{EncodingThreads, Table, WriterOptions};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fixture::table_on;
use crate::simulated::UnsyncedDisk;

const SEED: u64 = 20_261_122;

/// What a file is made of.
#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    /// Different ids of the key.
    ids: u64,
    /// How many rows in a row have the same id.
    run: usize,
    /// One of so many rows has no friend; 0 when all have one, 1 when none has.
    lonely: usize,
    row_group_rows: usize,
}

fn stream() -> StreamDeclaration {
    let field = |name: &str, optional| FieldDeclaration {
        name: name.to_owned(),
        kind: FieldType::Uuid,
        optional,
        description: String::new(),
        path: vec![name.to_owned()],
    };
    StreamDeclaration {
        name: StreamName::parse("friends").expect("a name"),
        key: Some("user_id".to_owned()),
        fields: vec![field("user_id", false), field("friend", true)],
        ..StreamDeclaration::rejects()
    }
}

/// Ids that differ in few bits or in many, as clients have both.
fn id(number: u64) -> [u8; 16] {
    let scattered = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let id = if number.is_multiple_of(2) {
        u128::from(number)
    } else {
        scattered
    };
    id.to_be_bytes()
}

fn batches(shape: Shape, random: &mut ChaCha8Rng) -> Vec<Batch> {
    let mut left = shape.rows;
    let mut batches = Vec::new();
    while left > 0 {
        let rows = random.random_range(1..=left.min(20_000));
        left -= rows;
        let mut same = (0, 0);
        let mut next = |random: &mut ChaCha8Rng| {
            if same.1 == 0 {
                same = (random.random_range(0..shape.ids), shape.run);
            }
            same.1 -= 1;
            id(same.0)
        };
        let users: Vec<[u8; 16]> = (0..rows).map(|_| next(random)).collect();
        let friends: Vec<Option<[u8; 16]>> = (0..rows)
            .map(|_| (shape.lonely == 0 || random.random_range(0..shape.lonely) > 0).then(|| next(random)))
            .collect();
        let users: ArrayRef =
            Arc::new(FixedSizeBinaryArray::try_from_iter(users.into_iter()).expect("16 bytes each"));
        let friends: ArrayRef = Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(friends.into_iter(), 16)
                .expect("16 bytes each"),
        );
        let number = batches.len() as u8;
        batches.push(Batch {
            stream: stream().name,
            partition: Partition(0),
            version: 1,
            spans: vec![Span {
                rows: rows as u32,
                trace_id: TraceId::from_bytes([number.wrapping_add(1); 16]),
                received_at: i64::from(number),
                idempotency_key: None,
                producer: None,
            }],
            rows: RecordBatch::try_from_iter([("user_id", users), ("friend", friends)]).expect("columns"),
        });
    }
    batches
}

/// The file of these rows.
fn write(table: &Table, directory: &Path, shape: Shape, rows: &[RecordBatch]) -> File {
    let options = WriterOptions {
        row_group_rows: shape.row_group_rows,
        ..WriterOptions::default()
    };
    let mut writer = table.writer(&options).expect("a writer");
    rows.iter().for_each(|rows| writer.write(rows).expect("written"));
    let path = writer.finish().expect("finished").path;
    File::open(directory.join("friends").join(path)).expect("there")
}

fn read(file: &File, selection: Option<RowSelection>) -> (Vec<RecordBatch>, Arc<ParquetMetaData>) {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let file = file.try_clone().expect("a handle");
    let mut reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).expect("Parquet");
    let metadata = Arc::clone(reader.metadata());
    if let Some(selection) = selection {
        reader = reader.with_row_selection(selection);
    }
    let rows = reader.with_batch_size(4_096).build().expect("a reader");
    (rows.map(|rows| rows.expect("readable")).collect(), metadata)
}

fn together(table: &Table, rows: &[RecordBatch]) -> RecordBatch {
    let schema = schema::lake(table.declaration());
    let rows = rows.iter().map(|rows| rows.columns().to_vec());
    let rows = rows.map(|columns| RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns"));
    let rows: Vec<RecordBatch> = rows.collect();
    arrow_select::concat::concat_batches(&schema, &rows).expect("alike")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_ids_of_16_bytes_is_read_as_if_texts_had_been_written() {
    println!("seed {SEED}");
    let directory = tempfile::tempdir().expect("a directory");
    let table = table_on(directory.path(), stream(), Arc::new(UnsyncedDisk));
    let table = table.await.expect("opens");
    let shape = |rows, ids, run, lonely, row_group_rows| Shape {
        rows,
        ids,
        run,
        lonely,
        row_group_rows,
    };
    let shapes = [
        shape(1, 1, 1, 0, 1 << 20),
        shape(7, 1, 1, 2, 1 << 20),
        shape(8_192, 3, 1, 1, 1 << 20),
        shape(8_193, 300, 40, 3, 1 << 20),
        shape(100_000, 20_000, 1, 0, 30_000),
        shape(100_000, 9_000, 17, 5, 65_536),
        shape(300_000, 100_000, 1, 2, 1 << 20),
        // Nothing repeats.
        shape(60_000, u64::MAX, 1, 0, 25_000),
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        println!("{shape:?}");
        let mut random = ChaCha8Rng::seed_from_u64(SEED + number as u64);
        let batches = batches(shape, &mut random);
        let stream = table.declaration();
        let placed = (0..)
            .zip(&batches)
            .map(|(offset, batch)| schema::place(batch, Offset(offset), stream).expect("places"));
        let texts = (0..)
            .zip(&batches)
            .map(|(offset, batch)| schema::to_lake(batch, Offset(offset), stream).expect("converts"));
        let (placed, texts): (Vec<_>, Vec<_>) = (placed.collect(), texts.collect());
        let ours = write(&table, directory.path(), shape, &placed);
        let theirs = write(&table, directory.path(), shape, &texts);
        let (rows, our_footer) = read(&ours, None);
        let expected = together(&table, &texts);
        assert_eq!(together(&table, &rows), expected);
        let (_, their_footer) = read(&theirs, None);
        same_footers(&our_footer, &their_footer);
        pages_are_where_and_what_they_say(&our_footer, &expected);
        filters_know_all(&ours, &expected, &our_footer);
        // A few rows at their own places, so that pages are skipped.
        let mut at = 0;
        let (mut selectors, mut kept) = (Vec::new(), Vec::new());
        while at < shape.rows {
            let skip = random.random_range(0..30_000).min(shape.rows - at);
            let take = random.random_range(1..2_000).min(shape.rows - at - skip);
            selectors.extend([RowSelector::skip(skip), RowSelector::select(take)]);
            kept.push(expected.slice(at + skip, take));
            at += skip + take;
        }
        let (rows, _) = read(&ours, Some(selectors.into()));
        assert_eq!(together(&table, &rows), together(&table, &kept));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_all_rows_in_their_order_however_few_come_at_once_and_whoever_encodes_them() {
    println!("seed {SEED}");
    let sizes = [1, 1, 1, 2, 100, 1_023, 1_024, 3_000];
    for (rows, row_group_rows, sizes, turns) in [
        (40_000, 18_000, &sizes[..], 12),
        (5_000, 700, &sizes, 100),
        (500_000, 300_000, &[1_024, 8_000, 16_384], 1_000),
    ] {
        let shape = Shape {
            rows,
            ids: 500,
            run: 1,
            lonely: 3,
            row_group_rows,
        };
        comes_in_pieces(shape, sizes, turns).await;
    }
}

/// Writes it in pieces of some of these sizes, with other threads or none after so many of them, about.
async fn comes_in_pieces(shape: Shape, sizes: &[usize], turns: u32) {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table_on(directory.path(), stream(), Arc::new(UnsyncedDisk));
    let table = table.await.expect("opens");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let stream = table.declaration();
    let (mut pieces, mut texts) = (Vec::new(), Vec::new());
    for (offset, batch) in (0..).zip(batches(shape, &mut random)) {
        texts.push(schema::to_lake(&batch, Offset(offset), stream).expect("converts"));
        let rows = schema::place(&batch, Offset(offset), stream).expect("places");
        let mut at = 0;
        while at < rows.num_rows() {
            let size = sizes[random.random_range(0..sizes.len())].min(rows.num_rows() - at);
            pieces.push(rows.slice(at, size));
            at += size;
        }
    }
    let options = WriterOptions {
        row_group_rows: shape.row_group_rows,
        ..WriterOptions::default()
    };
    let mut writer = table.writer(&options).expect("a writer");
    let several = EncodingThreads::start(3).expect("threads");
    writer.set_threads(several.clone());
    let mut written = 0;
    for piece in &pieces {
        match random.random_range(0..turns) {
            0 => writer.set_threads(EncodingThreads::default()),
            1 => writer.flush().expect("encoded"),
            2..5 => writer.set_threads(several.clone()),
            _ => {}
        }
        writer.write(piece).expect("written");
        written += piece.num_rows() as u64;
        assert_eq!(writer.rows(), written);
        assert!(writer.bytes() > 0);
    }
    let path = writer.finish().expect("finished").path;
    let file = File::open(directory.path().join("friends").join(path)).expect("there");
    let (rows, footer) = read(&file, None);
    let expected = together(&table, &texts);
    assert_eq!(together(&table, &rows), expected);
    let groups = footer.row_groups().iter().map(|group| group.num_rows() as usize);
    let (last, full) = (
        shape.rows % shape.row_group_rows,
        shape.rows / shape.row_group_rows,
    );
    let mut whole = vec![shape.row_group_rows; full];
    whole.extend((last > 0).then_some(last));
    assert_eq!(groups.collect::<Vec<_>>(), whole);
    pages_are_where_and_what_they_say(&footer, &expected);
    filters_know_all(&file, &expected, &footer);
}

/// The same rows, nulls and bounds in each row group.
fn same_footers(ours: &ParquetMetaData, theirs: &ParquetMetaData) {
    assert_eq!(ours.num_row_groups(), theirs.num_row_groups());
    for (ours, theirs) in ours.row_groups().iter().zip(theirs.row_groups()) {
        assert_eq!(ours.num_rows(), theirs.num_rows());
        for (ours, theirs) in ours.columns().iter().zip(theirs.columns()) {
            let name = ours.column_path().string();
            assert_eq!(ours.num_values(), theirs.num_values(), "{name}");
            let bounds = |column: &parquet::file::metadata::ColumnChunkMetaData| {
                let statistics = column.statistics().expect("there are some");
                let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                (
                    bytes(statistics.min_bytes_opt()),
                    bytes(statistics.max_bytes_opt()),
                    statistics.null_count_opt(),
                )
            };
            assert_eq!(bounds(ours), bounds(theirs), "{name}");
            assert_eq!(
                ours.bloom_filter_offset().is_some(),
                theirs.bloom_filter_offset().is_some()
            );
        }
    }
}

fn pages_are_where_and_what_they_say(footer: &ParquetMetaData, rows: &RecordBatch) {
    let (indexes, places) = (
        footer.column_index().expect("bounds"),
        footer.offset_index().expect("places"),
    );
    let mut group_begins = 0;
    for (group, (indexes, places)) in footer.row_groups().iter().zip(indexes.iter().zip(places)) {
        for (column, (index, places)) in indexes.iter().zip(places).enumerate() {
            let ColumnIndexMetaData::BYTE_ARRAY(index) = index else {
                continue;
            };
            let places = places.page_locations();
            let ends = places[1..]
                .iter()
                .map(|place| place.first_row_index)
                .chain([group.num_rows()]);
            for (page, (place, end)) in places.iter().zip(ends).enumerate() {
                let first = place.first_row_index as usize;
                let texts = rows.column(column);
                let texts = texts.slice(group_begins + first, end as usize - first);
                let texts = texts.as_string::<i32>();
                let texts: Vec<&str> = texts.iter().flatten().collect();
                let bytes = |text: Option<&&str>| text.map(|text| text.as_bytes().to_vec());
                let found = (index.min_value(page), index.max_value(page));
                let found = (found.0.map(<[u8]>::to_vec), found.1.map(<[u8]>::to_vec));
                assert_eq!(
                    found,
                    (bytes(texts.iter().min()), bytes(texts.iter().max())),
                    "page {page} of column {column}"
                );
                let nulls = (end as usize - first) - texts.len();
                assert_eq!(index.null_count(page), Some(nulls as i64));
                assert_eq!(index.is_null_page(page), texts.is_empty());
            }
        }
        group_begins += group.num_rows() as usize;
    }
}

/// Each filter has its row group's ids, and hardly any others.
fn filters_know_all(file: &File, rows: &RecordBatch, footer: &ParquetMetaData) {
    let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = ReadOptionsBuilder::new()
        .with_reader_properties(properties)
        .build();
    let file = file.try_clone().expect("a handle");
    let reader = SerializedFileReader::new_with_options(file, options).expect("Parquet");
    let mut begins = 0;
    for (number, group) in footer.row_groups().iter().enumerate() {
        let group_rows = group.num_rows() as usize;
        let users = rows.column(0).slice(begins, group_rows);
        let users: HashSet<&str> = users.as_string::<i32>().iter().flatten().collect();
        let group = reader.get_row_group(number).expect("a row group");
        let filter = group.get_column_bloom_filter(0).expect("the key has one");
        assert!(users.iter().all(|user| filter.check(*user)));
        let strangers = (0..10_000_u128).filter(|number| {
            let text = uuid::Uuid::from_u128(u128::MAX - number).to_string();
            filter.check(text.as_str())
        });
        assert!(
            strangers.count() < 1_000,
            "more than twice what the filter is made for"
        );
        begins += group_rows;
    }
}
