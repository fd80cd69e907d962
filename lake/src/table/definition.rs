//! A table's definition: creating it, adding columns to it, and our own metadata in it.
//!
//! Several processes may begin with a table, or with a new declaration, at once: one of them comes first, and the
//! others find done what they wanted to do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::FieldRef;
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::TryIntoKernel;
use delta_kernel::schema::StructType;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};

use super::{Current, DOMAIN, ENGINE_INFO, Inner, TableMetadata};
use crate::durable::is_temporary;
use crate::error::LakeError;
use crate::storage::LOG;

/// How often a change of the definition is tried when somebody else's came first.
const TRIES_MAX: usize = 20;
/// How long another process that begins with the same table may take, before what it left is removed.
const BEGINNING_TIME_MAX: Duration = Duration::from_secs(5);
/// The time between two looks whether it has done so.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Inner {
    /// Writes the first version unless there is one.
    pub(super) fn create_unless_there(&self) -> Result<(), LakeError> {
        if self.is_created()? {
            return Ok(());
        }
        let begun = Instant::now();
        let mut left = self.leftovers()?;
        loop {
            // The kernel begins no log in a directory with files. Without another process they are what one left
            // that ended while it wrote the first version; with others one of them may be writing it now.
            if !self.shared || begun.elapsed() > BEGINNING_TIME_MAX {
                self.remove(&left)?;
            }
            let failed = match self.create() {
                Err(error) if self.shared => error,
                created => return created,
            };
            if begun.elapsed() > 2 * BEGINNING_TIME_MAX || self.storage.check().is_err() {
                return Err(failed);
            }
            std::thread::sleep(LOOK_EVERY);
            if self.is_created()? {
                return Ok(());
            }
            // Only what has been there all the time is left over.
            let now = self.leftovers()?;
            left.retain(|name| now.contains(name));
        }
    }

    /// Writes the first version.
    fn create(&self) -> Result<(), LakeError> {
        let schema: StructType = self
            .schema
            .as_ref()
            .try_into_kernel()
            .map_err(|error| self.failed("describe", &error))?;
        let metadata = TableMetadata {
            journal: self.journal.clone(),
            ..TableMetadata::default()
        };
        let builder = create_table(self.url.as_str(), Arc::new(schema), ENGINE_INFO, true)
            .with_table_properties([
                ("delta.enableRowTracking", "true"),
                ("delta.feature.domainMetadata", "supported"),
            ])
            .with_domain_metadata(DOMAIN, self.metadata_text(&metadata));
        let transaction = builder.build(&*self.engine, Box::new(FileSystemCommitter::new()));
        let transaction = transaction.map_err(|error| self.failed("create", &error))?;
        match transaction
            .commit(&*self.engine)
            .map_err(|error| self.write_failed("create", &error))?
        {
            CommitResult::Committed(_) => Ok(()),
            CommitResult::Conflicted(_) => {
                Err(self.failed("create", &"somebody else created it at the same time"))
            }
            CommitResult::Retryable(retryable) => Err(self.write_failed("create", &retryable.error)),
        }
    }

    /// Names of files in the log's directory that are not whole.
    fn leftovers(&self) -> Result<HashSet<String>, LakeError> {
        let found = self.storage.list(LOG);
        let found = found.map_err(|error| self.failed("create", &error))?;
        let names = found.into_iter().map(|file| file.name);
        Ok(names.filter(|name| is_temporary(name)).collect())
    }

    fn remove(&self, left: &HashSet<String>) -> Result<(), LakeError> {
        for name in left {
            let removed = self.storage.remove(&format!("{LOG}/{name}"));
            removed.map_err(|error| self.write_failed("create", &error))?;
        }
        Ok(())
    }

    /// Adds the optional columns that the declaration has gained; anything else is refused.
    pub(super) fn add_columns(&self, mut current: Current) -> Result<(), LakeError> {
        for _ in 0..TRIES_MAX {
            let new = self.new_columns(&current)?;
            if new.is_empty() {
                return Ok(());
            }
            if self.add(&current, new)? {
                return self.refresh().map(drop);
            }
            if let Some(newer) = self.refresh()? {
                current = newer;
            }
        }
        Err(self.failed("add columns to", &format!("others came first {TRIES_MAX} times")))
    }

    /// The columns that a table lacks.
    fn new_columns(&self, current: &Current) -> Result<Vec<FieldRef>, LakeError> {
        let stored = &current.ours.schema;
        for field in stored.fields() {
            let declared = self.schema.column_with_name(field.name()).map(|(_, field)| field);
            if declared.is_none_or(|declared| {
                declared.data_type() != field.data_type() || declared.is_nullable() != field.is_nullable()
            }) {
                let found = format!("column `{}` is {}", field.name(), field.data_type());
                return Err(self.schema_differs(format!("{found}, which the declaration does not have")));
            }
        }
        let new = self.schema.fields().iter();
        let new = new.filter(|field| stored.column_with_name(field.name()).is_none());
        let new: Vec<_> = new.map(Arc::clone).collect();
        match new.iter().find(|field| !field.is_nullable()) {
            Some(field) => Err(self.schema_differs(format!("new column `{}` is not optional", field.name()))),
            None => Ok(new),
        }
    }

    /// Adds columns in a version of their own; `false` when somebody else's came first.
    fn add(&self, current: &Current, columns: Vec<FieldRef>) -> Result<bool, LakeError> {
        let mut builder =
            Arc::clone(&current.delta).update_table(UpdateTableOperation::AlterTable, ENGINE_INFO, false);
        for field in columns {
            let field = field
                .as_ref()
                .try_into_kernel()
                .map_err(|error| self.failed("describe", &error))?;
            builder = builder.add_column(field);
        }
        let transaction = builder.build(&*self.engine, Box::new(FileSystemCommitter::new()));
        let transaction = transaction.map_err(|error| self.failed("add columns to", &error))?;
        match transaction
            .commit(&*self.engine)
            .map_err(|error| self.write_failed("add columns to", &error))?
        {
            CommitResult::Committed(_) => Ok(true),
            CommitResult::Conflicted(_) => Ok(false),
            CommitResult::Retryable(retryable) => Err(self.write_failed("add columns to", &retryable.error)),
        }
    }

    pub(super) fn schema_differs(&self, message: String) -> LakeError {
        LakeError::Schema {
            stream: self.stream.name.to_string(),
            message,
        }
    }

    pub(super) fn metadata(&self, delta: &SnapshotRef) -> Result<TableMetadata, LakeError> {
        let found = delta
            .get_domain_metadata(DOMAIN, &*self.engine)
            .map_err(|error| self.failed("read", &error))?;
        let text = found.ok_or_else(|| {
            self.failed(
                "read",
                &"it was not made by this program: domain `tidemill` is missing",
            )
        })?;
        self.parse_metadata(&text)
    }

    pub(super) fn parse_metadata(&self, text: &str) -> Result<TableMetadata, LakeError> {
        serde_json::from_str(text).map_err(|error| self.failed("read the metadata of", &error))
    }

    pub(super) fn metadata_text(&self, metadata: &TableMetadata) -> String {
        serde_json::to_string(metadata).expect("text and a number are always JSON")
    }
}
