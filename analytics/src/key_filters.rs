//! Which parts of a file can hold a key: by the file's bloom filters, and by finer ones that are made of it.
//!
//! A bloom filter of a file speaks of a whole row group, of which a thousandth may be wanted and a million rows would
//! be read. So where one says maybe, the key column of the row group is read once and a filter is made of each
//! [`BLOCK_ROWS`] rows; the next question reads those alone that can hold its key. All filters stay in memory up to a
//! bound. Beyond it row groups are read as a whole: slower, and the same answer.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use futures::StreamExt;
use lake::FileLocation;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::RowGroupMetaData;

use crate::QueryError;
use crate::cache::Cache;
use crate::files::{Files, Wanted, bloom_filter_of};
use crate::parameters::column;

/// Rows of a block: one or two pages of each column.
const BLOCK_ROWS: usize = if cfg!(test) { 8 } else { 16_384 };
/// How often a block's filter says maybe of a key that is not there, at most.
const FALSE_SHARE: f64 = 0.01;
/// Bytes of all filters; about two for each row, so these are those of thirty million rows of different keys.
const BYTES_MAX: usize = 64 << 20;

/// Filters of row groups.
pub(crate) struct KeyFilters(Cache<GroupName, Group>);

/// A row group of a file, by the file's name and its number there.
type GroupName = (String, usize);

#[derive(Clone)]
struct Group {
    /// The file's own.
    whole: Arc<Sbbf>,
    /// Of each block.
    blocks: Option<Arc<Vec<Sbbf>>>,
}

impl Group {
    fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().flat_map(|blocks| blocks.iter());
        bytes_of(&self.whole) + blocks.map(bytes_of).sum::<usize>()
    }
}

fn bytes_of(filter: &Sbbf) -> usize {
    filter.num_blocks() * 32
}

/// A file, and its size.
type Source<'a> = (&'a FileLocation, u64);

impl Default for KeyFilters {
    fn default() -> Self {
        Self(Cache::new(BYTES_MAX))
    }
}

impl KeyFilters {
    /// What of `parts` (first row, rows) can hold a row whose text column `key` is `value`.
    pub(crate) async fn narrow(
        &self,
        files: &Files,
        file: Source<'_>,
        key: &str,
        value: &str,
        parts: Vec<(u64, u64)>,
    ) -> Result<Vec<(u64, u64)>, QueryError> {
        let footer = files.footer(file.0, file.1).await?;
        let mut narrowed: Vec<(u64, u64)> = Vec::new();
        let mut next = 0;
        for (number, group) in footer.metadata().row_groups().iter().enumerate() {
            let rows = next..next + u64::try_from(group.num_rows()).unwrap_or(0);
            next = rows.end;
            if within(&parts, &rows).next().is_none() {
                continue;
            }
            let name = (file.0.to_string(), number);
            let Some(whole) = self.whole(files, file, &name, group, key).await? else {
                narrowed.extend(within(&parts, &rows));
                continue;
            };
            if !whole.check(value.as_bytes()) {
                continue;
            }
            match self.blocks(files, file, &name, key, rows.clone()).await? {
                None => narrowed.extend(within(&parts, &rows)),
                Some(blocks) => {
                    for (at, _) in blocks
                        .iter()
                        .enumerate()
                        .filter(|(_, block)| block.check(value.as_bytes()))
                    {
                        let first = rows.start + (at * BLOCK_ROWS) as u64;
                        let end = rows.end.min(first + BLOCK_ROWS as u64);
                        narrowed.extend(within(&parts, &(first..end)));
                    }
                }
            }
        }
        Ok(joined(narrowed))
    }

    /// The file's own filter of a row group, if it has one.
    async fn whole(
        &self,
        files: &Files,
        file: Source<'_>,
        name: &GroupName,
        group: &RowGroupMetaData,
        key: &str,
    ) -> Result<Option<Arc<Sbbf>>, QueryError> {
        if let Some(group) = self.0.get(name) {
            return Ok(Some(group.whole));
        }
        let mut columns = group.columns().iter();
        let column = columns.find(|column| column.column_path().string() == key);
        let Some(place) = column.and_then(bloom_filter_of) else {
            return Ok(None);
        };
        let bytes = files.bytes(file.0, file.1, place).await?;
        let whole = Arc::new(Sbbf::from_bytes(&bytes)?);
        self.keep(name, &whole, None);
        Ok(Some(whole))
    }

    /// The filters of a row group's blocks, made if there is room for them.
    async fn blocks(
        &self,
        files: &Files,
        file: Source<'_>,
        name: &GroupName,
        key: &str,
        rows: Range<u64>,
    ) -> Result<Option<Arc<Vec<Sbbf>>>, QueryError> {
        // Where not even the file's own was kept there is no room for more.
        let Some(Group { whole, blocks }) = self.0.get(name) else {
            return Ok(None);
        };
        if blocks.is_some() {
            return Ok(blocks);
        }
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        if !self.0.has_room(count.saturating_mul(2)) {
            return Ok(None);
        }
        let columns = [key.to_owned()];
        let wanted = Wanted {
            from: rows.start,
            take: Some(count),
            columns: &columns,
        };
        let mut found = files.read(file.0, file.1, wanted).await?;
        let (mut blocks, mut filled) = (Vec::new(), BLOCK_ROWS);
        while let Some(rows) = found.next().await {
            let rows = rows?;
            let Some(texts) = column(&rows, key)?.as_string_opt::<i32>() else {
                return Ok(None);
            };
            for row in 0..texts.len() {
                if filled == BLOCK_ROWS {
                    blocks.push(Sbbf::new_with_ndv_fpp(BLOCK_ROWS as u64, FALSE_SHARE)?);
                    filled = 0;
                }
                filled += 1;
                if let Some(block) = blocks.last_mut().filter(|_| texts.is_valid(row)) {
                    block.insert(texts.value(row).as_bytes());
                }
            }
            tokio::task::yield_now().await;
        }
        blocks
            .iter_mut()
            .for_each(|block| block.fold_to_target_fpp(FALSE_SHARE));
        let blocks = Arc::new(blocks);
        self.keep(name, &whole, Some(&blocks));
        Ok(Some(blocks))
    }

    fn keep(&self, name: &GroupName, whole: &Arc<Sbbf>, blocks: Option<&Arc<Vec<Sbbf>>>) {
        let group = Group {
            whole: Arc::clone(whole),
            blocks: blocks.map(Arc::clone),
        };
        let bytes = group.bytes();
        self.0.keep(name.clone(), group, bytes);
    }
}

/// What of some parts lies in a range of rows.
fn within<'a>(parts: &'a [(u64, u64)], rows: &Range<u64>) -> impl Iterator<Item = (u64, u64)> + 'a {
    let (start, end) = (rows.start, rows.end);
    let clipped = parts
        .iter()
        .map(move |(first, count)| ((*first).max(start), (first + count).min(end)));
    clipped
        .filter(|(from, to)| from < to)
        .map(|(from, to)| (from, to - from))
}

/// Parts that follow each other as one.
fn joined(parts: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(parts.len());
    for (first, count) in parts {
        match joined.last_mut() {
            Some((start, rows)) if *start + *rows == first => *rows += count,
            _ => joined.push((first, count)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_clipped_to_rows_and_joined_again() {
        let parts = [(0, 10), (20, 10), (40, 5)];
        let clipped: Vec<_> = within(&parts, &(5..42)).collect();
        assert_eq!(clipped, [(5, 5), (20, 10), (40, 2)]);
        assert_eq!(within(&parts, &(10..20)).next(), None);
        assert_eq!(joined(vec![(0, 5), (5, 5), (11, 1)]), [(0, 10), (11, 1)]);
    }
}
