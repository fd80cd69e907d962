//! A deep OFFSET in the order of time: what is skipped is counted by the bounds of pages, and not read.
//!
//! `ORDER BY time LIMIT n OFFSET m` sorts everything to throw most of it away. Events come in about the order of their
//! times, so the pages of a stream, sorted by their lowest time, have clean cuts: every row before one is earlier
//! than every row behind it. How many rows lie before a cut is known without reading them, so the query is the same
//! over the rows between two cuts around what is wanted, with a smaller OFFSET. Where there is no cut, it stays as it
//! is.

use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use datafusion::common::ScalarValue;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{
    Expr, FetchType, Filter, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, TableScan, lit,
};
use futures::StreamExt;

use crate::QueryError;
use crate::analytics::Shared;
use crate::parameters::column;
use crate::pin::Pin;
use crate::provider::StreamTable;

/// Most files whose page bounds are looked at; with more of them the query stays as it is.
const FILES_MAX: usize = 512;
/// Smaller offsets are sorted away faster than pages are counted.
const SKIP_MIN: usize = if cfg!(test) { 1 } else { 10_000 };

/// Rows with the bounds of their times.
struct Page {
    rows: u64,
    min: i64,
    max: i64,
}

/// Makes the OFFSET of a whole query smaller, where it is in the order of a stream's time.
pub(crate) async fn by_time(plan: LogicalPlan, shared: &Shared) -> Result<LogicalPlan, QueryError> {
    let LogicalPlan::Limit(limit) = &plan else {
        return Ok(plan);
    };
    let wanted = (limit.get_skip_type()?, limit.get_fetch_type()?);
    let (SkipType::Literal(skip), FetchType::Literal(Some(take))) = wanted else {
        return Ok(plan);
    };
    let Some((scan, pin)) = sorted_by_time(&limit.input).filter(|_| skip >= SKIP_MIN) else {
        return Ok(plan);
    };
    let Some(pages) = pages(shared, &pin).await? else {
        return Ok(plan);
    };
    let Some(part) = Part::of(pages, skip as u64, (skip as u64).saturating_add(take as u64)) else {
        return Ok(plan);
    };
    let filtered = part.filter(scan, pin.declaration.time_column())?;
    let input = over(&limit.input, &filtered)?;
    let left = skip.saturating_sub(usize::try_from(part.before).unwrap_or(usize::MAX));
    Ok(LogicalPlan::Limit(Limit {
        skip: Some(Box::new(lit(i64::try_from(left).unwrap_or(i64::MAX)))),
        fetch: limit.fetch.clone(),
        input: Arc::new(input),
    }))
}

/// The scan below, when the plan gives all rows of a stream in the order of its time first.
fn sorted_by_time(plan: &LogicalPlan) -> Option<(&TableScan, Arc<Pin>)> {
    let mut sorted = false;
    let mut plan = plan;
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) if !sorted && sort.fetch.is_none() => {
                let by = sort.expr.first().filter(|by| by.asc)?;
                is_time(&by.expr, &sort.input).then_some(())?;
                sorted = true;
                &sort.input
            }
            LogicalPlan::TableScan(scan) if sorted => {
                let whole = scan.filters.is_empty() && scan.fetch.is_none();
                return Some((scan, pin_of(scan).filter(|_| whole)?));
            }
            _ => return None,
        };
    }
}

fn pin_of(scan: &TableScan) -> Option<Arc<Pin>> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<StreamTable>()?.whole()
}

/// Whether an expression over `plan` is the stream's time, under whatever name.
fn is_time(expression: &Expr, plan: &LogicalPlan) -> bool {
    let column = match expression {
        Expr::Column(column) => column,
        Expr::Alias(alias) => return is_time(&alias.expr, plan),
        _ => return false,
    };
    match plan {
        LogicalPlan::Projection(projection) => {
            let at = projection.schema.maybe_index_of_column(column);
            let found = at.and_then(|at| projection.expr.get(at));
            found.is_some_and(|expression| is_time(expression, &projection.input))
        }
        LogicalPlan::SubqueryAlias(alias) => alias.schema.maybe_index_of_column(column).is_some_and(|at| {
            let below = Expr::from(alias.input.schema().qualified_field(at));
            is_time(&below, &alias.input)
        }),
        LogicalPlan::TableScan(scan) => pin_of(scan).is_some_and(|pin| {
            let stream = &pin.declaration;
            let time = stream.time_column();
            column.name == time && !stream.field(time).is_some_and(|field| field.optional)
        }),
        _ => false,
    }
}

/// The same plan with other rows in place of its scan.
fn over(plan: &LogicalPlan, rows: &LogicalPlan) -> Result<LogicalPlan, QueryError> {
    if matches!(plan, LogicalPlan::TableScan(_)) {
        return Ok(rows.clone());
    }
    let inputs = plan.inputs().into_iter().map(|input| over(input, rows));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    Ok(plan.with_new_exprs(plan.expressions(), inputs)?)
}

/// The pages of all files and the records of the tail; `None` where the bounds of some are not known.
async fn pages(shared: &Shared, pin: &Pin) -> Result<Option<Vec<Page>>, QueryError> {
    if pin.snapshot.files.len() > FILES_MAX {
        return Ok(None);
    }
    let time = pin.declaration.time_column();
    let mut pages = Vec::new();
    for file in pin.snapshot.files.iter() {
        let path = pin.snapshot.directory.join(&file.path);
        for (rows, min, max) in shared.files.bounds(&path, file.bytes, time).await? {
            let (Some(min), Some(max)) = (min, max) else {
                return Ok(None);
            };
            pages.push(Page { rows, min, max });
        }
    }
    let mut tail = shared.pinner.tail.read_pin(pin);
    while let Some(rows) = tail.next().await {
        let rows = rows?;
        let times = column(&rows, time)?.as_primitive_opt::<TimestampMicrosecondType>();
        let Some(times) = times.filter(|times| times.null_count() == 0) else {
            return Ok(None);
        };
        let (min, max) = (times.values().iter().min(), times.values().iter().max());
        if let (Some(min), Some(max)) = (min, max) {
            let rows = times.len() as u64;
            pages.push(Page {
                rows,
                min: *min,
                max: *max,
            });
        }
    }
    Ok(Some(pages))
}

/// The rows between two cuts.
#[derive(Debug, PartialEq)]
struct Part {
    /// How many rows are earlier.
    before: u64,
    /// The first moment; the beginning when absent.
    from: Option<i64>,
    /// The moment after the last; the end when absent.
    to: Option<i64>,
}

impl Part {
    /// The smallest part that has the rows [skip, end) in the order of time; `None` when that is all rows.
    fn of(mut pages: Vec<Page>, skip: u64, end: u64) -> Option<Self> {
        pages.sort_unstable_by_key(|page| page.min);
        let mut part = Self {
            before: 0,
            from: None,
            to: None,
        };
        let (mut rows, mut latest) = (0, i64::MIN);
        for (at, page) in pages.iter().enumerate() {
            // Every row so far is earlier than every row of this page and of those after it.
            if at > 0 && latest < page.min {
                if rows <= skip {
                    (part.before, part.from) = (rows, Some(page.min));
                } else if rows >= end {
                    part.to = Some(page.min);
                    break;
                }
            }
            rows += page.rows;
            latest = latest.max(page.max);
        }
        (part.from.is_some() || part.to.is_some()).then_some(part)
    }

    fn filter(&self, scan: &TableScan, time: &str) -> Result<LogicalPlan, QueryError> {
        let rows = LogicalPlanBuilder::from(LogicalPlan::TableScan(scan.clone()));
        let moment = |at| lit(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into())));
        let time = Expr::Column(datafusion::common::Column::new(
            Some(scan.table_name.clone()),
            time,
        ));
        let from = self.from.map(|from| time.clone().gt_eq(moment(from)));
        let to = self.to.map(|to| time.clone().lt(moment(to)));
        let Some(condition) = from.into_iter().chain(to).reduce(Expr::and) else {
            return Ok(rows.build()?);
        };
        Ok(LogicalPlan::Filter(Filter::try_new(
            condition,
            Arc::new(rows.build()?),
        )?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(bounds: &[(u64, i64, i64)]) -> Vec<Page> {
        let page = |(rows, min, max): &(u64, i64, i64)| Page {
            rows: *rows,
            min: *min,
            max: *max,
        };
        bounds.iter().map(page).collect()
    }

    #[test]
    fn a_part_lies_between_cuts_that_no_page_straddles() {
        let ordered = [(10, 0, 9), (10, 10, 19), (10, 20, 29), (10, 30, 39)];
        let part = Part::of(pages(&ordered), 15, 18).expect("a part");
        assert_eq!((part.before, part.from, part.to), (10, Some(10), Some(20)));
        let crossed = [(10, 0, 9), (10, 10, 25), (10, 20, 29), (10, 30, 39)];
        let part = Part::of(pages(&crossed), 25, 28).expect("a part");
        assert_eq!((part.before, part.from, part.to), (10, Some(10), Some(30)));
        // A moment that both have is no cut.
        assert_eq!(Part::of(pages(&[(10, 0, 9), (10, 9, 19)]), 5, 6), None);
        let past = Part::of(pages(&ordered), 100, 110).expect("a part");
        assert_eq!((past.before, past.from, past.to), (30, Some(30), None));
    }
}
