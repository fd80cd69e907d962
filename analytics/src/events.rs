//! The nth event, and events of a range with a cursor.
//!
//! A cursor is the next index and a fingerprint of the question. An index never changes, so a cursor holds
//! while events arrive, files roll, are compacted or go by retention: nothing is seen twice or skipped, save
//! what retention removed.

use std::hash::Hasher;

use event::{Position, schema};
use futures::StreamExt;
use serde_json::Value;

use crate::analytics::Shared;
use crate::files::Wanted;
use crate::json::write_text;
use crate::parameters::Filter;
use crate::sketch::StableHasher;
use crate::sql::as_of;
use crate::stats::projected;
use crate::views::EventShape;
use crate::walk::{in_order, in_order_of};
use crate::{QueryError, walk::Stretch};

/// Events of a page when the request says nothing.
pub(crate) const PAGE_EVENTS: usize = 100;
/// Most events of a page.
pub const PAGE_EVENTS_MAX: usize = 10_000;
/// Bytes at which a page ends early, with a cursor.
const PAGE_BYTES: usize = 16 << 20;

/// The event of that index as JSON, and the positions that the answer reflects.
pub(crate) async fn nth(
    shared: &Shared,
    stream: &str,
    index: u64,
    min_position: &[Position],
) -> Result<(Vec<u8>, Value), QueryError> {
    let shape = EventShape::general(shared.stream(stream)?);
    let (mut event, as_of) = nth_of(shared, stream, index, min_position, &shape).await?;
    event.push(b'\n');
    Ok((event, as_of))
}

/// The event of that index in some shape, and the positions that the answer reflects.
pub(crate) async fn nth_of(
    shared: &Shared,
    stream: &str,
    index: u64,
    min_position: &[Position],
    shape: &EventShape,
) -> Result<(Vec<u8>, Value), QueryError> {
    let pin = shared.pin(stream, min_position).await?;
    let oldest = pin.snapshot.removed;
    if index < oldest {
        return Err(QueryError::Removed { index, oldest });
    }
    let mut out = Vec::new();
    if let Some((file, row)) = pin.locate(index) {
        let path = pin.snapshot.directory.join(&file.path);
        let columns = shape.columns(&pin.declaration);
        let schema = projected(&pin, &columns);
        let wanted = Wanted {
            from: row,
            take: Some(1),
            columns: &columns,
        };
        let mut found = shared.files.read(&path, file.bytes, wanted).await?;
        while let Some(rows) = found.next().await {
            let rows = schema::conform(&rows?, &schema)?;
            shape
                .writer(&pin.declaration, &rows)?
                .write(&mut out, 0, Some(index))?;
        }
    } else {
        let see = |stretch: Stretch| {
            let writer = shape.writer(&pin.declaration, &stretch.rows)?;
            writer.write(&mut out, 0, Some(index))?;
            Ok(false)
        };
        in_order(shared, &pin, index, &Filter::default(), see).await?;
    }
    if out.is_empty() {
        return Err(QueryError::NotFound(format!(
            "`{stream}` has no event {index} yet"
        )));
    }
    Ok((out, as_of(&[&pin])))
}

/// A page of events that pass, from the cursor on.
pub(crate) async fn page(
    shared: &Shared,
    stream: &str,
    filter: &Filter,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Vec<u8>, QueryError> {
    let from = cursor.map_or(Ok(0), |cursor| read_cursor(cursor, stream, filter))?;
    let pin = shared.pin(stream, &filter.min_position).await?;
    let time = pin.declaration.time_column().to_owned();
    let shape = EventShape::general(&pin.declaration);
    let mut out = b"{\"events\":[".to_vec();
    let (mut count, mut next) = (0, None);
    let see = |stretch: Stretch| {
        let mask = filter.mask(&stretch.rows, &time)?;
        let writer = shape.writer(&pin.declaration, &stretch.rows)?;
        for row in 0..stretch.rows.num_rows() {
            if mask.as_ref().is_some_and(|mask| !mask.value(row)) {
                continue;
            }
            let index = stretch.first_index + row as u64;
            if count == limit || out.len() >= PAGE_BYTES {
                next = Some(index);
                return Ok(false);
            }
            if count > 0 {
                out.push(b',');
            }
            writer.write(&mut out, row, Some(index))?;
            count += 1;
        }
        Ok(true)
    };
    let mut columns = shape.columns(&pin.declaration);
    columns.extend(filter.columns(&time));
    in_order_of(shared, &pin, &columns, from, filter, see).await?;
    out.extend_from_slice(b"],\"next_cursor\":");
    match next {
        Some(index) => write_text(&mut out, &write_cursor(index, stream, filter)),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(format!(",\"as_of\":{}}}\n", as_of(&[&pin])).as_bytes());
    Ok(out)
}

fn fingerprint(stream: &str, filter: &Filter) -> u32 {
    let mut hasher = StableHasher::new();
    hasher.write(stream.as_bytes());
    let Filter {
        start,
        end,
        equal,
        any,
        min_position: _,
    } = filter;
    hasher.write(format!("{:?}", (start, end, equal)).as_bytes());
    if !any.is_empty() {
        hasher.write(format!("{any:?}").as_bytes());
    }
    (hasher.finish() >> 32) as u32
}

pub(crate) fn write_cursor(index: u64, stream: &str, filter: &Filter) -> String {
    format!("{:08x}{index:x}", fingerprint(stream, filter))
}

pub(crate) fn read_cursor(cursor: &str, stream: &str, filter: &Filter) -> Result<u64, QueryError> {
    let error = || QueryError::Invalid("`cursor` is none: take `next_cursor` of a page".to_owned());
    let (found, index) = cursor.split_at_checked(8).ok_or_else(error)?;
    let found = u32::from_str_radix(found, 16).map_err(|_| error())?;
    let index = u64::from_str_radix(index, 16).map_err(|_| error())?;
    if found != fingerprint(stream, filter) {
        let message =
            "`cursor` is not one that this question gave: stream, range and filters must be the same";
        return Err(QueryError::Invalid(message.to_owned()));
    }
    Ok(index)
}
