//! Which moments lie around some rows in the order of time, and how many rows lie before them.
//!
//! Bounds of pages give moments that are surely early and late enough without reading a row: as many rows at the most
//! are earlier than a moment as the pages have that begin before it. How many there are is counted in the pages that
//! the moment lies in, whose times alone are read. Where too many pages overlap each other for the bounds to say much,
//! as after the events of a year that came in any order, the times between are counted in buckets of equal width, and
//! in those of the bucket that is left, until few rows are.

use std::ops::Range;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use futures::StreamExt;

use crate::QueryError;
use crate::analytics::Shared;
use crate::files::Wanted;
use crate::parameters::column;
use crate::pin::Pin;

/// Rows between two moments that are not worth counting again: sorting them is faster.
const ROWS_FEW: u64 = if cfg!(test) { 20 } else { 1 << 18 };
/// Buckets of a count.
const BUCKETS: usize = if cfg!(test) { 8 } else { 1 << 12 };
/// How often the buckets of a bucket are counted: equal times are never apart, however often.
const COUNTS_MAX: usize = 6;

/// The moments of some rows, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moments {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// All rows of a stream, with what is known of their times.
pub(crate) struct Times<'a> {
    shared: &'a Shared,
    pin: &'a Pin,
    /// Pages of the files.
    lake: Vec<Page>,
    /// Batches of the tail, whose cuts may be others when it is read again.
    tail: Vec<Page>,
}

/// Rows with the bounds of their times.
struct Page {
    /// The file's number and its first row there; of no meaning in the tail.
    file: usize,
    row: u64,
    rows: u64,
    min: i64,
    max: i64,
}

impl Page {
    fn overlaps(&self, moments: Moments) -> bool {
        self.min <= moments.last && self.max >= moments.first
    }
}

/// What a count found.
struct Counted {
    /// Rows before the first bucket.
    before: u64,
    buckets: Vec<u64>,
}

impl<'a> Times<'a> {
    /// Looks at the bounds of all pages and at the tail; `None` where a row has no time.
    pub(crate) async fn of(shared: &'a Shared, pin: &'a Pin) -> Result<Option<Self>, QueryError> {
        let time = pin.declaration.time_column();
        let (mut lake, mut tail) = (Vec::new(), Vec::new());
        for (number, file) in pin.snapshot.files.iter().enumerate() {
            let path = pin.snapshot.directory.join(&file.path);
            let mut row = 0;
            for (rows, min, max) in shared.files.bounds(&path, file.bytes, time).await? {
                lake.push(Page {
                    file: number,
                    row,
                    rows,
                    min: min.unwrap_or(i64::MIN),
                    max: max.unwrap_or(i64::MAX),
                });
                row += rows;
            }
        }
        let mut batches = shared.pinner.tail.read_pin(pin);
        while let Some(rows) = batches.next().await {
            let rows = rows?;
            let times = column(&rows, time)?.as_primitive_opt::<TimestampMicrosecondType>();
            let Some(times) = times.filter(|times| times.null_count() == 0) else {
                return Ok(None);
            };
            let (min, max) = (times.values().iter().min(), times.values().iter().max());
            if let (Some(min), Some(max)) = (min, max) {
                tail.push(Page {
                    file: 0,
                    row: 0,
                    rows: times.len() as u64,
                    min: *min,
                    max: *max,
                });
            }
        }
        Ok(Some(Self {
            shared,
            pin,
            lake,
            tail,
        }))
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> u64 {
        self.pages().map(|page| page.rows).sum()
    }

    fn pages(&self) -> impl Iterator<Item = &Page> {
        self.lake.iter().chain(&self.tail)
    }

    /// Moments that have at least the rows with these places in the order of time, and few others.
    pub(crate) async fn around(&self, places: Range<u64>) -> Result<Moments, QueryError> {
        let mut moments = self.by_bounds(&places);
        for _ in 0..COUNTS_MAX {
            let between: u64 = self
                .pages()
                .filter(|page| page.overlaps(moments))
                .map(|page| page.rows)
                .sum();
            if between <= ROWS_FEW || moments.first == moments.last {
                break;
            }
            let shift = shift(moments);
            let counted = self.count(moments, shift).await?;
            let (narrowed, rows) = narrowed(moments, shift, &counted, &places);
            if narrowed == moments || rows <= ROWS_FEW {
                return Ok(narrowed);
            }
            moments = narrowed;
        }
        Ok(moments)
    }

    /// The same as far as bounds of pages tell.
    fn by_bounds(&self, places: &Range<u64>) -> Moments {
        let all = Moments {
            first: self.pages().map(|page| page.min).min().unwrap_or(i64::MIN),
            last: self.pages().map(|page| page.max).max().unwrap_or(i64::MAX),
        };
        let mut mins: Vec<_> = self.pages().map(|page| (page.min, page.rows)).collect();
        mins.sort_unstable();
        // Of no page that begins later is any row earlier.
        let (mut first, mut begun) = (all.first, 0);
        for (min, rows) in mins {
            if begun > places.start {
                break;
            }
            (first, begun) = (min, begun + rows);
        }
        let mut maxes: Vec<_> = self.pages().map(|page| (page.max, page.rows)).collect();
        maxes.sort_unstable();
        let mut ended = 0;
        let last = maxes.into_iter().find_map(|(max, rows)| {
            ended += rows;
            (ended >= places.end).then_some(max)
        });
        Moments {
            first,
            last: last.unwrap_or(all.last).max(first),
        }
    }

    /// How many rows are earlier than a moment.
    pub(crate) async fn earlier_than(&self, moment: i64) -> Result<u64, QueryError> {
        let Some(before) = moment.checked_sub(1) else {
            return Ok(0);
        };
        let at = Moments {
            first: moment,
            last: moment,
        };
        let counted = self.count_in(at, 0, |page| page.min <= before && page.max > before);
        Ok(counted.await?.before)
    }

    async fn count(&self, moments: Moments, shift: u32) -> Result<Counted, QueryError> {
        self.count_in(moments, shift, |page| page.overlaps(moments)).await
    }

    /// Counts the rows before some moments, and those in each bucket of 2^`shift` microseconds; reads the times of the
    /// pages that are `unclear`, and takes others as a whole: before, or of no interest.
    async fn count_in(
        &self,
        moments: Moments,
        shift: u32,
        unclear: impl Fn(&Page) -> bool,
    ) -> Result<Counted, QueryError> {
        let mut counted = Counted {
            before: 0,
            buckets: vec![0; BUCKETS],
        };
        let mut see = |times: &[i64]| {
            for time in times {
                if *time < moments.first {
                    counted.before += 1;
                } else if *time <= moments.last {
                    let bucket = time.wrapping_sub(moments.first).cast_unsigned() >> shift;
                    if let Some(bucket) = counted.buckets.get_mut(bucket as usize) {
                        *bucket += 1;
                    }
                }
            }
        };
        let mut whole = 0;
        let mut stretch: Option<(usize, Range<u64>)> = None;
        for page in &self.lake {
            if !unclear(page) {
                whole += if page.max < moments.first { page.rows } else { 0 };
                continue;
            }
            let end = page.row + page.rows;
            match &mut stretch {
                Some((file, rows)) if *file == page.file && rows.end == page.row => rows.end = end,
                other => {
                    if let Some(stretch) = other.replace((page.file, page.row..end)) {
                        self.read(stretch, &mut see).await?;
                    }
                }
            }
        }
        if let Some(stretch) = stretch {
            self.read(stretch, &mut see).await?;
        }
        if self.tail.iter().any(unclear) {
            let mut batches = self.shared.pinner.tail.read_pin(self.pin);
            while let Some(rows) = batches.next().await {
                self.see(&rows?, &mut see)?;
            }
        } else {
            let before = self.tail.iter().filter(|page| page.max < moments.first);
            whole += before.map(|page| page.rows).sum::<u64>();
        }
        counted.before += whole;
        Ok(counted)
    }

    /// Shows the times of some rows of a file.
    async fn read(
        &self,
        (file, rows): (usize, Range<u64>),
        see: &mut impl FnMut(&[i64]),
    ) -> Result<(), QueryError> {
        let Some(file) = self.pin.snapshot.files.get(file) else {
            return Ok(());
        };
        let path = self.pin.snapshot.directory.join(&file.path);
        let columns = [self.pin.declaration.time_column().to_owned()];
        let wanted = Wanted {
            from: rows.start,
            take: usize::try_from(rows.end - rows.start).ok(),
            columns: &columns,
        };
        let mut found = self.shared.files.read(&path, file.bytes, wanted).await?;
        while let Some(rows) = found.next().await {
            self.see(&rows?, see)?;
            // Lets a query end here that nobody waits for.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn see(&self, rows: &arrow_array::RecordBatch, see: &mut impl FnMut(&[i64])) -> Result<(), QueryError> {
        let times = column(rows, self.pin.declaration.time_column())?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.filter(|times| times.null_count() == 0);
        let times = times.ok_or_else(|| QueryError::Storage("a row has no time".to_owned()))?;
        see(times.values());
        Ok(())
    }
}

/// The smallest width of buckets, as a power of two, with which they reach from the first moment to the last.
fn shift(moments: Moments) -> u32 {
    let width = moments.last.wrapping_sub(moments.first).cast_unsigned();
    (0..u64::BITS)
        .find(|shift| (width >> shift) < BUCKETS as u64)
        .unwrap_or(u64::BITS - 1)
}

/// The buckets that have rows at some places, and how many rows they have.
fn narrowed(moments: Moments, shift: u32, counted: &Counted, places: &Range<u64>) -> (Moments, u64) {
    let (mut first, mut last) = (moments.first, moments.last);
    let (mut before, mut skipped) = (counted.before, counted.before);
    for (number, rows) in counted.buckets.iter().enumerate() {
        let begin = moments
            .first
            .wrapping_add(((number as u64) << shift).cast_signed());
        if number > 0 && (begin < moments.first || begin > moments.last) {
            break;
        }
        if before <= places.start {
            (first, skipped) = (begin, before);
        }
        before += rows;
        if before >= places.end {
            let end = begin.wrapping_add(((1u64 << shift) - 1).cast_signed());
            if end >= begin {
                last = end.min(moments.last);
            }
            break;
        }
    }
    let last = last.max(first);
    (Moments { first, last }, before - skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_reach_over_all_moments_and_narrow_to_the_places() {
        for (first, last) in [
            (0, 0),
            (0, 7),
            (0, 8),
            (i64::MIN, i64::MAX),
            (-5, i64::MAX),
            (3, 1_000),
        ] {
            let moments = Moments { first, last };
            let width = last.wrapping_sub(first).cast_unsigned();
            assert!((width >> shift(moments)) < BUCKETS as u64, "{moments:?}");
        }
        let moments = Moments {
            first: 100,
            last: 131,
        };
        let counted = Counted {
            before: 50,
            buckets: vec![10, 0, 10, 10, 0, 0, 0, 10],
        };
        let of = |places: Range<u64>| narrowed(moments, 2, &counted, &places);
        assert_eq!(
            of(55..58),
            (
                Moments {
                    first: 100,
                    last: 103
                },
                10
            )
        );
        assert_eq!(
            of(62..65),
            (
                Moments {
                    first: 108,
                    last: 111
                },
                10
            )
        );
        assert_eq!(
            of(65..75),
            (
                Moments {
                    first: 108,
                    last: 115
                },
                20
            )
        );
        // Behind what there is: the last bucket's end.
        assert_eq!(
            of(85..95),
            (
                Moments {
                    first: 128,
                    last: 131
                },
                10
            )
        );
    }
}
