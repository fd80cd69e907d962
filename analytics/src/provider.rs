//! A stream as a table: an ordinary Parquet scan of the lake's files beside the tail, as a plain union.
//!
//! `_index` of a file's row is the file's first index, a partition value, plus Parquet's own row number, a
//! virtual column: both survive a plan's way to another process, and splitting or skipping inside a file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, Result, ScalarValue, Statistics, ToDFSchema, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column as PhysicalColumn, Literal};
use datafusion::physical_optimizer::pruning::PruningPredicate;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use event::schema;
use lake::{DataFile, Directory, FileLocation};
use object_store::path::Path;
use parquet::arrow::RowNumber;
use parquet::arrow::arrow_reader::RowSelection;

use crate::file_reader::FileReaders;
use crate::files::Files;
use crate::index_range::IndexRange;
use crate::pieces::pieces;
use crate::pin::Pin;
use crate::tail::Tail;
use crate::tail_exec::TailExec;
use crate::tail_filter::{TailFilter, predicate};
use crate::text_rows::{self, TextCondition};

const FIRST_INDEX: &str = "_first_index";
const ROW_NUMBER: &str = "_row_number";

/// One pinned stream.
#[derive(Debug)]
pub(crate) struct StreamTable {
    pin: Arc<Pin>,
    schema: SchemaRef,
    /// The part of the stream that is this table.
    part: IndexRange,
}

impl StreamTable {
    /// `schema` is the part of the table's columns that the query may see.
    pub(crate) fn new(pin: Arc<Pin>, schema: SchemaRef) -> Self {
        Self {
            pin,
            schema,
            part: IndexRange::ALL,
        }
    }

    /// This table without its first `skip` rows, and only `take` of the rest. `None` while the index of a row is
    /// not final.
    pub(crate) fn after(&self, skip: u64, take: Option<u64>) -> Option<Self> {
        let from = self.pin.snapshot.removed.saturating_add(skip);
        let to = take.map_or(u64::MAX, |take| from.saturating_add(take));
        self.part_of(IndexRange { from, to })
    }

    /// What is pinned, when this table is all of it.
    pub(crate) fn whole(&self) -> Option<Arc<Pin>> {
        (self.part == IndexRange::ALL).then(|| Arc::clone(&self.pin))
    }

    /// This table with at least its newest `count` rows.
    pub(crate) fn newest(&self, count: u64) -> Option<Self> {
        let from = self.pin.lake_end().saturating_sub(count);
        self.part_of(IndexRange { from, to: u64::MAX })
    }

    fn part_of(&self, part: IndexRange) -> Option<Self> {
        let numbered = self.pin.tail.is_empty() || self.pin.tail_index().is_some();
        (numbered && self.part == IndexRange::ALL).then(|| Self {
            pin: Arc::clone(&self.pin),
            schema: Arc::clone(&self.schema),
            part,
        })
    }

    fn files(
        &self,
        state: &dyn Session,
        files: &Narrowed,
        wanted: &SchemaRef,
        filters: &[Expr],
        range: IndexRange,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Narrowed { files, texts } = files;
        let file_schema = schema::lake(&self.pin.declaration);
        let with_index = wanted.column_with_name(schema::INDEX).is_some();
        let mut table = TableSchema::builder(Arc::clone(&file_schema));
        if with_index {
            let row_number = Field::new(ROW_NUMBER, DataType::Int64, false).with_extension_type(RowNumber);
            table = table
                .with_table_partition_cols(vec![Arc::new(Field::new(FIRST_INDEX, DataType::Int64, false))])
                .with_virtual_columns(vec![Arc::new(row_number)]);
        }
        let table = table.build();
        let store = store_url(&self.pin.snapshot.directory)?;
        let Some(opened) = state.config().get_extension::<Files>() else {
            return internal_err!("the session has no files");
        };
        let mut source = ParquetSource::new(table.clone())
            .with_bloom_filter_on_read(true)
            .with_parquet_file_reader_factory(Arc::new(FileReaders(opened)));
        let on_columns: Vec<_> = filters
            .iter()
            .filter(|filter| !names(filter, schema::INDEX))
            .cloned()
            .collect();
        let few = on_columns.iter().any(|filter| is_one_text(filter, &file_schema));
        let time = self.pin.declaration.time_column();
        let of_time = |filter: &Expr| filter.column_refs().iter().all(|column| column.name == time);
        let some_time = !on_columns.is_empty() && on_columns.iter().all(of_time);
        let narrowed = files.iter().all(|(_, rows)| rows.is_some());
        if (few || some_time) && !narrowed && !with_index && self.part == IndexRange::ALL {
            // Few rows have one value of many, and rows of some time lie side by side, so the other columns are read
            // only where those rows are; with a LIMIT in some order, only of those that can still be among the first.
            // The condition comes down from the filter above: given here too, each value would be compared twice.
            source = source.with_pushdown_filters(true);
        } else if let Some(filter) = conjunction(on_columns) {
            let columns = Arc::clone(&file_schema).to_dfschema()?;
            source = source.with_predicate(state.create_physical_expr(filter, &columns)?);
        }
        let mut projection = Vec::with_capacity(wanted.fields().len() + 1);
        for field in wanted
            .fields()
            .iter()
            .filter(|field| field.name() != schema::INDEX && !texts.contains_key(field.name()))
        {
            projection.push(table.table_schema().index_of(field.name())?);
        }
        if with_index {
            projection.push(table.table_schema().index_of(FIRST_INDEX)?);
            projection.push(table.table_schema().index_of(ROW_NUMBER)?);
        }
        let partitioned = files.iter().map(|(file, rows)| {
            let partitioned = self.partitioned(file, with_index)?;
            Ok(match rows {
                Some(rows) => partitioned.with_extension(ParquetRowSelection::new(rows.clone())),
                None => range.select(file, partitioned),
            })
        });
        let threads = state.config().target_partitions().max(1);
        let mut read = partitioned.collect::<Result<Vec<_>>>()?;
        if range == IndexRange::ALL {
            read = pieces(read, threads);
        }
        // In this order they are taken: `split_files` would bring them into that of their names.
        let groups = read.chunks(read.len().div_ceil(threads).max(1));
        let groups = groups.map(|part| FileGroup::new(part.to_vec())).collect();
        let rows: u64 = files.iter().map(|(file, _)| file.rows).sum();
        let statistics = Statistics::new_unknown(table.table_schema())
            .with_num_rows(Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX)));
        let config = FileScanConfigBuilder::new(store, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(projection))?
            .build();
        let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        if with_index || !texts.is_empty() {
            completed(scan, wanted, texts)
        } else {
            Ok(scan)
        }
    }

    fn partitioned(&self, file: &DataFile, with_index: bool) -> Result<PartitionedFile> {
        let location = self.pin.snapshot.directory.join(&file.path);
        let mut partitioned = PartitionedFile::new(String::new(), file.bytes);
        partitioned.object_meta.location = match &location {
            FileLocation::Local(path) => Path::from_absolute_path(std::path::absolute(path)?)
                .map_err(|error| DataFusionError::External(Box::new(error)))?,
            FileLocation::Bucket { path, .. } => path.clone(),
        };
        partitioned = partitioned.with_extension(location);
        if with_index {
            let first = ScalarValue::Int64(Some(file.first_index as i64));
            partitioned = partitioned.with_partition_values(vec![first]);
        }
        Ok(partitioned)
    }

    /// Files that may hold a row that passes.
    fn prune(&self, predicate: Option<&PruningPredicate>) -> Result<Vec<DataFile>> {
        let files = &self.pin.snapshot.files;
        let Some(predicate) = predicate else {
            return Ok(files.to_vec());
        };
        let bounds = Bounds {
            files,
            time: self.pin.declaration.time_column(),
        };
        let keep = predicate.prune(&bounds)?;
        let kept = files.iter().zip(keep).filter(|(_, keep)| *keep);
        Ok(kept.map(|(file, _)| file.clone()).collect())
    }
}

#[async_trait::async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted: SchemaRef = match projection {
            Some(indices) => Arc::new(self.schema.project(indices)?),
            None => Arc::clone(&self.schema),
        };
        if self.part == IndexRange::ALL {
            // Whoever wants no column wants to know how many rows there are, which the log says of files.
            let counts = wanted.fields().is_empty() && filters.is_empty();
            let tail_rows = if counts {
                self.tail_rows(state).await?
            } else {
                None
            };
            return self.union(state, &wanted, filters, tail_rows).await;
        }
        let mut fields: Vec<_> = wanted.fields().iter().map(Arc::clone).collect();
        if wanted.column_with_name(schema::INDEX).is_none() {
            fields.push(Arc::new(Field::new(schema::INDEX, DataType::Int64, true)));
        }
        let indexed = Arc::new(Schema::new(fields));
        let rows = self.union(state, &indexed, filters, None).await?;
        let columns = Arc::clone(&indexed).to_dfschema()?;
        let condition = state.create_physical_expr(self.part.condition()?, &columns)?;
        let part = Arc::new(FilterExec::try_new(condition, rows)?);
        let columns = wanted.fields().iter().map(|field| {
            let column = PhysicalColumn::new_with_schema(field.name(), &indexed)?;
            Ok((Arc::new(column) as Arc<dyn PhysicalExpr>, field.name().clone()))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, part)?))
    }
}

impl StreamTable {
    /// How many rows the tail has; `None` where the session cannot read it.
    async fn tail_rows(&self, state: &dyn Session) -> Result<Option<usize>> {
        let Some(tail) = state.config().get_extension::<Tail>() else {
            return Ok(None);
        };
        let rows = tail.rows(&self.pin.declaration, &self.pin.tail).await;
        let rows = rows.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(usize::try_from(rows).ok())
    }

    /// The files with the rows of each that conditions on texts alone can let pass, where that is known; without files
    /// that have none.
    async fn narrowed(
        &self,
        state: &dyn Session,
        files: Vec<DataFile>,
        filters: &[Expr],
        range: IndexRange,
    ) -> Result<Narrowed> {
        // Most scans ask nothing.
        let conditions = if filters.is_empty() {
            Vec::new()
        } else {
            let columns = schema::lake(&self.pin.declaration);
            TextCondition::all(state, filters, &columns).unwrap_or_default()
        };
        let opened = state.config().get_extension::<Files>();
        let (Some(opened), false, IndexRange::ALL) = (opened, conditions.is_empty(), range) else {
            return Ok(Narrowed {
                files: files.into_iter().map(|file| (file, None)).collect(),
                texts: HashMap::new(),
            });
        };
        let directory = &self.pin.snapshot.directory;
        let locations = files.iter().map(|file| (directory.join(&file.path), file.bytes));
        let threads = state.config().target_partitions();
        let rows = text_rows::select(&conditions, &opened, &locations.collect::<Vec<_>>(), threads).await?;
        let have = |number: usize| {
            let mut files = rows.iter();
            files.all(|rows| rows.as_ref().is_some_and(|rows| rows.pass[number]))
        };
        let texts = conditions.iter().enumerate().filter(|(number, _)| have(*number));
        let texts = texts.filter_map(|(_, condition)| condition.one_text());
        Ok(Narrowed {
            texts: texts
                .map(|(column, text)| (column.to_owned(), text.to_owned()))
                .collect(),
            files: files
                .into_iter()
                .zip(rows)
                .map(|(file, rows)| (file, rows.map(|rows| rows.selection)))
                .filter(|(_, rows)| rows.as_ref().is_none_or(RowSelection::selects_any))
                .collect(),
        })
    }

    /// Files and tail, without what no filter can let pass.
    async fn union(
        &self,
        state: &dyn Session,
        wanted: &SchemaRef,
        filters: &[Expr],
        tail_rows: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let range = self.part.and(IndexRange::of(filters));
        let predicate = predicate(state, &self.schema, filters)?;
        let mut files = self.prune(predicate.as_ref())?;
        files.retain(|file| range.touches(file));
        let files = self.narrowed(state, files, filters, range).await?;
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
        if !files.files.is_empty() {
            inputs.push(self.files(state, &files, wanted, filters, range)?);
        }
        if !self.pin.tail.is_empty() {
            let tail = TailExec::new(
                Arc::clone(&self.pin.declaration),
                self.pin.tail.clone(),
                self.pin.tail_index(),
                Arc::clone(wanted),
                TailFilter::new(filters, predicate, range, &self.pin.declaration),
            );
            inputs.push(Arc::new(tail.with_rows(tail_rows)));
        }
        if inputs.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::clone(wanted))));
        }
        UnionExec::try_new(inputs)
    }
}

/// Files to be read.
struct Narrowed {
    /// With those of their rows that may pass, where that is known.
    files: Vec<(DataFile, Option<RowSelection>)>,
    /// Columns that have one text in all of these rows, which are not read.
    texts: HashMap<String, String>,
}

/// Under which name the session knows the store of a table's files.
fn store_url(directory: &Directory) -> Result<ObjectStoreUrl> {
    match directory {
        Directory::Local(_) => Ok(ObjectStoreUrl::local_filesystem()),
        Directory::Bucket(bucket) => ObjectStoreUrl::parse(&bucket.url),
    }
}

/// Adds `_index` and the columns that have one text, and brings the columns into the wanted order.
fn completed(
    scan: Arc<dyn ExecutionPlan>,
    wanted: &Schema,
    texts: &HashMap<String, String>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let read = scan.schema();
    let column = |name: &str| -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(PhysicalColumn::new(name, read.index_of(name)?)))
    };
    let mut columns = Vec::with_capacity(wanted.fields().len());
    for field in wanted.fields() {
        let value: Arc<dyn PhysicalExpr> = if field.name() == schema::INDEX {
            Arc::new(BinaryExpr::new(
                column(FIRST_INDEX)?,
                Operator::Plus,
                column(ROW_NUMBER)?,
            ))
        } else if let Some(text) = texts.get(field.name()) {
            Arc::new(Literal::new(ScalarValue::Utf8(Some(text.clone()))))
        } else {
            column(field.name())?
        };
        columns.push((value, field.name().clone()));
    }
    Ok(Arc::new(ProjectionExec::try_new(columns, scan)?))
}

/// Whether a filter lets pass one value of a text column, or of a few.
fn is_one_text(filter: &Expr, columns: &Schema) -> bool {
    let is_text = |expression: &Expr| {
        let Expr::Column(column) = expression else {
            return false;
        };
        let field = columns.field_with_name(&column.name);
        field.is_ok_and(|field| *field.data_type() == DataType::Utf8)
    };
    let is_value = |expression: &Expr| matches!(expression, Expr::Literal(..));
    match filter {
        Expr::BinaryExpr(equal) if equal.op == Operator::Eq => {
            (is_text(&equal.left) && is_value(&equal.right))
                || (is_value(&equal.left) && is_text(&equal.right))
        }
        Expr::InList(list) => !list.negated && is_text(&list.expr) && list.list.iter().all(is_value),
        _ => false,
    }
}

fn names(filter: &Expr, column: &str) -> bool {
    filter.column_refs().iter().any(|found| found.name == column)
}

/// What the snapshot says about each file: bounds of the time column and of the index.
struct Bounds<'a> {
    files: &'a [DataFile],
    time: &'a str,
}

impl Bounds<'_> {
    fn of(
        &self,
        column: &Column,
        time: impl Fn(&DataFile) -> Option<i64>,
        index: impl Fn(&DataFile) -> u64,
    ) -> Option<ArrayRef> {
        if column.name == schema::INDEX {
            let values = self.files.iter().map(|file| index(file) as i64);
            return Some(Arc::new(Int64Array::from_iter_values(values)));
        }
        if column.name != self.time {
            return None;
        }
        let values: TimestampMicrosecondArray = self.files.iter().map(time).collect();
        Some(Arc::new(values.with_timezone("UTC")))
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |file| file.time_min, |file| file.first_index)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(
            column,
            |file| file.time_max,
            |file| (file.first_index + file.rows).saturating_sub(1),
        )
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.files.iter().map(|file| file.rows);
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
