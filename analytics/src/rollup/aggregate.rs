//! The SQL of a rollup: checked once against the declaration, then run over the rows of one window after the other.
//!
//! It must give one row for whatever rows, the same one each time, in columns that the stream declares. So it is an
//! aggregate without GROUP BY, and calls nothing that depends on the moment or on chance.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, TableType};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::Statement;
use event::limits::STRING_BYTES_MAX;
use event::stream::rollup::is_implied;
use event::{FieldDeclaration, FieldType, StreamDeclaration, schema};

use crate::session::for_windows;
use crate::{QueryError, columns, growth, guard};

/// Longest SQL of a rollup, in bytes.
const SQL_BYTES_MAX: usize = 64 << 10;
/// Memory that one window's computation may take besides its rows.
const MEMORY_BYTES: usize = 256 << 20;

/// The checked SQL of one rollup.
pub(super) struct Aggregate {
    state: SessionState,
    plan: LogicalPlan,
    window: Arc<WindowTable>,
    outputs: Vec<Output>,
}

/// One declared field and the column of the answer that it is.
struct Output {
    field: FieldDeclaration,
    column: usize,
    kind: DataType,
}

impl Aggregate {
    /// Checks the SQL of `rollup` over `source`.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub(super) async fn plan(rollup: &StreamDeclaration, source: &StreamDeclaration) -> Result<Self, String> {
        let sql = rollup.rollup.as_ref().map_or("", |rollup| rollup.sql.as_str());
        let statement = guard::admit(sql, SQL_BYTES_MAX).map_err(|error| error.to_string())?;
        let is_query = matches!(&statement, DfStatement::Statement(statement) if matches!(**statement, Statement::Query(_)));
        if !is_query {
            return Err("only one SELECT is allowed".to_owned());
        }
        let window = Arc::new(WindowTable {
            schema: schema::lake(source),
            rows: Mutex::default(),
        });
        let table = Arc::clone(&window) as Arc<dyn TableProvider>;
        let failed = |error: datafusion::error::DataFusionError| QueryError::from(error).to_string();
        let state = for_windows(MEMORY_BYTES, source.name.as_str(), table).map_err(failed)?;
        let plan = state.statement_to_plan(statement).await.map_err(failed)?;
        growth::check(&plan).map_err(|error| error.to_string())?;
        if !gives_one_row(&plan) {
            return Err(
                "it must give one row for each window: an aggregate (`count(*)`, `sum(…)`) without \
                        GROUP BY, HAVING and LIMIT"
                    .to_owned(),
            );
        }
        check_repeatable(&plan).map_err(failed)??;
        let plan = state.optimize(&plan).map_err(failed)?;
        let outputs = outputs(rollup, &plan)?;
        Ok(Self {
            state,
            plan,
            window,
            outputs,
        })
    }

    /// The values of the declared fields for these rows of the source, in the order of the declaration.
    pub(super) async fn compute(&self, rows: Vec<RecordBatch>) -> Result<Vec<ArrayRef>, QueryError> {
        self.window.set(rows);
        let planner = self.state.query_planner();
        let plan = planner.create_physical_plan(&self.plan, &self.state).await;
        // The plan has them now.
        self.window.set(Vec::new());
        let answer = collect(plan?, self.state.task_ctx()).await?;
        let mut rows = answer.iter().filter(|batch| batch.num_rows() > 0);
        let (Some(row), None) = (rows.next(), rows.next()) else {
            return Err(QueryError::Invalid(
                "a window's SQL did not give one row".to_owned(),
            ));
        };
        if row.num_rows() != 1 {
            return Err(QueryError::Invalid(format!(
                "a window's SQL gave {} rows",
                row.num_rows()
            )));
        }
        self.outputs.iter().map(|output| output.value(row)).collect()
    }
}

impl Output {
    fn value(&self, row: &RecordBatch) -> Result<ArrayRef, QueryError> {
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let name = &self.field.name;
        let value = cast_with_options(row.column(self.column), &self.kind, &options)
            .map_err(|error| QueryError::Invalid(format!("column `{name}`: {error}")))?;
        if value.null_count() > 0 && !self.field.optional {
            return Err(QueryError::Invalid(format!("column `{name}` is null")));
        }
        if let Some(text) = value.as_any().downcast_ref::<StringArray>()
            && text.value_data().len() > STRING_BYTES_MAX
        {
            let bytes = text.value_data().len();
            let message = format!("column `{name}` has {bytes} bytes, {STRING_BYTES_MAX} are allowed");
            return Err(QueryError::Invalid(message));
        }
        Ok(value)
    }
}

/// Whether a plan gives exactly one row, whatever its input is.
fn gives_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => gives_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => gives_one_row(&alias.input),
        LogicalPlan::Sort(sort) => sort.fetch.is_none() && gives_one_row(&sort.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

/// Refuses what would make another row of the same events tomorrow.
fn check_repeatable(plan: &LogicalPlan) -> datafusion::error::Result<Result<(), String>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                let volatility = match part {
                    Expr::ScalarFunction(call) => Some((call.func.name(), call.func.signature().volatility)),
                    Expr::AggregateFunction(call) => {
                        Some((call.func.name(), call.func.signature().volatility))
                    }
                    _ => None,
                };
                if let Some((name, volatility)) = volatility
                    && volatility != Volatility::Immutable
                {
                    found.get_or_insert_with(|| name.to_owned());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(match found {
        None => Ok(()),
        Some(name) => Err(format!(
            "`{name}` gives another answer each time, and a row must equal a recount of its events"
        )),
    })
}

/// Which column of the answer each declared field is.
fn outputs(rollup: &StreamDeclaration, plan: &LogicalPlan) -> Result<Vec<Output>, String> {
    let found = plan.schema();
    let declared = || rollup.fields.iter().filter(|field| !is_implied(&field.name));
    for column in found.fields() {
        if !declared().any(|field| field.name == *column.name()) {
            return Err(format!(
                "column `{}` of the SQL is no field of the stream; name columns as the fields, with AS",
                column.name()
            ));
        }
    }
    let output = |field: &FieldDeclaration| {
        let column = found
            .fields()
            .iter()
            .position(|column| *column.name() == field.name)
            .ok_or_else(|| format!("field `{}` is no column of the SQL", field.name))?;
        let there = &found.fields()[column];
        let kind = wanted(&field.kind, there.data_type()).ok_or_else(|| {
            format!(
                "column `{}` is {}, its field is {}",
                field.name,
                columns::type_name(there.data_type()),
                field.kind.name()
            )
        })?;
        if there.is_nullable() && !field.optional {
            return Err(format!(
                "column `{0}` may be null: declare `{0} = {{ type = \"{1}\", optional = true }}`",
                field.name,
                field.kind.name()
            ));
        }
        Ok(Output {
            field: field.clone(),
            column,
            kind,
        })
    };
    declared().map(output).collect()
}

/// The Arrow type of a field, if a column of type `found` can become it.
fn wanted(kind: &FieldType, found: &DataType) -> Option<DataType> {
    let (wanted, fits) = match kind {
        FieldType::Bool => (DataType::Boolean, *found == DataType::Boolean),
        FieldType::Int { .. } => {
            let whole = matches!(found, DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0));
            (DataType::Int64, whole || found.is_integer())
        }
        FieldType::Float { .. } => (DataType::Float64, found.is_numeric()),
        FieldType::String { .. } => (
            DataType::Utf8,
            matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
        ),
        FieldType::Timestamp { .. } => (schema::timestamp_type(), matches!(found, DataType::Timestamp(..))),
        FieldType::Enum { .. } | FieldType::Uuid | FieldType::Json => return None,
    };
    fits.then_some(wanted)
}

/// The source as the SQL sees it: the rows of the window that is computed now.
struct WindowTable {
    schema: SchemaRef,
    rows: Mutex<Vec<RecordBatch>>,
}

impl WindowTable {
    fn set(&self, rows: Vec<RecordBatch>) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

impl fmt::Debug for WindowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowTable").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl TableProvider for WindowTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let table = MemTable::try_new(self.schema(), vec![rows])?;
        table.scan(state, projection, filters, limit).await
    }
}
