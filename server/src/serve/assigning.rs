//! Assigning, from its configuration to the running service, and what it reads once the journal has let go of it.

use std::sync::Arc;

use ::assign::embedded::{Archive, ArchiveRows, EmbeddedDesk, EmbeddedOptions, Place, Row};
use ::assign::servers::ServersDesk;
use ::assign::{Assign, Desk};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use event::json::EventWriter;
use event::schema::{OFFSET, ROW};
use event::{Catalog, Offset, Partition, Position, StreamDeclaration, StreamName};
use futures::future::{BoxFuture, FutureExt};
use journal::Journal;
use lake::{PartitionRows, Table};
use tokio::sync::mpsc;

use super::stages::StartError;
use crate::config::{AssignConfig, AssignPlace, Config};

/// Where snapshots are kept, in the data directory.
const DIRECTORY: &str = "assign";

/// The running service.
pub(super) struct Assigning {
    pub(super) service: Assign,
    /// Whoever may write to it may say what became of assignments.
    pub(super) stream: StreamName,
    /// What it writes itself, and nobody else may.
    pub(super) own: Vec<StreamName>,
}

/// Starts a desk around servers, if that is what is configured.
pub(super) fn start_with_servers(assign: &AssignConfig) -> Result<Option<Assigning>, StartError> {
    let AssignPlace::Servers(servers) = &assign.place else {
        return Ok(None);
    };
    let desk = ServersDesk::start(assign.options.clone(), servers.clone());
    let desk = desk.map_err(|error| StartError::Assign(error.into()))?;
    Ok(Some(service(assign, desk)))
}

/// Starts whichever desk is configured.
pub(super) async fn start(
    config: &Config,
    assign: &AssignConfig,
    catalog: &Catalog,
    journal: &Arc<dyn Journal>,
    tables: &[Arc<Table>],
) -> Result<Assigning, StartError> {
    let AssignPlace::Embedded {
        stream,
        answers,
        remember,
    } = &assign.place
    else {
        let started = start_with_servers(assign)?;
        return started.ok_or_else(|| StartError::Assign("no servers are configured".into()));
    };
    let declared = catalog.get(stream.as_str());
    let declared = declared.ok_or_else(|| StartError::Assign(format!("no stream `{stream}`").into()))?;
    let embedded = EmbeddedOptions {
        journal: Arc::clone(journal),
        stream: Arc::clone(declared),
        assignments: assign.assignments.clone(),
        answers: answers.clone(),
        archive: Some(Arc::new(TableArchive {
            tables: tables.to_vec(),
        })),
        directory: config.data_dir.join(DIRECTORY),
        remember: *remember,
    };
    let desk = EmbeddedDesk::start(assign.options.clone(), embedded).await;
    let desk = desk.map_err(|error| StartError::Assign(error.into()))?;
    Ok(service(assign, desk))
}

fn service(assign: &AssignConfig, desk: impl Desk) -> Assigning {
    Assigning {
        service: Assign::new(Arc::new(desk)),
        stream: assign.assignments.clone(),
        own: assign.own_streams(),
    }
}

/// The lake's tables, which have every record below their position.
struct TableArchive {
    tables: Vec<Arc<Table>>,
}

impl Archive for TableArchive {
    fn rows<'a>(
        &'a self,
        stream: &'a StreamName,
        from: Offset,
    ) -> BoxFuture<'a, Result<Option<ArchiveRows>, String>> {
        async move {
            let table = self
                .tables
                .iter()
                .find(|table| table.declaration().name == *stream);
            let table = table.ok_or_else(|| format!("the lake has no table `{stream}`"))?;
            let rows = table.partition_rows(Position::new(Partition(0), from)).await;
            let rows = rows.map_err(|error| error.to_string())?;
            let end = rows.end();
            if end <= from {
                return Ok(None);
            }
            let declaration = Arc::clone(table.declaration());
            let (out, taken) = mpsc::channel(1);
            // Ends when nobody takes its rows any more.
            drop(tokio::task::spawn_blocking(move || {
                read(rows, &declaration, &out)
            }));
            Ok(Some(ArchiveRows { rows: taken, end }))
        }
        .boxed()
    }
}

fn read(mut rows: PartitionRows, stream: &StreamDeclaration, out: &mpsc::Sender<Result<Vec<Row>, String>>) {
    loop {
        let portion = match rows.next_rows() {
            Ok(None) => return,
            Ok(Some(batch)) => written(&batch, stream).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let failed = portion.is_err();
        if out.blocking_send(portion).is_err() || failed {
            return;
        }
    }
}

/// Rows of the lake as JSON, each with its place in the journal.
fn written(
    batch: &RecordBatch,
    stream: &StreamDeclaration,
) -> Result<Vec<Row>, Box<dyn std::error::Error + Send + Sync>> {
    let offsets = batch
        .column_by_name(OFFSET)
        .and_then(|column| column.as_primitive_opt::<Int64Type>());
    let numbers = batch
        .column_by_name(ROW)
        .and_then(|column| column.as_primitive_opt::<Int32Type>());
    let (Some(offsets), Some(numbers)) = (offsets, numbers) else {
        return Err("the table has no places".into());
    };
    let writer = EventWriter::new(stream, batch);
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let mut json = Vec::new();
        writer.write(row, &mut json)?;
        let place = Place {
            offset: u64::try_from(offsets.value(row))?,
            row: u32::try_from(numbers.value(row))?,
        };
        rows.push(Row { place, json });
    }
    Ok(rows)
}
