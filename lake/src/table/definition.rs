//! A table's definition: creating it, adding columns to it, and our own metadata in it.

use std::sync::Arc;

use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::TryIntoKernel;
use delta_kernel::schema::StructType;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};

use super::{Current, DOMAIN, ENGINE_INFO, Inner, TableMetadata};
use crate::durable::is_temporary;
use crate::error::LakeError;

impl Inner {
    /// Writes the first version.
    pub(super) fn create(&self) -> Result<(), LakeError> {
        self.remove_leftovers()?;
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

    /// Removes what a process left that ended while it wrote the first version: the kernel begins no log in a
    /// directory with files. Nobody else writes here, because the lake is locked.
    fn remove_leftovers(&self) -> Result<(), LakeError> {
        let failed = |error: &std::io::Error| self.write_failed("create", error);
        let log = self.directory.join("_delta_log");
        for entry in std::fs::read_dir(&log).map_err(|error| failed(&error))? {
            let name = entry.map_err(|error| failed(&error))?.file_name();
            if is_temporary(&name) {
                self.durable
                    .remove(&log.join(name))
                    .map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }

    /// Adds the optional columns that the declaration has gained; anything else is refused.
    pub(super) fn add_columns(&self, current: &Current) -> Result<(), LakeError> {
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
        let new: Vec<_> = self
            .schema
            .fields()
            .iter()
            .filter(|field| stored.column_with_name(field.name()).is_none())
            .collect();
        if let Some(field) = new.iter().find(|field| !field.is_nullable()) {
            return Err(self.schema_differs(format!("new column `{}` is not optional", field.name())));
        }
        if new.is_empty() {
            return Ok(());
        }
        let mut builder =
            Arc::clone(&current.delta).update_table(UpdateTableOperation::AlterTable, ENGINE_INFO, false);
        for field in new {
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
            CommitResult::Committed(_) => self.refresh().map(drop),
            CommitResult::Conflicted(_) => {
                Err(self.failed("add columns to", &"somebody else changed it at the same time"))
            }
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
