//! A deep OFFSET in the order of time: what is skipped is counted, and not sorted.
//!
//! `ORDER BY time LIMIT n OFFSET m` sorts everything to throw most of it away. Which moments lie around the wanted rows,
//! and how many rows lie before them, is known from bounds of pages and from the times of few of them (`time_cut`), so
//! the query is the same over the rows between those moments, with a smaller OFFSET. Rows of equal times are never
//! apart, so whatever else the query orders by decides among all of them.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{
    Expr, FetchType, Filter, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, TableScan, lit,
};

use crate::QueryError;
use crate::analytics::Shared;
use crate::pin::Pin;
use crate::provider::StreamTable;
use crate::time_cut::{Moments, Times};

/// Most files whose page bounds are looked at; with more of them the query stays as it is.
const FILES_MAX: usize = 512;
/// Smaller offsets are sorted away faster than pages are counted.
const SKIP_MIN: usize = if cfg!(test) { 1 } else { 10_000 };

/// Makes the OFFSET of a whole query smaller, where it is in the order of a stream's time.
pub(crate) async fn by_time(plan: LogicalPlan, shared: &Shared) -> Result<LogicalPlan, QueryError> {
    let LogicalPlan::Limit(limit) = &plan else {
        return Ok(plan);
    };
    let wanted = (limit.get_skip_type()?, limit.get_fetch_type()?);
    let (SkipType::Literal(skip), FetchType::Literal(Some(take))) = wanted else {
        return Ok(plan);
    };
    let Some(sorted) = sorted_by_time(&limit.input).filter(|_| skip >= SKIP_MIN) else {
        return Ok(plan);
    };
    if sorted.pin.snapshot.files.len() > FILES_MAX {
        return Ok(plan);
    }
    let Some(times) = Times::of(shared, &sorted.pin).await? else {
        return Ok(plan);
    };
    let (all, skipped) = (times.rows(), skip as u64);
    let end = skipped.saturating_add(take as u64);
    let places = match sorted.rising {
        true => skipped..end,
        false => all.saturating_sub(end)..all.saturating_sub(skipped),
    };
    let moments = times.around(places).await?;
    let outside = match (sorted.rising, moments.last.checked_add(1)) {
        (true, _) => times.earlier_than(moments.first).await?,
        (false, Some(after)) => all.saturating_sub(times.earlier_than(after).await?),
        (false, None) => 0,
    };
    let filtered = filter(sorted.scan, sorted.pin.declaration.time_column(), moments)?;
    let input = over(&limit.input, &filtered)?;
    let left = skipped.saturating_sub(outside);
    Ok(LogicalPlan::Limit(Limit {
        skip: Some(Box::new(lit(i64::try_from(left).unwrap_or(i64::MAX)))),
        fetch: limit.fetch.clone(),
        input: Arc::new(input),
    }))
}

/// All rows of a stream in the order of its time first.
struct Sorted<'a> {
    scan: &'a TableScan,
    pin: Arc<Pin>,
    rising: bool,
}

/// The scan below, when the plan gives all rows of a stream in the order of its time first.
fn sorted_by_time(plan: &LogicalPlan) -> Option<Sorted<'_>> {
    let mut sorted = None;
    let mut plan = plan;
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) if sorted.is_none() && sort.fetch.is_none() => {
                let by = sort.expr.first()?;
                is_time(&by.expr, &sort.input).then_some(())?;
                sorted = Some(by.asc);
                &sort.input
            }
            LogicalPlan::TableScan(scan) => {
                let whole = scan.filters.is_empty() && scan.fetch.is_none();
                return Some(Sorted {
                    scan,
                    pin: pin_of(scan).filter(|_| whole)?,
                    rising: sorted?,
                });
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

/// The rows of some moments.
fn filter(scan: &TableScan, time: &str, moments: Moments) -> Result<LogicalPlan, QueryError> {
    let rows = LogicalPlanBuilder::from(LogicalPlan::TableScan(scan.clone()));
    let moment = |at| lit(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into())));
    let time = Expr::Column(datafusion::common::Column::new(
        Some(scan.table_name.clone()),
        time,
    ));
    let from = time.clone().gt_eq(moment(moments.first));
    let condition = from.and(time.lt_eq(moment(moments.last)));
    Ok(LogicalPlan::Filter(Filter::try_new(
        condition,
        Arc::new(rows.build()?),
    )?))
}
