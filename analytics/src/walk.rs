//! Events in index order: the files one after the other, then the tail, skipping what cannot pass.

use std::ops::Range;

use arrow_array::RecordBatch;
use event::schema;
use futures::StreamExt;
use lake::DataFile;

use crate::QueryError;
use crate::analytics::Shared;
use crate::files::Wanted;
use crate::parameters::{Filter, Wanted as Value};
use crate::pin::{Pin, TailRange};
use crate::stats::projected;
use crate::tail_rows::Located;

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

/// The same with only some columns of what the lake has; rows of the tail have all.
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
        for (first_row, rows) in stretches(shared, pin, file, skip..file.rows, filter).await? {
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
    let Some(mut first_index) = pin.tail_index() else {
        return Ok(());
    };
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
    let key = pin.declaration.key.as_ref();
    let wanted = filter.equal.iter().find(|(name, _)| Some(name) == key);
    match wanted {
        Some((key, Value::Text(value))) if !found.is_empty() => {
            let narrowed = shared
                .key_filters
                .narrow(&shared.files, (&path, file.bytes), key, value, found);
            narrowed.await
        }
        _ => Ok(found),
    }
}
