//! Following the log: from the version that is known to the newest one, by the new commits alone.
//!
//! Only when commits between the two are gone (they expired) is the whole list of files read again, from the
//! newest checkpoint on.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use delta_kernel::Snapshot as DeltaSnapshot;
use delta_kernel::actions::LOG_TXN_SCHEMA;
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use event::{Offset, Partition, Position};

use super::source::{self, Sources};
use super::{Current, DOMAIN, Inner, TableMetadata};
use crate::error::LakeError;
use crate::files::{self, Listed};
use crate::log::{self, Commit};
use crate::snapshot::Snapshot;
use crate::storage::Storage;

impl Inner {
    /// Follows the log to its end; `None` while there is no table.
    pub(super) fn refresh(&self) -> Result<Option<Current>, LakeError> {
        let known = self.known();
        let delta = match &known {
            Some(known) if self.is_newest(known.ours.version)? => return Ok(Some(known.clone())),
            Some(known) => DeltaSnapshot::builder_from(Arc::clone(&known.delta)).build(&*self.engine),
            None if !self.is_created()? => return Ok(None),
            None => DeltaSnapshot::builder_for(self.url.as_str()).build(&*self.engine),
        };
        let delta = delta.map_err(|error| self.failed("read", &error))?;
        let next = match known {
            Some(known) if known.ours.version == delta.version() => return Ok(Some(known)),
            Some(known) => self.advance(&known, &delta)?,
            None => self.describe(&delta)?,
        };
        Ok(Some(self.publish(next)))
    }

    /// What is known, when nothing newer is there and a look at a directory says so: two looks take a tenth of the way
    /// to a thread that may block, and most questions find no newer version.
    pub(super) fn newest_at_hand(&self) -> Result<Option<Current>, LakeError> {
        let known = self
            .known()
            .filter(|_| matches!(self.storage, Storage::Local { .. }));
        Ok(match known {
            Some(known) if self.is_newest(known.ours.version)? => Some(known),
            _ => None,
        })
    }

    pub(super) fn known(&self) -> Option<Current> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Versions are dense and old log entries expire from the first one on. So when the known version's entry is
    /// there and the next one's is not, there is no newer version.
    fn is_newest(&self, version: u64) -> Result<bool, LakeError> {
        let is = || Ok(!log::has(&self.storage, version + 1)? && log::has(&self.storage, version)?);
        is().map_err(|error: std::io::Error| self.failed("look for commits of", &error))
    }

    /// Forgets what is known: the next look reads the table from its newest checkpoint on.
    pub(super) fn forget(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps the newer of what is known and what was found.
    pub(super) fn publish(&self, next: Current) -> Current {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let newer = current
            .take()
            .filter(|known| known.ours.version > next.ours.version)
            .unwrap_or(next);
        *current = Some(newer.clone());
        newer
    }

    /// From a known version to a later one.
    pub(super) fn advance(&self, known: &Current, delta: &SnapshotRef) -> Result<Current, LakeError> {
        let commits = log::read_all(&self.storage, known.ours.version + 1..=delta.version());
        match commits.map_err(|error| self.failed("read a commit of", &error))? {
            Some(commits) => self.apply(known, commits, delta),
            None => self.describe(delta),
        }
    }

    fn apply(
        &self,
        known: &Current,
        commits: Vec<Commit>,
        delta: &SnapshotRef,
    ) -> Result<Current, LakeError> {
        let failed = |message: &dyn std::fmt::Display| self.failed("follow", message);
        let mut redefined = false;
        let mut metadata = Arc::clone(&known.metadata);
        let mut ends = Ends {
            positions: by_partition(&known.ours.positions),
            sources: Sources::clone(&known.sources),
        };
        let (mut added, mut removed) = (Vec::new(), HashSet::new());
        for commit in commits {
            redefined |= commit.redefined;
            for remove in commit.removes {
                added.retain(|listed: &Listed| listed.file.path != remove.path);
                removed.insert(remove.path);
            }
            for add in commit.adds {
                removed.remove(&add.path);
                added.push(Listed::new(add, self.stream.time_column()).map_err(|error| failed(&error))?);
            }
            for transaction in commit.transactions {
                self.place(&mut ends, &transaction.app_id, transaction.version, true)?;
            }
            for domain in commit.domains {
                if domain.domain == DOMAIN && !domain.removed {
                    metadata = Arc::new(self.parse_metadata(&domain.configuration)?);
                }
            }
        }
        let kept = known.ours.files.iter().zip(known.places.iter());
        let kept = kept.filter(|(file, _)| !removed.contains(&file.path));
        added.extend(kept.map(|(file, place)| Listed {
            place: *place,
            file: file.clone(),
        }));
        let schema = if redefined {
            self.schema_of(delta)?
        } else {
            Arc::clone(&known.ours.schema)
        };
        Ok(self.assemble(delta, schema, added, ends, metadata))
    }

    /// A version from its checkpoint on.
    fn describe(&self, delta: &SnapshotRef) -> Result<Current, LakeError> {
        let metadata = Arc::new(self.metadata(delta)?);
        let listed = files::read(self, delta)?;
        let ends = self.ends(delta)?;
        Ok(self.assemble(delta, self.schema_of(delta)?, listed, ends, metadata))
    }

    fn assemble(
        &self,
        delta: &SnapshotRef,
        schema: arrow_schema::SchemaRef,
        listed: Vec<Listed>,
        ends: Ends,
        metadata: Arc<TableMetadata>,
    ) -> Current {
        let (files, places) = files::arrange(listed, metadata.removed);
        let positions = ends.positions.into_iter();
        let ours = Snapshot {
            version: delta.version(),
            directory: self.directory.clone(),
            schema,
            files,
            positions: positions
                .map(|(partition, offset)| Position::new(partition, offset))
                .collect(),
            removed: metadata.removed,
        };
        Current {
            delta: Arc::clone(delta),
            ours: Arc::new(ours),
            places,
            metadata,
            sources: Arc::new(ends.sources),
        }
    }

    fn schema_of(&self, delta: &SnapshotRef) -> Result<arrow_schema::SchemaRef, LakeError> {
        let schema: arrow_schema::Schema = delta
            .schema()
            .as_ref()
            .try_into_arrow()
            .map_err(|error| self.failed("describe", &error))?;
        Ok(Arc::new(schema))
    }

    /// The positions of all partitions and sources, whichever they are.
    fn ends(&self, delta: &SnapshotRef) -> Result<Ends, LakeError> {
        let failed = |error: &dyn std::fmt::Display| self.failed("read positions of", error);
        let actions = delta
            .log_segment()
            .read_actions(&*self.engine, LOG_TXN_SCHEMA.clone());
        let mut ends = Ends::default();
        // Newest first.
        for batch in actions.map_err(|error| failed(&error))? {
            let actions = batch.map_err(|error| failed(&error))?.actions;
            let actions = ArrowEngineData::try_from_engine_data(actions).map_err(|error| failed(&error))?;
            let transactions = transactions(actions.record_batch());
            for (app_id, version) in transactions.ok_or_else(|| failed(&"the kernel gives no `txn`"))? {
                self.place(&mut ends, app_id, version, false)?;
            }
        }
        Ok(ends)
    }

    /// Puts an application's version to what it is an end of, if it is one of ours.
    fn place(&self, ends: &mut Ends, app_id: &str, version: i64, replace: bool) -> Result<(), LakeError> {
        let ours = app_id.strip_prefix(self.app_ids().as_str());
        let partition = ours.and_then(|partition| partition.parse().ok()).map(Partition);
        if partition.is_none() && !source::is_source(app_id) {
            return Ok(());
        }
        let offset = u64::try_from(version).map_err(|error| self.failed("read positions of", &error))?;
        match partition {
            Some(partition) => put(&mut ends.positions, partition, Offset(offset), replace),
            None => put(&mut ends.sources, app_id.to_owned(), Offset(offset), replace),
        }
        Ok(())
    }
}

/// Up to where a version has its own journal's partitions, and its sources.
#[derive(Default)]
struct Ends {
    positions: BTreeMap<Partition, Offset>,
    sources: Sources,
}

fn put<K: Ord>(ends: &mut BTreeMap<K, Offset>, key: K, offset: Offset, replace: bool) {
    if replace {
        ends.insert(key, offset);
    } else {
        ends.entry(key).or_insert(offset);
    }
}

fn by_partition(positions: &[Position]) -> BTreeMap<Partition, Offset> {
    let pairs = positions.iter();
    pairs
        .map(|position| (position.partition, position.offset))
        .collect()
}

/// Application ids and versions of a batch of actions.
fn transactions(actions: &RecordBatch) -> Option<impl Iterator<Item = (&str, i64)>> {
    let transactions = actions.column_by_name("txn")?.as_struct_opt()?;
    let ids = transactions.column_by_name("appId")?.as_string_opt::<i32>()?;
    let versions = transactions
        .column_by_name("version")?
        .as_primitive_opt::<Int64Type>()?;
    let rows = (0..actions.num_rows()).filter(|row| transactions.is_valid(*row) && ids.is_valid(*row));
    Some(rows.map(|row| (ids.value(row), versions.value(row))))
}
