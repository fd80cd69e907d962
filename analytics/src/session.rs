//! The one place that builds a query session: functions, stores, memory, spill, settings.
//!
//! The costly part, registering functions, is done once; a query gets a copy with tables of its own. A rollup has a
//! session for itself, with the same functions and nothing but its source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::Schema;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::{SessionConfig, SessionContext};
use event::{Catalog, Position, schema};

use crate::Readable;
use crate::bounded;
use crate::checked_sum::CheckedSum;
use crate::files::Files;
use crate::json_text;
use crate::pin::{Pin, Pinner, table_schema};
use crate::provider::StreamTable;
use crate::question::{At, Seen};
use crate::tail::Tail;
use crate::text_groups::TextGroups;
use crate::utc_trunc::UtcTrunc;

/// Columns that exist for SQL and that `SELECT *` leaves out.
pub(crate) const HIDDEN: [&str; 4] = [schema::PARTITION, schema::OFFSET, schema::ROW, schema::INDEX];

/// Scalar functions whose answer can be larger than their input by any factor: one call could take all memory
/// before any pool is asked (`repeat('a', 2e9)` ends the process).
const UNBOUNDED_FUNCTIONS: [&str; 8] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "range",
    "generate_series",
];

/// Bounds of all queries together.
#[derive(Clone, Debug)]
pub(crate) struct SessionLimits {
    pub(crate) memory_bytes: usize,
    pub(crate) spill_bytes: u64,
    pub(crate) spill_directory: PathBuf,
    pub(crate) threads: usize,
}

/// Builds the state that every query's session is a copy of.
pub(crate) fn base(limits: &SessionLimits, tail: Arc<Tail>, files: Arc<Files>) -> Result<SessionState> {
    let config = SessionConfig::new()
        .with_target_partitions(limits.threads)
        .with_information_schema(true)
        .with_default_catalog_and_schema("tidemill", "public")
        .with_create_default_catalog_and_schema(false)
        .set_bool("datafusion.execution.enable_recursive_ctes", false)
        .set_bool("datafusion.execution.parquet.pushdown_filters", false)
        // The provider does that, in pieces that are taken by whoever is free.
        .set_bool("datafusion.optimizer.repartition_file_scans", false)
        .set_str("datafusion.execution.time_zone", "UTC")
        .with_extension(tail)
        .with_extension(Arc::clone(&files));
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![limits.spill_directory.clone()]))
        .with_max_temp_directory_size(limits.spill_bytes);
    let ten = std::num::NonZeroUsize::new(10).expect("ten is not zero");
    let pool = TrackConsumersPool::new(FairSpillPool::new(limits.memory_bytes), ten);
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_memory_pool(Arc::new(pool))
        .build_arc()?;
    let state = with_functions(config, runtime)?;
    Ok(SessionStateBuilder::new_from_existing(state)
        .with_physical_optimizer_rule(Arc::new(TextGroups(files)))
        .build())
}

/// A session that computes the windows of one rollup, whose rows are in memory already: `table` is all that there is.
pub(crate) fn for_windows(
    memory_bytes: usize,
    name: &str,
    table: Arc<dyn TableProvider>,
) -> Result<SessionState> {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_default_catalog_and_schema("tidemill", "public")
        .with_create_default_catalog_and_schema(false)
        .set_bool("datafusion.execution.enable_recursive_ctes", false)
        .set_str("datafusion.execution.time_zone", "UTC");
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .build_arc()?;
    let schema = MemorySchemaProvider::new();
    schema.register_table(name.to_owned(), table)?;
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema("public", Arc::new(schema))?;
    let list = MemoryCatalogProviderList::new();
    list.register_catalog("tidemill".to_owned(), Arc::new(catalog));
    let state = with_functions(config, runtime)?;
    Ok(SessionStateBuilder::new_from_existing(state)
        .with_catalog_list(Arc::new(list))
        .build())
}

/// A state with every function that SQL may call here.
fn with_functions(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> Result<SessionState> {
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    datafusion_functions_json::register_all(&mut state)?;
    json_text::register(&mut state)?;
    state.register_udaf(Arc::new(AggregateUDF::from(CheckedSum::new())))?;
    state.register_udf(Arc::new(ScalarUDF::from(UtcTrunc::new())))?;
    for name in UNBOUNDED_FUNCTIONS {
        state.deregister_udf(name)?;
    }
    bounded::register(&mut state)?;
    Ok(state)
}

/// The streams as one query sees them: each pinned when the query first names it, and only once.
pub(crate) struct QueryTables {
    catalog: Catalog,
    readable: Readable,
    pinner: Arc<Pinner>,
    hidden: BTreeSet<&'static str>,
    min_position: Vec<Position>,
    seen: Seen,
    pins: Mutex<BTreeMap<String, Arc<Pin>>>,
}

impl std::fmt::Debug for QueryTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryTables").finish_non_exhaustive()
    }
}

impl QueryTables {
    /// Streams that are not `readable` do not exist here. `mentioned` are the hidden columns that the query may
    /// name; each stream that it names must first have reached `min_position`, and what has been `seen` of it.
    pub(crate) fn new(
        catalog: Catalog,
        readable: Readable,
        pinner: Arc<Pinner>,
        mentioned: BTreeSet<&'static str>,
        min_position: Vec<At>,
        seen: Seen,
    ) -> Arc<Self> {
        Arc::new(Self {
            catalog,
            readable,
            pinner,
            hidden: mentioned,
            min_position: min_position.into_iter().map(Position::from).collect(),
            seen,
            pins: Mutex::default(),
        })
    }

    /// What has been pinned so far.
    pub(crate) fn pins(&self) -> Vec<Arc<Pin>> {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.values().map(Arc::clone).collect()
    }

    async fn pin(&self, name: &str) -> Result<Option<Arc<Pin>>> {
        let Some(declaration) = self.catalog.get(name).filter(|_| self.readable.allows(name)) else {
            return Ok(None);
        };
        if let Some(pin) = self.pins.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Some(Arc::clone(pin)));
        }
        let seen = self.seen.get(name).into_iter().flatten();
        let mut positions: Vec<Position> = seen.copied().map(Position::from).collect();
        positions.extend(&self.min_position);
        let reached = self.pinner.reached(declaration, &positions).await;
        reached.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let pin = self.pinner.pin(declaration).await;
        let pin = Arc::new(pin.map_err(|error| DataFusionError::External(Box::new(error)))?);
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Arc::clone(pins.entry(name.to_owned()).or_insert(pin))))
    }
}

#[async_trait::async_trait]
impl SchemaProvider for QueryTables {
    fn table_names(&self) -> Vec<String> {
        self.readable
            .of(&self.catalog)
            .map(|stream| stream.name.as_str().to_owned())
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(pin) = self.pin(name).await? else {
            return Ok(None);
        };
        let all = table_schema(&pin.declaration);
        let visible = all.fields().iter().filter(|field| {
            let hidden = HIDDEN.contains(&field.name().as_str());
            !hidden || self.hidden.contains(field.name().as_str())
        });
        let visible = Arc::new(Schema::new(visible.map(Arc::clone).collect::<Vec<_>>()));
        Ok(Some(Arc::new(StreamTable::new(pin, visible))))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.readable.allows(name) && self.catalog.get(name).is_some()
    }
}

/// A session for one query over `tables`.
pub(crate) fn for_query(base: &SessionState, tables: Arc<QueryTables>) -> Result<SessionContext> {
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema("public", tables)?;
    let list = MemoryCatalogProviderList::new();
    list.register_catalog("tidemill".to_owned(), Arc::new(catalog));
    let state = SessionStateBuilder::new_from_existing(base.clone())
        .with_catalog_list(Arc::new(list))
        .build();
    Ok(SessionContext::new_with_state(state))
}
