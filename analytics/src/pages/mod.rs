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

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Schema};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;

use column::{Source, Values};
use dictionaries::{Dictionaries, Name, Texts};
use header::{Header, Kind};
use hybrid::Hybrid;
use inflate::PageBytes;

/// Most rows that are taken here; more of them are faster with the general reader, which decodes on the way.
pub(crate) const ROWS_MAX: usize = 16_384;
/// Largest page, stored or inflated.
const PAGE_BYTES_MAX: usize = 64 << 20;

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
        let metadata = footer.metadata();
        let leaves = footer.parquet_schema().columns();
        let fields = footer.schema().fields();
        if leaves.len() != fields.len() || take > ROWS_MAX {
            return None;
        }
        let (number, group, rows) = place(metadata.row_groups(), from, take)?;
        let offsets = metadata.offset_index()?.get(number)?;
        let path: Arc<str> = path.into();
        let (mut kept, mut arrays) = (Vec::new(), Vec::new());
        for (at, field) in fields.iter().enumerate() {
            if !columns.contains(field.name()) {
                continue;
            }
            let leaf = leaves.get(at)?;
            if leaf.max_rep_level() > 0 || leaf.max_def_level() > 1 || leaf.path().parts().len() != 1 {
                return None;
            }
            let chunk = Chunk {
                file,
                name: (Arc::clone(&path), number, at),
                meta: group.columns().get(at)?,
                locations: offsets.get(at)?.page_locations(),
                rows: usize::try_from(group.num_rows()).ok()?,
            };
            arrays.push(chunk.rows(&self.dictionaries, rows.clone(), field.data_type())?);
            kept.push(Arc::clone(field));
        }
        let count = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(kept)), arrays, &count).ok()
    }
}

/// The row group that has all of some rows, and which rows they are in it.
fn place(
    groups: &[RowGroupMetaData],
    from: u64,
    take: usize,
) -> Option<(usize, &RowGroupMetaData, Range<usize>)> {
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
            return Some((number, group, within(from)?..within(wanted.min(end))?));
        }
        first = end;
    }
    None
}

impl Chunk<'_> {
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
        let first_row = |page: &PageLocation| usize::try_from(page.first_row_index).ok();
        for (at, page) in self.locations.iter().enumerate() {
            let begin = first_row(page)?;
            let end = match self.locations.get(at + 1) {
                Some(next) => first_row(next)?,
                None => self.rows,
            };
            let wanted = rows.start.max(begin)..rows.end.min(end);
            if !wanted.is_empty() {
                let wanted = wanted.start - begin..wanted.end - begin;
                self.page(
                    dictionaries,
                    page,
                    end - begin,
                    wanted,
                    &mut values,
                    valid.as_mut(),
                )?;
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
                let length: [u8; 4] = page.first(4)?.get(..4)?.try_into().ok()?;
                at = 4usize.checked_add(u32::from_le_bytes(length) as usize)?;
                let mut levels = Hybrid::new(page.first(at)?.get(4..at)?, 1)?;
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
        let texts = match header.encoding {
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                Some(dictionaries.get(&self.name, || self.dictionary())?)
            }
            _ => None,
        };
        let source = Source::packed(page.whole()?.get(at..)?, header.encoding, texts)?;
        append(source, before, &runs, values)
    }

    /// The texts that the column's pages have the numbers of.
    fn dictionary(&self) -> Option<Texts> {
        let offset = self.meta.dictionary_page_offset()?;
        let end = self.locations.first()?.offset;
        let bytes = self.bytes(offset, i32::try_from(end.checked_sub(offset)?).ok()?)?;
        let header = Header::read(&bytes).filter(|header| header.kind == Kind::Dictionary)?;
        if !matches!(header.encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
            return None;
        }
        Texts::decode(self.inflated(&bytes, &header)?.whole()?, header.values)
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
            _ => None,
        }
    }
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
