//! A column of ids, 16 bytes each in memory and text in the file, with a dictionary.
//!
//! The sink's time went where Parquet's own writer looks texts of 36 bytes up in the dictionary of a row group, one row
//! after the other: a hundred thousand of them are in no near cache, so each row waited for memory, twice. Here an id
//! is one number of 128 bits, several rows are looked up at once ([`IdDictionary`]), and a text is made of it once, when
//! the dictionary is written. Bounds and bloom filter come from there as well.
//!
//! What comes out is a column chunk as any other: a dictionary page in plain encoding, pages of indices ([`hybrid`]),
//! their places and bounds for the page index. Nothing of it is compressed (see [`super::encoder`]).

mod dictionary;
mod hybrid;

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{Array, FixedSizeBinaryArray};
use bytes::Bytes;
use event::schema::IdText;
use parquet::basic::{Compression, Encoding, PageType, Type};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats,
};
use parquet::file::properties::DEFAULT_BLOOM_FILTER_FPP;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use dictionary::IdDictionary;

/// Bytes of the length before each value of a dictionary page.
const LENGTH_BYTES: usize = 4;

/// The column of one row group.
pub(super) struct IdColumn {
    descriptor: ColumnDescPtr,
    text: IdText,
    page_rows: usize,
    has_filter: bool,
    dictionary: IdDictionary,
    /// What the page in the making has.
    indices: Vec<u32>,
    /// For each of its rows 1 when it has a value; empty of a column that cannot have nulls.
    levels: Vec<u32>,
    page: Bounds,
    pages: Vec<DataPage>,
    column: Bounds,
}

/// Rows and what is known of them.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    rows: usize,
    nulls: usize,
    /// The lowest and highest id.
    range: Option<(u128, u128)>,
}

struct DataPage {
    body: Bytes,
    bounds: Bounds,
}

impl Bounds {
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.nulls += other.nulls;
        self.range = match (self.range, other.range) {
            (Some((low, high)), Some((min, max))) => Some((low.min(min), high.max(max))),
            (one, other) => one.or(other),
        };
    }
}

impl IdColumn {
    /// A column with pages of so many rows and about so many different values.
    pub(super) fn new(
        descriptor: ColumnDescPtr,
        text: IdText,
        page_rows: usize,
        distinct: u64,
        has_filter: bool,
    ) -> Self {
        Self {
            descriptor,
            text,
            page_rows,
            has_filter,
            dictionary: IdDictionary::with_room_for(distinct),
            indices: Vec::with_capacity(page_rows),
            levels: Vec::new(),
            page: Bounds::default(),
            pages: Vec::new(),
            column: Bounds::default(),
        }
    }

    /// Adds rows.
    pub(super) fn write(&mut self, ids: &FixedSizeBinaryArray) {
        let mut from = 0;
        while from < ids.len() {
            let fitting = (ids.len() - from).min(self.page_rows - self.page.rows);
            self.write_into_page(&ids.slice(from, fitting));
            from += fitting;
            if self.page.rows == self.page_rows {
                self.end_page();
            }
        }
    }

    fn write_into_page(&mut self, ids: &FixedSizeBinaryArray) {
        let values = values(ids);
        self.dictionary.look_up(&values, &mut self.indices);
        if self.is_optional() {
            let levels = (0..ids.len()).map(|row| u32::from(ids.is_valid(row)));
            self.levels.extend(levels);
        }
        self.page.add(&Bounds {
            rows: ids.len(),
            nulls: ids.null_count(),
            range: range(&values),
        });
    }

    fn is_optional(&self) -> bool {
        self.descriptor.max_def_level() > 0
    }

    fn end_page(&mut self) {
        let bounds = std::mem::take(&mut self.page);
        if bounds.rows == 0 {
            return;
        }
        let mut body = Vec::with_capacity(LENGTH_BYTES + self.indices.len() * 3);
        if self.is_optional() {
            body.extend([0; LENGTH_BYTES]);
            hybrid::encode(&self.levels, 1, &mut body);
            let length = (body.len() - LENGTH_BYTES) as u32;
            body[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        }
        let width = hybrid::width(self.dictionary.len());
        body.push(width);
        hybrid::encode(&self.indices, width, &mut body);
        self.indices.clear();
        self.levels.clear();
        self.column.add(&bounds);
        self.pages.push(DataPage {
            body: body.into(),
            bounds,
        });
    }

    /// Bytes that it will have in the file, about.
    pub(super) fn bytes(&self) -> usize {
        let pages: usize = self.pages.iter().map(|page| page.body.len()).sum();
        pages + self.dictionary_bytes()
    }

    /// Bytes that its dictionary will have.
    pub(super) fn dictionary_bytes(&self) -> usize {
        self.dictionary.len() * (LENGTH_BYTES + self.text.length())
    }

    /// The whole column chunk, and what a row group says of it.
    pub(super) fn close(mut self) -> Result<(Bytes, ColumnCloseResult)> {
        self.end_page();
        let mut file = TrackedWrite::new(Vec::with_capacity(self.bytes() + (64 << 10)));
        let mut writer = SerializedPageWriter::new(&mut file);
        let dictionary = Page::DictionaryPage {
            buf: self.dictionary_page(),
            num_values: self.dictionary.len() as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        let size = dictionary.buffer().len();
        let written = writer.write_page(CompressedPage::new(dictionary, size))?;
        let first_page = written.bytes_written;

        let mut places = OffsetIndexBuilder::new();
        let mut bounds = ColumnIndexBuilder::new(Type::BYTE_ARRAY);
        let count = i32::try_from(self.pages.len()).map_err(too_many)?;
        for page in std::mem::take(&mut self.pages) {
            let rows = page.bounds.rows as i64;
            let size = page.body.len();
            let body = Page::DataPage {
                buf: page.body,
                num_values: page.bounds.rows as u32,
                encoding: Encoding::RLE_DICTIONARY,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            let written = writer.write_page(CompressedPage::new(body, size))?;
            let size = i32::try_from(written.compressed_size).map_err(too_many)?;
            places.append_row_count(rows);
            places.append_offset_and_size(written.offset as i64, size);
            let values = (page.bounds.rows - page.bounds.nulls) * self.text.length();
            places.append_unencoded_byte_array_data_bytes(Some(values as i64));
            let (min, max) = match page.bounds.range {
                Some((min, max)) => (self.text_of(min), self.text_of(max)),
                None => Default::default(),
            };
            bounds.append(page.bounds.range.is_none(), min, max, page.bounds.nulls as i64);
        }
        writer.close()?;
        let bytes = Bytes::from(file.into_inner()?);
        let metadata = self.metadata(bytes.len(), first_page, count)?;
        let closed = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.column.rows as u64,
            metadata,
            bloom_filter: self.has_filter.then(|| self.filter()).transpose()?,
            column_index: Some(bounds.build()?),
            offset_index: Some(places.build()),
        };
        Ok((bytes, closed))
    }

    fn dictionary_page(&self) -> Bytes {
        let value = LENGTH_BYTES + self.text.length();
        let length = (self.text.length() as u32).to_le_bytes();
        let mut page = vec![0; self.dictionary.len() * value];
        for (place, id) in page.chunks_exact_mut(value).zip(self.dictionary.ids()) {
            place[..LENGTH_BYTES].copy_from_slice(&length);
            self.text.write(id.to_be_bytes(), &mut place[LENGTH_BYTES..]);
        }
        page.into()
    }

    /// With exactly as much room as there are values.
    fn filter(&self) -> Result<Sbbf> {
        let mut filter =
            Sbbf::new_with_ndv_fpp(self.dictionary.len().max(1) as u64, DEFAULT_BLOOM_FILTER_FPP)?;
        let mut text = vec![0; self.text.length()];
        for id in self.dictionary.ids() {
            self.text.write(id.to_be_bytes(), &mut text);
            filter.insert(text.as_slice());
        }
        Ok(filter)
    }

    fn metadata(&self, bytes: usize, first_page: u64, pages: i32) -> Result<ColumnChunkMetaData> {
        let bytes = bytes as i64;
        let text = |id| ByteArray::from(self.text_of(id));
        let (min, max) = self.column.range.unzip();
        let nulls = Some(self.column.nulls as u64);
        let statistics = Statistics::byte_array(min.map(text), max.map(text), None, nulls, false);
        let encodings = [
            (PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1),
            (PageType::DATA_PAGE, Encoding::RLE_DICTIONARY, pages),
        ];
        let encodings = encodings.map(|(page_type, encoding, count)| PageEncodingStats {
            page_type,
            encoding,
            count,
        });
        let values = (self.column.rows - self.column.nulls) * self.text.length();
        ColumnChunkMetaData::builder(Arc::clone(&self.descriptor))
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_page_encoding_stats(encodings.to_vec())
            .set_compression(Compression::UNCOMPRESSED)
            .set_total_compressed_size(bytes)
            .set_total_uncompressed_size(bytes)
            .set_num_values(self.column.rows as i64)
            .set_dictionary_page_offset(Some(0))
            .set_data_page_offset(first_page as i64)
            .set_statistics(statistics)
            .set_unencoded_byte_array_data_bytes(Some(values as i64))
            .build()
    }

    fn text_of(&self, id: u128) -> Vec<u8> {
        self.text.text(id.to_be_bytes()).into_bytes()
    }
}

/// The ids of rows that have one.
pub(crate) fn values(ids: &FixedSizeBinaryArray) -> Cow<'_, [[u8; 16]]> {
    let all = ids.value_data().as_chunks().0;
    match ids.nulls() {
        None => Cow::Borrowed(all),
        Some(nulls) => nulls.valid_indices().map(|row| all[row]).collect(),
    }
}

/// The lowest and the highest id, whose texts are in the same order.
pub(crate) fn range(ids: &[[u8; 16]]) -> Option<(u128, u128)> {
    let mut numbers = ids.iter().map(|id| u128::from_be_bytes(*id));
    let first = numbers.next()?;
    Some(numbers.fold((first, first), |(min, max), id| (min.min(id), max.max(id))))
}

fn too_many(error: std::num::TryFromIntError) -> ParquetError {
    ParquetError::General(format!("a column of ids is too large for Parquet: {error}"))
}
