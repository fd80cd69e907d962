//! Refuses plans that would grow without measure when the engine rewrites them.
//!
//! A filter that is pushed through a projection takes the projection's expressions with it: forty subqueries of
//! `x + x` are a tree of 2^40 nodes then. And a text of the statement is written out for every row of a batch.
//! Both are computed here from the plan as it was written, before anything is rewritten.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;

use crate::QueryError;

/// Most nodes of an expression with everything put in that it is made of.
const NODES_MAX: u64 = 50_000;
/// Most bytes of texts at one place of a plan, save in IN lists. Times a batch of 8,192 rows: 256 MiB.
const TEXT_BYTES_MAX: u64 = 32 << 10;
/// Most columns at one place of a plan.
const COLUMNS_MAX: usize = 2_000;

/// What one column is made of.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    nodes: u64,
    text_bytes: u64,
}

const COLUMN: Size = Size {
    nodes: 1,
    text_bytes: 0,
};

/// Looks at a plan.
pub(crate) fn check(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut refused = None;
    sizes(plan, &mut refused)?;
    match refused {
        Some(message) => Err(QueryError::Invalid(message)),
        None => Ok(()),
    }
}

/// The sizes of the plan's columns.
fn sizes(plan: &LogicalPlan, refused: &mut Option<String>) -> Result<Vec<Size>> {
    let mut inputs = Vec::new();
    for input in plan.inputs() {
        inputs.push((input.schema().as_ref(), sizes(input, refused)?));
        if refused.is_some() {
            return Ok(Vec::new());
        }
    }
    let mut own = Vec::new();
    for expression in plan.expressions() {
        let size = of(&expression, &inputs, refused)?;
        if size.nodes > NODES_MAX {
            *refused = Some(format!(
                "an expression of {} terms, with the subqueries that it is made of, exceeds the limit of {NODES_MAX}",
                size.nodes
            ));
        }
        own.push(size);
    }
    let text_bytes = own
        .iter()
        .fold(0u64, |sum, size| sum.saturating_add(size.text_bytes));
    if text_bytes > TEXT_BYTES_MAX && !matches!(plan, LogicalPlan::Values(_)) {
        *refused = Some(format!(
            "texts of {text_bytes} bytes at one place exceed the limit of {TEXT_BYTES_MAX}"
        ));
    }
    let columns = plan.schema().fields().len();
    if columns > COLUMNS_MAX {
        *refused = Some(format!("{columns} columns exceed the limit of {COLUMNS_MAX}"));
    }
    let found = match plan {
        LogicalPlan::Projection(_) => own,
        LogicalPlan::Values(_) | LogicalPlan::TableScan(_) => vec![COLUMN; columns],
        LogicalPlan::Aggregate(aggregate) => {
            let mut groups = own;
            groups.truncate(aggregate.group_expr.len());
            groups.resize(columns, COLUMN);
            groups
        }
        LogicalPlan::Union(_) => (0..columns)
            .map(|at| largest(inputs.iter().filter_map(|(_, sizes)| sizes.get(at))))
            .collect(),
        _ => {
            let mut all: Vec<Size> = inputs.iter().flat_map(|(_, sizes)| sizes.clone()).collect();
            // What a node adds, like the answer of a window, is a column; what it leaves out may be any.
            if columns < all.len() {
                all = vec![largest(all.iter()); columns];
            }
            all.resize(columns, COLUMN);
            all
        }
    };
    Ok(found)
}

fn largest<'a>(sizes: impl Iterator<Item = &'a Size>) -> Size {
    sizes.fold(Size::default(), |largest, size| Size {
        nodes: largest.nodes.max(size.nodes),
        text_bytes: largest.text_bytes.max(size.text_bytes),
    })
}

fn of(expression: &Expr, inputs: &[(&DFSchema, Vec<Size>)], refused: &mut Option<String>) -> Result<Size> {
    let mut size = Size::default();
    expression.apply(|node| {
        let mut add = |nodes: u64, text_bytes: u64| {
            size.nodes = size.nodes.saturating_add(nodes);
            size.text_bytes = size.text_bytes.saturating_add(text_bytes);
        };
        match node {
            Expr::Column(column) => {
                let found = inputs.iter().find_map(|(schema, sizes)| {
                    let at = schema.maybe_index_of_column(column)?;
                    sizes.get(at)
                });
                let found = found.copied().unwrap_or(COLUMN);
                add(found.nodes, found.text_bytes);
            }
            Expr::Literal(value, _) => add(1, text_bytes(value)),
            Expr::ScalarSubquery(subquery) => {
                sizes(&subquery.subquery, refused)?;
                add(1, 0);
            }
            Expr::Exists(exists) => {
                sizes(&exists.subquery.subquery, refused)?;
                add(1, 0);
            }
            Expr::InSubquery(subquery) => {
                sizes(&subquery.subquery.subquery, refused)?;
                add(1, 0);
            }
            // What is compared with a list becomes true or false.
            Expr::InList(list) => {
                for part in list.list.iter().chain([list.expr.as_ref()]) {
                    let part = of(part, inputs, refused)?;
                    size.nodes = size.nodes.saturating_add(part.nodes);
                }
                return Ok(TreeNodeRecursion::Jump);
            }
            _ => add(1, 0),
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(size)
}

fn text_bytes(value: &ScalarValue) -> u64 {
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => text.len() as u64,
        ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes)) => bytes.len() as u64,
        _ => 0,
    }
}
