//! Whether a range has more events than one answer may have, found out before the answer begins.
//!
//! Files that lie in the range are not read, of those at its edges only the columns that decide, and counting ends at
//! the bound. So an answer that would be cut is an error from the start, and not half a list.

use std::sync::Arc;

use arrow_schema::Schema;
use event::schema;
use futures::StreamExt;

use crate::QueryError;
use crate::analytics::Shared;
use crate::files::Wanted;
use crate::parameters::Filter;
use crate::pin::Pin;
use crate::stats::projected;
use crate::walk::stretches;

/// Whether more than `most` events pass.
pub(super) async fn more_than(
    shared: &Shared,
    pin: &Pin,
    filter: &Filter,
    most: u64,
) -> Result<bool, QueryError> {
    let time = pin.declaration.time_column();
    let columns = filter.columns(time);
    let narrow: Arc<Schema> = projected(pin, &columns);
    let mut count = 0;
    for file in pin.snapshot.files.iter() {
        if !filter.overlaps(file.time_min, file.time_max) {
            continue;
        }
        if filter.covers(file.time_min, file.time_max) {
            count += file.rows;
        } else {
            let path = pin.snapshot.directory.join(&file.path);
            for (first, rows) in stretches(shared, pin, file, 0..file.rows, filter).await? {
                let wanted = Wanted {
                    from: first,
                    take: usize::try_from(rows).ok(),
                    columns: &columns,
                };
                let mut found = shared.files.read(&path, file.bytes, wanted).await?;
                while let Some(rows) = found.next().await {
                    let rows = schema::conform(&rows?, &narrow)?;
                    count += passing(filter, &rows, time)?;
                    // Lets a cancelled question end here.
                    tokio::task::yield_now().await;
                }
            }
        }
        if count > most {
            return Ok(true);
        }
    }
    let mut tail = shared.pinner.tail.read_pin(pin);
    while let Some(rows) = tail.next().await {
        count += passing(filter, &rows?, time)?;
        if count > most {
            return Ok(true);
        }
    }
    Ok(false)
}

fn passing(filter: &Filter, rows: &arrow_array::RecordBatch, time: &str) -> Result<u64, QueryError> {
    let mask = filter.mask(rows, time)?;
    Ok(mask.map_or(rows.num_rows(), |mask| mask.true_count()) as u64)
}
