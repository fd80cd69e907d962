//! The tail in a plan: one partition of plain data (stream, half-open offsets, columns), resolved from the
//! session where it runs, so that a plan can travel to another process.

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use event::StreamDeclaration;
use futures::StreamExt;

use crate::pin::TailRange;
use crate::tail::Tail;
use crate::tail_filter::TailFilter;
use crate::tail_scan::Wanted;

/// Reads the tail of one stream.
#[derive(Debug)]
pub(crate) struct TailExec {
    stream: Arc<StreamDeclaration>,
    ranges: Vec<TailRange>,
    first_index: Option<u64>,
    /// How many rows it has, where they were counted.
    rows: Option<usize>,
    schema: SchemaRef,
    /// Which rows may be left out.
    filter: Arc<TailFilter>,
    properties: Arc<PlanProperties>,
}

impl TailExec {
    /// The same where the number of rows is known, from which the engine may answer.
    pub(crate) fn with_rows(mut self, rows: Option<usize>) -> Self {
        self.rows = rows;
        self
    }

    /// `schema` names the columns that are wanted, `filter` says which rows nobody wants.
    pub(crate) fn new(
        stream: Arc<StreamDeclaration>,
        ranges: Vec<TailRange>,
        first_index: Option<u64>,
        schema: SchemaRef,
        filter: TailFilter,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            stream,
            ranges,
            first_index,
            rows: None,
            schema,
            filter: Arc::new(filter),
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for TailExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TailExec: stream={}", self.stream.name.as_str())?;
        for range in &self.ranges {
            write!(f, ", {}:[{}, {})", range.partition, range.from, range.to)?;
        }
        Ok(())
    }
}

impl ExecutionPlan for TailExec {
    fn name(&self) -> &'static str {
        "TailExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let statistics = Statistics::new_unknown(&self.schema);
        Ok(Arc::new(match self.rows {
            Some(rows) => statistics.with_num_rows(Precision::Exact(rows)),
            None => statistics,
        }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(tail) = context.session_config().get_extension::<Tail>() else {
            return internal_err!("the session has no tail");
        };
        if partition != 0 {
            return internal_err!("the tail has one partition, not {partition}");
        }
        let wanted = Wanted {
            columns: Arc::clone(&self.schema),
            filter: Arc::clone(&self.filter),
        };
        let batches = tail.scan(&self.stream, self.ranges.clone(), self.first_index, wanted);
        let rows = batches.map(|batch| batch.map_err(|error| DataFusionError::External(Box::new(error))));
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            rows,
        )))
    }
}
