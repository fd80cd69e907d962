//! The step of a plan.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, stream};

use super::grouping::Grouping;

/// Rows with numbers in place of the texts of a column.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    pub(super) scan: Arc<dyn ExecutionPlan>,
    pub(super) filter: Option<RowFilter>,
}

/// Which rows count, and which of their columns, in the order in which they are asked for; all when that is absent.
#[derive(Clone, Debug)]
pub(super) struct RowFilter {
    pub(super) condition: Arc<dyn PhysicalExpr>,
    pub(super) columns: Option<Vec<usize>>,
}

/// States of accumulators for each text of a column that came as numbers.
#[derive(Debug)]
pub(super) struct TextGroupsExec {
    /// The number of the column.
    column: usize,
    functions: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    rows: Numbered,
    properties: Arc<PlanProperties>,
}

impl TextGroupsExec {
    /// The first step of `aggregate`, over `rows`.
    pub(super) fn new(aggregate: &AggregateExec, column: usize, rows: Numbered) -> Self {
        Self::over(
            column,
            aggregate.aggr_expr().to_vec(),
            aggregate.filter_expr().to_vec(),
            aggregate.schema(),
            rows,
        )
    }

    fn over(
        column: usize,
        functions: Vec<Arc<AggregateFunctionExpr>>,
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
        schema: SchemaRef,
        rows: Numbered,
    ) -> Self {
        let partitions = rows.scan.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            column,
            functions,
            filters,
            rows,
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for TextGroupsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions: Vec<_> = self.functions.iter().map(|function| function.name()).collect();
        let schema = self.schema();
        write!(
            f,
            "TextGroupsExec: gby=[{}], aggr=[{}]",
            schema.field(0).name(),
            functions.join(", ")
        )?;
        match &self.rows.filter {
            Some(filter) => write!(f, ", predicate={}", filter.condition),
            None => Ok(()),
        }
    }
}

impl RowFilter {
    fn pass(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let passes = self.condition.evaluate(rows)?.into_array(rows.num_rows())?;
        let rows = match &self.columns {
            Some(columns) => &rows.project(columns)?,
            None => rows,
        };
        Ok(filter_record_batch(rows, passes.as_boolean())?)
    }
}

impl ExecutionPlan for TextGroupsExec {
    fn name(&self) -> &'static str {
        "TextGroupsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows.scan]
    }

    fn apply_expressions(
        &self,
        see: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let arguments = self.functions.iter().flat_map(|function| function.expressions());
        let condition = self.rows.filter.iter().map(|filter| &filter.condition);
        let conditions = self.filters.iter().flatten().chain(condition).map(Arc::clone);
        for expression in arguments.chain(conditions) {
            if see(&expression)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(scan), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("groups have one input");
        };
        Ok(Arc::new(Self::over(
            self.column,
            self.functions.clone(),
            self.filters.clone(),
            self.schema(),
            Numbered {
                scan,
                filter: self.rows.filter.clone(),
            },
        )))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.rows.scan.execute(partition, Arc::clone(&context))?;
        let filter = self.rows.filter.clone();
        let rows = rows.map(move |rows| match &filter {
            Some(filter) => filter.pass(&rows?),
            None => rows,
        });
        let rows = Box::pin(rows);
        let schema = self.schema();
        let consumer = MemoryConsumer::new(format!("TextGroups[{partition}]")).with_can_spill(true);
        let room = consumer.register(context.memory_pool());
        let grouping = Grouping::new(
            self.column,
            &self.functions,
            self.filters.clone(),
            Arc::clone(&schema),
            room,
        )?;
        let batch_rows = context.session_config().batch_size();
        let state = (rows, grouping, VecDeque::new(), false);
        let states = stream::try_unfold(
            state,
            move |(mut rows, mut grouping, mut ready, mut ended)| async move {
                loop {
                    if let Some(states) = ready.pop_front() {
                        return Ok(Some((states, (rows, grouping, ready, ended))));
                    }
                    if ended {
                        return Ok(None);
                    }
                    match rows.next().await {
                        Some(rows) => grouping.add(&rows?)?,
                        None => ended = true,
                    }
                    if ended || !grouping.fits() {
                        ready = grouping.emit(batch_rows)?;
                    }
                }
            },
        );
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, states)))
    }
}
