//! Events in index order: the files one after the other, then the tail, skipping what cannot pass.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use event::schema;
use futures::StreamExt;
use lake::{DataFile, FileLocation};

use crate::QueryError;
use crate::analytics::Shared;
use crate::files::Wanted;
use crate::index_range::IndexRange;
use crate::parameters::{Filter, Wanted as Value, column};
use crate::pin::{Pin, TailRange};
use crate::stats::projected;
use crate::tail_filter::TailFilter;
use crate::tail_rows::Located;
use crate::tail_scan::Wanted as WantedOfTail;

/// Most rows whose key is looked at before their other columns: a stretch of more is read as it comes, so that the
/// first events of many do not wait for the last.
const KEY_ROWS_MAX: u64 = 1 << 17;
/// One row alone costs as much as so many in a row: its page is inflated for it.
const ROW_COST: u64 = if cfg!(test) { 2 } else { 1 << 10 };

/// Rows that follow each other, with the index of the first.
pub(crate) struct Stretch {
    pub(crate) first_index: u64,
    pub(crate) rows: RecordBatch,
}

/// Calls `see` with the rows from `from` on, in order, until it says stop; without those that cannot pass `filter`
/// by their time, as far as files and pages tell. Events of a tail whose index is not final yet are left out.
pub(crate) async fn in_order(
    shared: &Shared,
    pin: &Pin,
    from: u64,
    filter: &Filter,
    see: impl FnMut(Stretch) -> Result<bool, QueryError>,
) -> Result<(), QueryError> {
    in_order_of(shared, pin, &pin.columns(), from, filter, see).await
}

/// The same with only some columns of what the lake has, those of the filter among them; rows of the tail may have
/// more.
pub(crate) async fn in_order_of(
    shared: &Shared,
    pin: &Pin,
    columns: &[String],
    from: u64,
    filter: &Filter,
    mut see: impl FnMut(Stretch) -> Result<bool, QueryError>,
) -> Result<(), QueryError> {
    let lake = projected(pin, columns);
    for file in pin.snapshot.files.iter() {
        if file.first_index + file.rows <= from || !filter.overlaps(file.time_min, file.time_max) {
            continue;
        }
        let skip = from.saturating_sub(file.first_index);
        let path = pin.snapshot.directory.join(&file.path);
        for stretch in stretches(shared, pin, file, skip..file.rows, filter).await? {
            for (first_row, rows) in parts(shared, pin, file, stretch, filter).await? {
                let mut first_index = file.first_index + first_row;
                let wanted = Wanted {
                    from: first_row,
                    take: usize::try_from(rows).ok(),
                    columns,
                };
                let mut found = shared.files.read(&path, file.bytes, wanted).await?;
                while let Some(rows) = found.next().await {
                    let rows = schema::conform(&rows?, &lake)?;
                    let count = rows.num_rows() as u64;
                    if !see(Stretch { first_index, rows })? {
                        return Ok(());
                    }
                    first_index += count;
                    // Lets a cancelled question end here.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    let Some(mut first_index) = pin.tail_index() else {
        return Ok(());
    };
    if !filter.is_empty() {
        return tail_in_order(shared, pin, columns, from, filter, see).await;
    }
    let mut ranges = pin.tail.clone();
    if let [range] = ranges[..]
        && from > first_index
    {
        match shared
            .pinner
            .rows
            .locate(&pin.declaration, range, from - first_index)
            .await?
        {
            Located::PastEnd => return Ok(()),
            Located::Uncounted => {}
            Located::Record(offset, row) => {
                first_index = from - row;
                // The record alone first: whoever wants one event reads no more.
                let (one, rest) = (offset, offset.next());
                ranges = vec![
                    TailRange {
                        from: one,
                        to: rest,
                        ..range
                    },
                    TailRange { from: rest, ..range },
                ];
            }
        }
    }
    let mut batches = shared.pinner.tail.read_ranges(&pin.declaration, &ranges);
    while let Some(rows) = batches.next().await {
        let rows = rows?;
        let count = rows.num_rows() as u64;
        let skip = from.saturating_sub(first_index).min(count);
        let stretch = Stretch {
            first_index: first_index + skip,
            rows: rows.slice(skip as usize, (count - skip) as usize),
        };
        if skip < count && !see(stretch)? {
            return Ok(());
        }
        first_index += count;
    }
    Ok(())
}

/// The same of the tail alone, whose index is final: without what the filter says that nobody wants.
async fn tail_in_order(
    shared: &Shared,
    pin: &Pin,
    columns: &[String],
    from: u64,
    filter: &Filter,
    mut see: impl FnMut(Stretch) -> Result<bool, QueryError>,
) -> Result<(), QueryError> {
    let part = IndexRange { from, to: u64::MAX };
    let mut fields = projected(pin, columns).fields().to_vec();
    fields.push(Arc::new(Field::new(schema::INDEX, DataType::Int64, true)));
    let wanted = WantedOfTail {
        columns: Arc::new(Schema::new(fields)),
        filter: Arc::new(TailFilter::of(filter, &shared.base, part, &pin.declaration)?),
    };
    let (stream, ranges) = (&pin.declaration, pin.tail.clone());
    let mut batches = shared.pinner.tail.scan(stream, ranges, pin.tail_index(), wanted);
    while let Some(rows) = batches.next().await {
        let rows = rows?;
        let indexes = column(&rows, schema::INDEX)?.as_primitive_opt::<Int64Type>();
        let indexes = indexes.ok_or_else(|| QueryError::Storage("an index is no number".to_owned()))?;
        let mut first = 0;
        for stretch in indexes.values().chunk_by(|one, next| one + 1 == *next) {
            let (begin, count) = (stretch[0].cast_unsigned(), stretch.len());
            let skip = usize::try_from(from.saturating_sub(begin)).map_or(count, |skip| skip.min(count));
            let rows = rows.slice(first + skip, count - skip);
            first += count;
            let first_index = begin + skip as u64;
            if skip < count && !see(Stretch { first_index, rows })? {
                return Ok(());
            }
        }
        // Lets a cancelled question end here.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// What of a part of a file can hold a row that passes by its time and its key: (first row, rows).
pub(crate) async fn stretches(
    shared: &Shared,
    pin: &Pin,
    file: &DataFile,
    part: Range<u64>,
    filter: &Filter,
) -> Result<Vec<(u64, u64)>, QueryError> {
    let mut found = vec![(part.start, part.end.saturating_sub(part.start))];
    let path = pin.snapshot.directory.join(&file.path);
    if filter.start.is_some() || filter.end.is_some() {
        let time = pin.declaration.time_column();
        let passes = |min, max| filter.overlaps(min, max);
        let by_time = shared
            .files
            .stretches(&path, file.bytes, part.start, time, passes);
        let before_end = |(first, rows): (u64, u64)| (first, rows.min(part.end.saturating_sub(first)));
        found = by_time.await?.into_iter().map(before_end).collect();
        found.retain(|(_, rows)| *rows > 0);
    }
    match key_of(pin, filter) {
        Some((key, value)) if !found.is_empty() => {
            let narrowed = shared
                .key_filters
                .narrow(&shared.files, (&path, file.bytes), key, value, found);
            narrowed.await
        }
        _ => Ok(found),
    }
}

/// The key's column and the value that it must have.
fn key_of<'a>(pin: &Pin, filter: &'a Filter) -> Option<(&'a str, &'a str)> {
    let key = pin.declaration.key.as_ref();
    match filter.equal.iter().find(|(name, _)| Some(name) == key)? {
        (key, Value::Text(value)) => Some((key, value)),
        _ => None,
    }
}

/// What of some rows (first row, rows) is to be read with all columns: where they are a key's few, those alone.
async fn parts(
    shared: &Shared,
    pin: &Pin,
    file: &DataFile,
    (first, all): (u64, u64),
    filter: &Filter,
) -> Result<Vec<(u64, u64)>, QueryError> {
    let Some((key, value)) = key_of(pin, filter).filter(|_| all <= KEY_ROWS_MAX) else {
        return Ok(vec![(first, all)]);
    };
    let path = pin.snapshot.directory.join(&file.path);
    // Where reading is asking over a network, asking once is what counts.
    if !matches!(path, FileLocation::Local(_)) {
        return Ok(vec![(first, all)]);
    }
    let columns = [key.to_owned()];
    let wanted = Wanted {
        from: first,
        take: usize::try_from(all).ok(),
        columns: &columns,
    };
    let mut found = shared.files.read(&path, file.bytes, wanted).await?;
    let (mut at, mut of_key) = (first, Vec::new());
    while let Some(rows) = found.next().await {
        let rows = rows?;
        let texts = rows
            .column_by_name(key)
            .and_then(|texts| texts.as_string_opt::<i32>());
        // An older file need not have the column.
        let Some(texts) = texts else {
            return Ok(vec![(first, all)]);
        };
        let equal = texts.iter().enumerate().filter(|(_, text)| *text == Some(value));
        of_key.extend(equal.map(|(row, _)| (at + row as u64, 1)));
        at += texts.len() as u64;
    }
    let few = of_key.len() as u64 * ROW_COST <= all;
    Ok(if few { of_key } else { vec![(first, all)] })
}
