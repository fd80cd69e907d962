//! Groups by one text column, where texts are numbers of dictionaries.
//!
//! `GROUP BY user_id` looks each row's text up in a table of groups, twenty million times where there are a hundred
//! thousand users. The lake's files have a dictionary of such a column in each row group, so here the scan gives the
//! numbers, each text of a dictionary is looked up when its first row comes, and the others find their group by number.
//! Only the first of the engine's two steps is another one: what comes out of a file's rows are the same states of the
//! same accumulators, and rows of the tail take the engine's way.
//!
//! It is left to the engine wherever nothing is known to be gained, or a column is looked at in another way beside: no
//! dictionaries, conditions or arguments on the column itself, several columns, an order.

mod exec;
mod grouping;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode, Partitioning};
use lake::FileLocation;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use crate::files::Files;
use exec::{Numbered, RowFilter, TextGroupsExec};

/// Has groups by one text column found by number, where the scan can give numbers.
pub(crate) struct TextGroups(pub(crate) Arc<Files>);

impl fmt::Debug for TextGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextGroups").finish_non_exhaustive()
    }
}

impl PhysicalOptimizerRule for TextGroups {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(|node| by_number(node, &self.0))?.data)
    }

    fn name(&self) -> &'static str {
        "text_groups"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn by_number(node: Arc<dyn ExecutionPlan>, files: &Files) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let grouping = node.downcast_ref::<AggregateExec>();
    let Some((aggregate, column)) = grouping.and_then(|by| Some((by, grouped_text(by)?))) else {
        return Ok(Transformed::no(node));
    };
    let mut any = false;
    let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    for part in parts(aggregate.input())? {
        inputs.push(match numbered(&part, column, files)? {
            Some(rows) => {
                any = true;
                Arc::new(TextGroupsExec::new(aggregate, column, rows))
            }
            None => with_input(&node, part)?,
        });
    }
    Ok(if any {
        Transformed::yes(UnionExec::try_new(inputs)?)
    } else {
        Transformed::no(node)
    })
}

/// The number of the column by whose texts alone rows are grouped, in the first of two steps.
fn grouped_text(aggregate: &AggregateExec) -> Option<usize> {
    let by = aggregate.group_expr();
    let [(by, _)] = by.expr() else { return None };
    let column = by.downcast_ref::<Column>()?.index();
    let is_plain = *aggregate.mode() == AggregateMode::Partial
        && !aggregate.group_expr().has_grouping_set()
        && aggregate.limit_options().is_none()
        && *aggregate.input_order_mode() == InputOrderMode::Linear
        && *aggregate.input().schema().field(column).data_type() == DataType::Utf8;
    let known = aggregate.aggr_expr().iter().all(|function| {
        let mut arguments = function.expressions().into_iter();
        function.groups_accumulator_supported()
            && function.order_bys().is_empty()
            && arguments.all(|argument| !reads(&argument, column))
    });
    let mut filters = aggregate.filter_expr().iter().flatten();
    (is_plain && known && filters.all(|filter| !reads(filter, column))).then_some(column)
}

fn reads(expression: &Arc<dyn PhysicalExpr>, column: usize) -> bool {
    collect_columns(expression)
        .iter()
        .any(|read| read.index() == column)
}

/// Plans that together give the rows of one.
fn parts(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
    if plan.is::<UnionExec>() {
        let parts = plan.children().into_iter().map(parts);
        return Ok(parts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect());
    }
    if let Some(repartition) = plan.downcast_ref::<RepartitionExec>()
        && matches!(repartition.partitioning(), Partitioning::RoundRobinBatch(_))
    {
        return parts(repartition.input());
    }
    let Some(filter) = plan
        .downcast_ref::<FilterExec>()
        .filter(|filter| filter.fetch().is_none())
    else {
        return Ok(vec![Arc::clone(plan)]);
    };
    let parts = parts(filter.input())?;
    parts.into_iter().map(|part| with_input(plan, part)).collect()
}

/// The same step over another plan.
fn with_input(
    plan: &Arc<dyn ExecutionPlan>,
    input: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let anew = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(plan).replace_children(vec![input], anew)
}

/// The rows of a plan with numbers in place of the texts of a column, where a scan of files can give them.
fn numbered(plan: &Arc<dyn ExecutionPlan>, column: usize, files: &Files) -> Result<Option<Numbered>> {
    let (scan, column, filter) = match plan.downcast_ref::<FilterExec>() {
        // The engine's own step would gather the few rows that pass of many batches, each with a whole dictionary.
        Some(filter) => {
            let columns = filter.projection().as_ref();
            let below = columns.map_or(column, |columns| columns[column]);
            let twice = columns.is_some_and(|all| all.iter().filter(|other| **other == below).count() > 1);
            if twice || reads(filter.predicate(), below) {
                return Ok(None);
            }
            let columns = columns.map(|columns| columns.to_vec());
            let filter = RowFilter {
                condition: Arc::clone(filter.predicate()),
                columns,
            };
            (plan.children()[0], below, Some(filter))
        }
        None => (plan, column, None),
    };
    let Some(scan) = scan.downcast_ref::<DataSourceExec>() else {
        return Ok(None);
    };
    Ok(scanned(scan, column, files)?.map(|scan| Numbered { scan, filter }))
}

fn scanned(scan: &DataSourceExec, column: usize, files: &Files) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some((config, source)) = scan.downcast_to_file_source::<ParquetSource>() else {
        return Ok(None);
    };
    let table = source.table_schema();
    let projected: Option<Vec<usize>> = source.projection().and_then(|projection| {
        let columns = projection
            .iter()
            .map(|of| Some(of.expr.downcast_ref::<Column>()?.index()));
        columns.collect()
    });
    let (Some(projected), Some(reader)) = (projected, source.parquet_file_reader_factory()) else {
        return Ok(None);
    };
    let only_files = table.table_partition_cols().is_empty() && table.virtual_columns().is_empty();
    if !only_files || config.limit.is_some() || config.preserve_order {
        return Ok(None);
    }
    let number = projected[column];
    if projected.iter().filter(|other| **other == number).count() > 1 {
        return Ok(None);
    }
    let name = table.file_schema().field(number).name();
    let predicate = source.filter();
    if predicate
        .as_ref()
        .is_some_and(|predicate| reads(predicate, number))
    {
        return Ok(None);
    }
    let Some(groups) = hinted(&config.file_groups, name, files) else {
        return Ok(None);
    };
    let table = TableSchema::from(numbers_of(table.file_schema(), name));
    let mut numbers = ParquetSource::new(table)
        .with_bloom_filter_on_read(true)
        .with_pushdown_filters(source.table_parquet_options().global.pushdown_filters)
        .with_parquet_file_reader_factory(Arc::clone(reader));
    if let Some(predicate) = predicate {
        numbers = numbers.with_predicate(predicate);
    }
    let config = FileScanConfigBuilder::from(config.clone())
        .with_source(Arc::new(numbers))
        .with_projection_indices(Some(projected))?
        .with_file_groups(groups)
        .build();
    Ok(Some(DataSourceExec::from_data_source(config)))
}

/// Files that say that a column is read as numbers; nothing where most of their row groups have no dictionary of it.
fn hinted(groups: &[FileGroup], column: &str, files: &Files) -> Option<Vec<FileGroup>> {
    let mut schemas: HashMap<String, SchemaRef> = HashMap::new();
    let (mut all, mut with) = (0, 0);
    let groups = groups.iter().map(|group| {
        let hinted = group.iter().map(|file| {
            let location = file.extensions.get::<FileLocation>()?;
            let name = location.to_string();
            let schema = match schemas.get(&name) {
                Some(schema) => Arc::clone(schema),
                None => {
                    let footer = files.local_footer(location)?;
                    all += footer.metadata().num_row_groups();
                    with += dictionaries(&footer, column);
                    let schema = numbers_of(footer.schema(), column);
                    schemas.insert(name, Arc::clone(&schema));
                    schema
                }
            };
            Some(file.clone().with_arrow_schema(schema))
        });
        hinted.collect::<Option<Vec<_>>>().map(FileGroup::new)
    });
    let groups = groups.collect::<Option<Vec<_>>>()?;
    (with * 2 >= all).then_some(groups)
}

/// Columns of a file, of which a text column is read as numbers of its dictionaries.
fn numbers_of(columns: &Schema, text: &str) -> SchemaRef {
    let numbers = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = columns.fields().iter().map(|field| {
        if field.name() == text {
            Arc::new(field.as_ref().clone().with_data_type(numbers.clone()))
        } else {
            Arc::clone(field)
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// In how many row groups a column has a dictionary.
fn dictionaries(footer: &ArrowReaderMetadata, column: &str) -> usize {
    let groups = footer.metadata().row_groups().iter();
    let of_column = groups.filter_map(|group| {
        let mut columns = group.columns().iter();
        columns.find(|of| of.column_path().string() == column)
    });
    of_column
        .filter(|of| of.dictionary_page_offset().is_some())
        .count()
}
