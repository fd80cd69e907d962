//! OFFSET and LIMIT as a range of `_index`, where a query allows it: then what is outside is not read.
//!
//! It does when nothing between the stream and the OFFSET drops, adds or orders rows otherwise: only projections
//! and aliases, and either `ORDER BY _index` or, with a LIMIT, no order at all, where SQL leaves open which rows
//! are skipped. Then also what is left open has one answer: the events in index order. `ORDER BY _index DESC` with a
//! LIMIT, the newest events, only says where reading begins: how many rows the tail has is not known yet.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{Expr, FetchType, Limit, LogicalPlan, Projection, SkipType, TableScan};
use event::schema;

use crate::provider::StreamTable;

/// Rewrites every OFFSET and LIMIT of the plan that allows it.
pub(crate) fn by_index(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down_with_subqueries(|node| match &node {
        LogicalPlan::Limit(limit) => match rewrite(limit)? {
            Some(rewritten) => Ok(Transformed::yes(rewritten)),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(rewritten.data)
}

fn rewrite(limit: &Limit) -> Result<Option<LogicalPlan>> {
    let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
        (limit.get_skip_type()?, limit.get_fetch_type()?)
    else {
        return Ok(None);
    };
    if skip == 0 && fetch.is_none() {
        return Ok(None);
    }
    let range = Wanted {
        skip: skip as u64,
        take: fetch.map(|fetch| fetch as u64),
    };
    Ok(match range.below(&limit.input, Order::Open)? {
        None => None,
        // The end is not known, so the newest rows are still counted off.
        Some((input, Order::Falling)) => Some(LogicalPlan::Limit(Limit {
            input: Arc::new(input),
            ..limit.clone()
        })),
        Some((input, _)) => Some(LogicalPlan::Limit(Limit {
            skip: None,
            fetch: limit.fetch.clone(),
            input: Arc::new(input),
        })),
    })
}

/// In which order of the index the rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Open,
    Rising,
    Falling,
}

/// A plan over a part of its stream.
type Narrowed = Option<(LogicalPlan, Order)>;

struct Wanted {
    skip: u64,
    take: Option<u64>,
}

impl Wanted {
    /// The same plan over the part that is wanted; `None` when the query does not allow it.
    fn below(&self, plan: &LogicalPlan, order: Order) -> Result<Narrowed> {
        let (input, order) = match plan {
            LogicalPlan::Projection(projection) => (&projection.input, order),
            LogicalPlan::SubqueryAlias(alias) => (&alias.input, order),
            LogicalPlan::Sort(sort) if order == Order::Open && sort.fetch.is_none() => {
                let Some(by) = sort.expr.first().filter(|by| is_index(&by.expr, &sort.input)) else {
                    return Ok(None);
                };
                let order = if by.asc { Order::Rising } else { Order::Falling };
                (&sort.input, order)
            }
            LogicalPlan::TableScan(scan) => {
                let sliced = self.sliced(scan, order)?;
                return Ok(sliced.map(|scan| (scan, order)));
            }
            _ => return Ok(None),
        };
        let Some((input, order)) = self.below(input, order)? else {
            return Ok(None);
        };
        let narrowed = match plan {
            LogicalPlan::Projection(projection) => {
                let expressions = projection.expr.clone();
                LogicalPlan::Projection(Projection::try_new(expressions, Arc::new(input))?)
            }
            _ => plan.with_new_exprs(plan.expressions(), vec![input])?,
        };
        Ok(Some((narrowed, order)))
    }

    fn sliced(&self, scan: &TableScan, order: Order) -> Result<Option<LogicalPlan>> {
        if !scan.filters.is_empty() || scan.fetch.is_some() {
            return Ok(None);
        }
        let Ok(provider) = source_as_provider(&scan.source) else {
            return Ok(None);
        };
        let Some(table) = provider.downcast_ref::<StreamTable>() else {
            return Ok(None);
        };
        let sliced = match (order, self.take) {
            (Order::Falling, Some(take)) => table.newest(self.skip.saturating_add(take)),
            (Order::Open, Some(_)) if self.skip == 0 => None,
            (Order::Open, None) | (Order::Falling, None) => None,
            (Order::Open | Order::Rising, take) => table.after(self.skip, take),
        };
        let Some(sliced) = sliced else {
            return Ok(None);
        };
        let mut scan = scan.clone();
        scan.source = provider_as_source(Arc::new(sliced));
        Ok(Some(LogicalPlan::TableScan(scan)))
    }
}

/// Whether an expression over `plan` is the stream's own `_index`, whatever names are in between.
fn is_index(expression: &Expr, plan: &LogicalPlan) -> bool {
    let column = match expression {
        Expr::Column(column) => column,
        Expr::Alias(alias) => return is_index(&alias.expr, plan),
        _ => return false,
    };
    match plan {
        LogicalPlan::Projection(projection) => projection
            .schema
            .maybe_index_of_column(column)
            .and_then(|at| projection.expr.get(at))
            .is_some_and(|expression| is_index(expression, &projection.input)),
        LogicalPlan::SubqueryAlias(alias) => alias.schema.maybe_index_of_column(column).is_some_and(|at| {
            is_index(
                &Expr::from(alias.input.schema().qualified_field(at)),
                &alias.input,
            )
        }),
        LogicalPlan::TableScan(_) => column.name == schema::INDEX,
        _ => false,
    }
}
