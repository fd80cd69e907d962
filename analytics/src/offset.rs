//! OFFSET as a range of `_index`, where a query allows it: then skipped rows are not read.
//!
//! It does when nothing between the stream and the OFFSET drops, adds or orders rows otherwise: only projections
//! and aliases, and either `ORDER BY _index` or, with a LIMIT, no order at all, where SQL leaves open which rows
//! are skipped. Then also what is left open has one answer: the events in index order.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{Expr, FetchType, Limit, LogicalPlan, Projection, SkipType, TableScan};
use event::schema;

use crate::provider::StreamTable;

/// Rewrites every OFFSET of the plan that allows it.
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
    if skip == 0 {
        return Ok(None);
    }
    let range = Skipped {
        skip: skip as u64,
        take: fetch.map(|fetch| fetch as u64),
    };
    let Some(input) = range.below(&limit.input, false)? else {
        return Ok(None);
    };
    Ok(Some(LogicalPlan::Limit(Limit {
        skip: None,
        fetch: limit.fetch.clone(),
        input: Arc::new(input),
    })))
}

struct Skipped {
    skip: u64,
    take: Option<u64>,
}

impl Skipped {
    /// The same plan over the rest of the stream; `None` when the query does not allow it.
    fn below(&self, plan: &LogicalPlan, ordered: bool) -> Result<Option<LogicalPlan>> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.below(&projection.input, ordered)?;
                input
                    .map(|input| Projection::try_new(projection.expr.clone(), Arc::new(input)))
                    .transpose()
                    .map(|projection| projection.map(LogicalPlan::Projection))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.below(&alias.input, ordered)?;
                input
                    .map(|input| plan.with_new_exprs(Vec::new(), vec![input]))
                    .transpose()
            }
            LogicalPlan::Sort(sort) if !ordered && sort.fetch.is_none() => {
                let by_index = sort
                    .expr
                    .first()
                    .is_some_and(|by| by.asc && is_index(&by.expr, &sort.input));
                if !by_index {
                    return Ok(None);
                }
                let input = self.below(&sort.input, true)?;
                input
                    .map(|input| plan.with_new_exprs(plan.expressions(), vec![input]))
                    .transpose()
            }
            LogicalPlan::TableScan(scan) if ordered || self.take.is_some() => self.sliced(scan),
            _ => Ok(None),
        }
    }

    fn sliced(&self, scan: &TableScan) -> Result<Option<LogicalPlan>> {
        if !scan.filters.is_empty() || scan.fetch.is_some() {
            return Ok(None);
        }
        let Ok(provider) = source_as_provider(&scan.source) else {
            return Ok(None);
        };
        let Some(table) = provider.downcast_ref::<StreamTable>() else {
            return Ok(None);
        };
        let Some(sliced) = table.after(self.skip, self.take) else {
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
