//! Some rows of a file of this machine, taken out of the pages that have them and out of nothing else.
//!
//! The general reader prepares for whole row groups: it makes decoders, reads a dictionary and inflates a page to its
//! end for each column, and all of that for one event costs more than the event. Here a page is read with one call,
//! inflated as far as its rows go, and dictionaries are kept. This understands what our writer writes, flat columns in
//! pages of the first version with an offset index, and nothing else: whatever it does not know, or finds damaged, is
//! `None`, and the general reader judges.

mod column;
mod delta;
mod dictionaries;
mod header;
mod hybrid;
mod inflate;
#[cfg(test)]
mod tests;
mod with_text;

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Schema};
use memchr::memmem;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{Compression, Encoding, Type as PhysicalType};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;

use column::{Source, Values};
use dictionaries::{Decoded, Dictionaries, Dictionary, Name, Texts};
use header::{Header, Kind};
use hybrid::Hybrid;
use inflate::PageBytes;

/// Most rows that are taken here; more of them are faster with the general reader, which decodes on the way.
pub(crate) const ROWS_MAX: usize = 16_384;
/// Most rows whose texts are read from a dictionary in the file one by one, which takes a microsecond each.
const FEW_ROWS: usize = 1_024;
/// Largest page, stored or inflated.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// Most rows of a page that is looked through.
const PAGE_ROWS_MAX: usize = 16 << 20;

/// Reads rows, and keeps dictionaries.
#[derive(Default)]
pub(crate) struct Pages {
    dictionaries: Dictionaries,
}

/// A column of the row group that is read.
struct Chunk<'a> {
    file: &'a File,
    name: Name,
    meta: &'a ColumnChunkMetaData,
    locations: &'a [PageLocation],
    /// Rows of the row group.
    rows: usize,
}

impl Pages {
    /// Rows [from, from + take) of a file whose name is `path`, or those that there are; only `columns`, in the file's
    /// order. `None` when the general reader is needed.
    pub(crate) fn read(
        &self,
        path: &str,
        file: &File,
        footer: &ArrowReaderMetadata,
        (from, take): (u64, usize),
        columns: &[String],
    ) -> Option<RecordBatch> {
        if take > ROWS_MAX {
            return None;
        }
        let (group, rows) = place(footer.metadata().row_groups(), from, take)?;
        let path: Arc<str> = path.into();
        let (mut kept, mut arrays) = (Vec::new(), Vec::new());
        for (at, field) in footer.schema().fields().iter().enumerate() {
            if !columns.contains(field.name()) {
                continue;
            }
            let chunk = Chunk::new(&path, file, footer, group, at)?;
            arrays.push(chunk.rows(&self.dictionaries, rows.clone(), field.data_type())?);
            kept.push(Arc::clone(field));
        }
        let count = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(kept)), arrays, &count).ok()
    }
}

/// The row group that has all of some rows, and which rows they are in it.
fn place(groups: &[RowGroupMetaData], from: u64, take: usize) -> Option<(usize, Range<usize>)> {
    let mut first = 0;
    for (number, group) in groups.iter().enumerate() {
        let rows = u64::try_from(group.num_rows()).ok()?;
        let end = first + rows;
        if from < end {
            let wanted = from.checked_add(take as u64)?;
            let last = number + 1 == groups.len();
            if wanted > end && !last {
                return None;
            }
            let within = |row: u64| usize::try_from(row - first).ok();
            return Some((number, within(from)?..within(wanted.min(end))?));
        }
        first = end;
    }
    None
}

impl<'a> Chunk<'a> {
    /// The column of that number in a row group.
    fn new(
        path: &Arc<str>,
        file: &'a File,
        footer: &'a ArrowReaderMetadata,
        group: usize,
        column: usize,
    ) -> Option<Self> {
        let metadata = footer.metadata();
        let leaves = footer.parquet_schema().columns();
        let leaf = leaves.get(column)?;
        let is_nested =
            leaf.max_rep_level() > 0 || leaf.max_def_level() > 1 || leaf.path().parts().len() != 1;
        if is_nested || leaves.len() != footer.schema().fields().len() {
            return None;
        }
        let rows = metadata.row_groups().get(group)?;
        Some(Self {
            file,
            name: (Arc::clone(path), group, column),
            meta: rows.columns().get(column)?,
            locations: metadata.offset_index()?.get(group)?.get(column)?.page_locations(),
            rows: usize::try_from(rows.num_rows()).ok()?,
        })
    }

    /// The pages, each with its first row and the one after its last.
    fn pages(&self) -> impl Iterator<Item = Option<(&'a PageLocation, Range<usize>)>> {
        let first_row = |page: &PageLocation| usize::try_from(page.first_row_index).ok();
        let (pages, rows) = (self.locations, self.rows);
        pages.iter().enumerate().map(move |(at, page)| {
            let end = pages.get(at + 1).map_or(Some(rows), first_row)?;
            Some((page, first_row(page)?..end))
        })
    }

    /// Some rows of the column.
    fn rows(
        &self,
        dictionaries: &Dictionaries,
        rows: Range<usize>,
        data_type: &DataType,
    ) -> Option<ArrayRef> {
        let mut values = Values::of(data_type, self.meta.column_type())?;
        let optional = self.meta.column_descr().max_def_level() == 1;
        let mut valid = optional.then(|| Vec::with_capacity(rows.len()));
        for page in self.pages() {
            let (page, all) = page?;
            let wanted = rows.start.max(all.start)..rows.end.min(all.end);
            if !wanted.is_empty() {
                let wanted = wanted.start - all.start..wanted.end - all.start;
                let in_page = all.end.checked_sub(all.start)?;
                self.page(dictionaries, page, in_page, wanted, &mut values, valid.as_mut())?;
            }
        }
        values.array(data_type, valid.map(NullBuffer::from))
    }

    /// Appends some rows of a page that has so many.
    fn page(
        &self,
        dictionaries: &Dictionaries,
        location: &PageLocation,
        in_page: usize,
        rows: Range<usize>,
        values: &mut Values,
        valid: Option<&mut Vec<bool>>,
    ) -> Option<()> {
        let bytes = self.bytes(location.offset, location.compressed_page_size)?;
        let header = Header::read(&bytes).filter(|header| header.kind == Kind::Data)?;
        if header.values != in_page {
            return None;
        }
        let mut page = self.inflated(&bytes, &header)?;
        let mut at = 0;
        // Which of the rows have values, and how many values there are before them.
        let mut before = rows.start;
        let runs = match valid {
            None => vec![(true, rows.len())],
            Some(valid) => {
                let mut levels = levels(&mut page, &mut at)?;
                before = 0;
                levels.next(rows.start, |level| before += level as usize)?;
                let mut runs: Vec<(bool, usize)> = Vec::new();
                levels.next(rows.len(), |level| {
                    let is = level == 1;
                    valid.push(is);
                    match runs.last_mut() {
                        Some((same, count)) if *same == is => *count += 1,
                        _ => runs.push((is, 1)),
                    }
                })?;
                runs
            }
        };
        if header.encoding == Encoding::PLAIN {
            let source = Source::Plain { page, at };
            return append(source, before, &runs, values);
        }
        if header.encoding == Encoding::DELTA_LENGTH_BYTE_ARRAY {
            return append(
                Source::lengths(page, at, in_page.min(PAGE_ROWS_MAX))?,
                before,
                &runs,
                values,
            );
        }
        let texts = match header.encoding {
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if rows.len() <= FEW_ROWS => {
                Some(dictionaries.few(&self.name, self.file, || self.dictionary())?)
            }
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                let texts = dictionaries.get(&self.name, || self.dictionary())?;
                Some(Dictionary::Kept(texts))
            }
            _ => None,
        };
        let source = Source::packed(page.whole()?.get(at..)?, header.encoding, texts)?;
        append(source, before, &runs, values)
    }

    /// The texts that the column's pages have the numbers of.
    fn dictionary(&self) -> Option<Decoded> {
        self.dictionary_of(usize::MAX)
    }

    /// The same if there are not more than so many.
    fn dictionary_of(&self, count_max: usize) -> Option<Decoded> {
        self.with_dictionary_page(|page, count, stored_at| {
            let texts = Texts::decode(page, Some(count).filter(|count| *count <= count_max)?)?;
            Some(Decoded { texts, stored_at })
        })
    }

    /// Whether bytes of the dictionary are those of one of `texts`. Where none are it has none of them; where some are
    /// it may be that texts beside each other have them.
    fn may_have(&self, texts: &[String]) -> Option<bool> {
        let has = |page: &[u8], text: &String| memmem::find(page, text.as_bytes()).is_some();
        self.with_dictionary_page(|page, _, _| Some(texts.iter().any(|text| has(page, text))))
    }

    /// Gives the bytes of the dictionary, how many texts it has, and where in the file those bytes lie as they are.
    fn with_dictionary_page<T>(&self, see: impl FnOnce(&[u8], usize, Option<u64>) -> Option<T>) -> Option<T> {
        let offset = self.meta.dictionary_page_offset()?;
        let end = self.locations.first()?.offset;
        let bytes = self.bytes(offset, i32::try_from(end.checked_sub(offset)?).ok()?)?;
        let header = Header::read(&bytes).filter(|header| header.kind == Kind::Dictionary)?;
        if !matches!(header.encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
            return None;
        }
        let mut page = self.inflated(&bytes, &header)?;
        let stored = matches!(page, PageBytes::Stored(_));
        let at = u64::try_from(offset).ok()?.checked_add(header.end as u64)?;
        see(page.whole()?, header.values, stored.then_some(at))
    }

    fn bytes(&self, offset: i64, count: i32) -> Option<Vec<u8>> {
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= PAGE_BYTES_MAX)?;
        let mut bytes = vec![0; count];
        self.file
            .read_exact_at(&mut bytes, u64::try_from(offset).ok()?)
            .ok()?;
        Some(bytes)
    }

    fn inflated<'b>(&self, bytes: &'b [u8], header: &Header) -> Option<PageBytes<'b>> {
        let stored = bytes.get(header.end..header.end.checked_add(header.stored_bytes)?)?;
        match self.meta.compression() {
            Compression::UNCOMPRESSED => Some(PageBytes::Stored(stored)),
            Compression::ZSTD(_) if header.bytes <= PAGE_BYTES_MAX => PageBytes::zstd(stored, header.bytes),
            Compression::LZ4_RAW if header.bytes <= PAGE_BYTES_MAX => PageBytes::lz4(stored, header.bytes),
            _ => None,
        }
    }
}

/// Whether all pages of a column of a row group have numbers of a dictionary of texts.
pub(crate) fn has_numbers(column: &ColumnChunkMetaData) -> bool {
    let is_text = column.column_type() == PhysicalType::BYTE_ARRAY;
    let encodings = column.page_encoding_stats_mask();
    is_text
        && encodings.is_some_and(|used| {
            used.is_only(Encoding::RLE_DICTIONARY) || used.is_only(Encoding::PLAIN_DICTIONARY)
        })
}

/// Which rows of a page have values, which is said before them; `at` becomes where the values begin.
fn levels<'p>(page: &'p mut PageBytes<'_>, at: &mut usize) -> Option<Hybrid<'p>> {
    let length: [u8; 4] = page.first(4)?.get(..4)?.try_into().ok()?;
    *at = 4usize.checked_add(u32::from_le_bytes(length) as usize)?;
    Hybrid::new(page.first(*at)?.get(4..*at)?, 1)
}

/// Appends runs of values and of nulls, after `before` values of the page.
fn append(mut source: Source<'_>, before: usize, runs: &[(bool, usize)], values: &mut Values) -> Option<()> {
    source.skip(before, values)?;
    for (is, count) in runs {
        if *is {
            source.take(*count, values)?;
        } else {
            (0..*count).for_each(|_| values.push_null());
        }
    }
    Some(())
}
