//! What is taken out of pages is what the general reader reads, whatever the file is like; damage is nobody's panic.

use std::io::{Seek, Write};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{WriterProperties, WriterVersion};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use super::dictionaries::Dictionaries;
use super::{Pages, ROWS_MAX, has_numbers};

const ROWS: usize = 3_000;

/// Draws, whose seed is printed.
fn seeded() -> ChaCha8Rng {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// How many files are tried.
fn files(usually: usize, soak: usize) -> usize {
    match std::env::var_os("TIDEMILL_SOAK") {
        Some(_) => soak,
        None => usually,
    }
}

fn schema() -> Arc<Schema> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, true),
        Field::new("number", DataType::Int64, false),
        Field::new("maybe", DataType::Int64, true),
        Field::new("small", DataType::Int32, true),
        Field::new("score", DataType::Float64, true),
        Field::new("yes", DataType::Boolean, true),
        Field::new("at", time, false),
    ]))
}

fn rows(rng: &mut ChaCha8Rng) -> RecordBatch {
    let users: Vec<String> = (0..rng.random_range(1..400))
        .map(|_| Uuid::from_u128(rng.random()).to_string())
        .collect();
    // Sometimes one that looks like a uuid and is none.
    let odd = rng.random_bool(0.3);
    let share = rng.random_range(0.0..1.0);
    let wide = rng.random_range(0..64);
    let any = |rng: &mut ChaCha8Rng| rng.random::<i64>() >> wide;
    let user: StringArray = (0..ROWS)
        .map(|row| {
            let user = &users[rng.random_range(0..users.len())];
            Some(if odd && row % 7 == 0 {
                user.to_uppercase()
            } else {
                user.clone()
            })
        })
        .collect();
    let text: StringArray = (0..ROWS)
        .map(|_| {
            rng.random_bool(share)
                .then(|| "é".repeat(rng.random_range(0..90)))
        })
        .collect();
    let number: Int64Array = (0..ROWS).map(|_| Some(any(rng))).collect();
    let maybe: Int64Array = (0..ROWS)
        .map(|_| rng.random_bool(share).then(|| any(rng)))
        .collect();
    let small: Int32Array = (0..ROWS)
        .map(|_| rng.random_bool(share).then(|| rng.random::<i32>() >> (wide % 32)))
        .collect();
    let score: Float64Array = (0..ROWS)
        .map(|_| rng.random_bool(share).then(|| rng.random::<f64>()))
        .collect();
    let yes: BooleanArray = (0..ROWS)
        .map(|_| rng.random_bool(share).then(|| rng.random::<bool>()))
        .collect();
    let at: TimestampMicrosecondArray = (0..ROWS as i64)
        .map(|row| Some(1_725_926_400_000_000 + row * 1_000 + rng.random_range(-5_000..5_000)))
        .collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(user),
        Arc::new(text),
        Arc::new(number),
        Arc::new(maybe),
        Arc::new(small),
        Arc::new(score),
        Arc::new(yes),
        Arc::new(at.with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns).expect("fits")
}

fn properties(rng: &mut ChaCha8Rng) -> WriterProperties {
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
    ];
    let mut properties = WriterProperties::builder()
        .set_compression(compressions[rng.random_range(0..compressions.len())])
        .set_dictionary_enabled(rng.random())
        .set_data_page_row_count_limit(rng.random_range(50..2_000))
        .set_write_batch_size(rng.random_range(10..500))
        .set_max_row_group_row_count(Some(rng.random_range(800..4_000)));
    if rng.random_bool(0.1) {
        properties = properties.set_writer_version(WriterVersion::PARQUET_2_0);
    }
    if rng.random() {
        for column in ["number", "maybe", "small", "at"] {
            properties = properties
                .set_column_dictionary_enabled(column.into(), false)
                .set_column_encoding(column.into(), Encoding::DELTA_BINARY_PACKED);
        }
    }
    if rng.random() {
        for column in ["user", "text"] {
            properties = properties.set_column_encoding(column.into(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
        }
    }
    properties.build()
}

fn written(rng: &mut ChaCha8Rng) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a file");
    let mut writer = ArrowWriter::try_new(&mut file, schema(), Some(properties(rng))).expect("begun");
    writer.write(&rows(rng)).expect("written");
    writer.close().expect("closed");
    file
}

fn footer(file: &std::fs::File) -> ArrowReaderMetadata {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    ArrowReaderMetadata::load(file, options).expect("a footer")
}

type General = ParquetRecordBatchReaderBuilder<std::fs::File>;

/// The one batch that the general reader reads of what is selected.
fn read_generally(
    file: &std::fs::File,
    footer: &ArrowReaderMetadata,
    select: impl FnOnce(General) -> General,
) -> RecordBatch {
    let general = General::new_with_metadata(file.try_clone().expect("a handle"), footer.clone());
    let batches: Vec<_> = select(general)
        .build()
        .expect("read")
        .collect::<Result<_, _>>()
        .expect("read");
    let [batch] = &batches[..] else {
        panic!("{} batches", batches.len())
    };
    batch.clone()
}

fn some_columns(rng: &mut ChaCha8Rng) -> Vec<String> {
    let schema = schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    names.filter(|_| rng.random_bool(0.6)).collect()
}

#[test]
fn rows_taken_out_of_pages_are_those_that_the_general_reader_reads() {
    let (mut rng, files) = (seeded(), files(40, 3_000));
    let mut taken = 0;
    for _ in 0..files {
        let file = written(&mut rng);
        // Without room for a single dictionary they are read from the file.
        let dictionaries = match rng.random() {
            true => Dictionaries::default(),
            false => Dictionaries::of(0),
        };
        let (pages, footer) = (Pages { dictionaries }, footer(&file));
        for _ in 0..40 {
            let from = rng.random_range(0..ROWS as u64 + 10);
            let count = [1, rng.random_range(1..60), rng.random_range(1..2_000)][rng.random_range(0..3)];
            let columns = some_columns(&mut rng);
            let Some(found) = pages.read("a file", &file, &footer, (from, count), &columns) else {
                continue;
            };
            taken += 1;
            let expected = read_generally(&file, &footer, |general| {
                let names = columns.iter().map(String::as_str);
                let mask = ProjectionMask::columns(general.parquet_schema(), names);
                general
                    .with_projection(mask)
                    .with_batch_size(ROWS_MAX)
                    .with_offset(usize::try_from(from).expect("small"))
                    .with_limit(count)
            });
            assert_eq!(
                found.columns(),
                expected.columns(),
                "rows {from}+{count} of {columns:?}"
            );
            assert_eq!(found.schema().fields(), expected.schema().fields());
        }
    }
    // Files differ in how many columns its own reader takes; most questions of most files are left to the other.
    assert!(taken > files, "only {taken} times");
}

/// What is seen of the rows of a row group: whether each passes.
#[derive(Default)]
struct SeenRows(Vec<bool>);

impl SeenRows {
    fn see(&mut self, passes: bool, rows: usize) -> Option<()> {
        self.0.extend(std::iter::repeat_n(passes, rows));
        Some(())
    }
}

/// A condition of no sense, which nulls pass as well or do not.
fn judge(texts: &ArrayRef, remainder: usize, absent: bool) -> Option<(Vec<bool>, bool)> {
    let texts = texts.as_string_opt::<i32>()?;
    let pass = texts.iter().flatten().map(|text| text.len() % 5 == remainder);
    Some((pass.collect(), absent))
}

#[test]
fn rows_with_texts_are_those_that_the_general_reader_reads() {
    let (mut rng, files) = (seeded(), files(60, 3_000));
    let (mut named, mut judged) = (0, 0);
    for _ in 0..files {
        let (file, pages) = (written(&mut rng), Pages::default());
        let footer = footer(&file);
        for (group, rows) in footer.metadata().row_groups().iter().enumerate() {
            for column in (0..2).filter(|column| has_numbers(&rows.columns()[*column])) {
                let expected = read_generally(&file, &footer, |general| {
                    let mask = ProjectionMask::leaves(general.parquet_schema(), [column]);
                    let general = general.with_projection(mask).with_row_groups(vec![group]);
                    general.with_batch_size(ROWS)
                });
                let texts: Vec<_> = expected.column(0).as_string::<i32>().iter().collect();
                for _ in 0..3 {
                    let wanted: Vec<String> = (0..rng.random_range(1..7))
                        .map(|_| match texts[rng.random_range(0..texts.len())] {
                            Some(text) if rng.random_bool(0.7) => text.to_owned(),
                            _ => "nobody".to_owned(),
                        })
                        .collect();
                    let mut seen = SeenRows::default();
                    let place = (group, column);
                    let see = |passes, rows| seen.see(passes, rows);
                    if pages
                        .with_texts("a file", &file, &footer, place, &wanted, see)
                        .is_some()
                    {
                        let is = |text: &Option<&str>| {
                            text.is_some_and(|text| wanted.iter().any(|one| one == text))
                        };
                        assert_eq!(seen.0, texts.iter().map(is).collect::<Vec<_>>(), "{wanted:?}");
                        named += 1;
                    }
                    let (remainder, absent) = (rng.random_range(0..5), rng.random());
                    let mut seen = SeenRows::default();
                    let see = |passes, rows| seen.see(passes, rows);
                    let judge = |texts: &ArrayRef| judge(texts, remainder, absent);
                    if pages
                        .with_passing_texts("a file", &file, &footer, place, judge, see)
                        .is_some()
                    {
                        let is =
                            |text: &Option<&str>| text.map_or(absent, |text| text.len() % 5 == remainder);
                        assert_eq!(seen.0, texts.iter().map(is).collect::<Vec<_>>());
                        judged += 1;
                    }
                }
            }
        }
    }
    assert!(named > files && judged > files, "only {named} and {judged} times");
}

#[test]
fn damaged_pages_are_left_to_the_general_reader_or_read_and_never_a_panic() {
    let (mut rng, files) = (seeded(), files(30, 2_000));
    for _ in 0..files {
        let mut file = written(&mut rng);
        let footer = footer(&file);
        let end = footer
            .metadata()
            .row_groups()
            .iter()
            .flat_map(|group| group.columns());
        let end = end
            .map(|column| column.byte_range().0 + column.byte_range().1)
            .max();
        for _ in 0..30 {
            let at = rng.random_range(4..end.expect("columns"));
            file.seek(std::io::SeekFrom::Start(at)).expect("there");
            file.write_all(&[rng.random()]).expect("written");
            let from = rng.random_range(0..ROWS as u64);
            let count = rng.random_range(1..500);
            let columns = some_columns(&mut rng);
            let pages = Pages::default();
            drop(pages.read("a file", &file, &footer, (from, count), &columns));
            let mut rows = SeenRows::default();
            let place = (0, rng.random_range(0..2));
            let texts = ["é".repeat(rng.random_range(0..90))];
            pages.with_texts("a file", &file, &footer, place, &texts, |passes, more| {
                rows.see(passes, more)
            });
            let judge = |texts: &ArrayRef| judge(texts, 0, true);
            let see = |passes, more| rows.see(passes, more);
            pages.with_passing_texts("a file", &file, &footer, place, judge, see);
        }
    }
}
