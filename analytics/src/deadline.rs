//! Ends a query that nobody waits for, also where the engine would not look up from its work.
//!
//! A future ends only where it yields. DataFusion yields at the leaves of a plan, so a join that makes millions
//! of rows out of two batches holds its thread for as long as that takes, whoever has gone away meanwhile. Here
//! each join yields for every batch that it gives, and its filter, which runs for each few thousand pairs also
//! when none of them passes, first asks whether anybody still waits.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::unnest::UnnestExec;

use crate::QueryError;

/// Until when an answer is wanted.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Instant,
    limit_ms: u128,
    dropped: AtomicBool,
}

impl Deadline {
    /// Ends `limit` from now.
    pub(crate) fn after(limit: std::time::Duration) -> Arc<Self> {
        Arc::new(Self {
            at: Instant::now() + limit,
            limit_ms: limit.as_millis(),
            dropped: AtomicBool::new(false),
        })
    }

    /// The moment.
    pub(crate) fn at(&self) -> tokio::time::Instant {
        self.at.into()
    }

    /// What a query that reached it ends with.
    pub(crate) fn error(&self) -> QueryError {
        QueryError::Timeout(self.limit_ms)
    }

    /// Nobody waits any more.
    pub(crate) fn leave(&self) {
        self.dropped.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.dropped.load(Ordering::Relaxed) || Instant::now() >= self.at {
            return Err(DataFusionError::External(Box::new(self.error())));
        }
        Ok(())
    }
}

/// Makes the joins of a plan look up.
pub(crate) fn watched(
    plan: Arc<dyn ExecutionPlan>,
    deadline: &Arc<Deadline>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        let multiplies = node.is::<HashJoinExec>()
            || node.is::<NestedLoopJoinExec>()
            || node.is::<CrossJoinExec>()
            || node.is::<SortMergeJoinExec>()
            || node.is::<UnnestExec>();
        if !multiplies {
            return Ok(Transformed::no(node));
        }
        let node = filtered(node, deadline)?;
        Ok(Transformed::yes(
            Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>
        ))
    })?;
    Ok(plan.data)
}

fn filtered(node: Arc<dyn ExecutionPlan>, deadline: &Arc<Deadline>) -> Result<Arc<dyn ExecutionPlan>> {
    let watch = |filter: &JoinFilter| {
        let expression = Arc::new(Watched {
            inner: Arc::clone(filter.expression()),
            deadline: Arc::clone(deadline),
        });
        let (columns, schema) = (filter.column_indices().to_vec(), Arc::clone(filter.schema()));
        Some(JoinFilter::new(expression, columns, schema))
    };
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(watch(filter)).build_exec();
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        let builder = NestedLoopJoinExecBuilder::from(join);
        return Ok(Arc::new(builder.with_filter(watch(filter)).build()?));
    }
    Ok(node)
}

/// An expression that fails once nobody waits.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    deadline: Arc<Deadline>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.inner.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.deadline.check()?;
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.pop().unwrap_or_else(|| Arc::clone(&self.inner));
        let deadline = Arc::clone(&self.deadline);
        Ok(Arc::new(Self { inner, deadline }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
