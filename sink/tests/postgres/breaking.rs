//! A database whose connection is lost at a chosen step, before it or after it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use event::Partition;
use futures::FutureExt;
use futures::future::BoxFuture;
use sink::database::{
    Attempt, Database, DatabaseError, Loaded, MappingError, RefusedRow, Rows, Session, StoredPosition,
    TargetTable,
};

#[derive(Debug)]
pub(crate) struct Breaking {
    pub(crate) database: Arc<dyn Database>,
    /// Steps until the one that fails, counted over all connections.
    pub(crate) left: Arc<AtomicI64>,
    /// Whether the step that fails is made all the same.
    pub(crate) after: bool,
}

struct BreakingSession {
    session: Box<dyn Session>,
    left: Arc<AtomicI64>,
    after: bool,
}

impl Database for Breaking {
    fn kind(&self) -> &'static str {
        self.database.kind()
    }

    fn check(&self, table: &TargetTable) -> Result<(), MappingError> {
        self.database.check(table)
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DatabaseError>> {
        async {
            let session = BreakingSession {
                session: self.database.connect().await?,
                left: Arc::clone(&self.left),
                after: self.after,
            };
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}

/// Makes a step, or does not, and gives its answer, or an error.
async fn broken<T>(
    left: &AtomicI64,
    after: bool,
    step: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    let fails = left.fetch_sub(1, Ordering::SeqCst) == 1;
    if fails && after {
        step.await?;
    } else if !fails {
        return step.await;
    }
    Err(DatabaseError::Outage {
        operation: "go on",
        message: "the connection is lost".to_owned(),
    })
}

impl Session for BreakingSession {
    fn prepare<'a>(&'a mut self, table: &'a Arc<TargetTable>) -> BoxFuture<'a, Result<(), DatabaseError>> {
        broken(&self.left, self.after, self.session.prepare(table)).boxed()
    }

    fn position<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        journal: &'a str,
    ) -> BoxFuture<'a, Result<StoredPosition, DatabaseError>> {
        broken(
            &self.left,
            self.after,
            self.session.position(table, partition, journal),
        )
        .boxed()
    }

    fn begin<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
    ) -> BoxFuture<'a, Result<Option<StoredPosition>, DatabaseError>> {
        broken(&self.left, self.after, self.session.begin(table, partition)).boxed()
    }

    fn load<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Loaded, DatabaseError>> {
        broken(
            &self.left,
            self.after,
            self.session.load(table, rows, range, attempt),
        )
        .boxed()
    }

    fn present<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
    ) -> BoxFuture<'a, Result<Vec<usize>, DatabaseError>> {
        broken(&self.left, self.after, self.session.present(table, rows, range)).boxed()
    }

    fn refuse<'a>(
        &'a mut self,
        table: &'a TargetTable,
        rows: &'a Rows,
        refused: &'a [RefusedRow],
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        broken(&self.left, self.after, self.session.refuse(table, rows, refused)).boxed()
    }

    fn commit<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        position: &'a StoredPosition,
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        broken(
            &self.left,
            self.after,
            self.session.commit(table, partition, position),
        )
        .boxed()
    }
}
