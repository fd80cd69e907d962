//! One connection. A transaction is gathered here and done by one script at its end, because Redis has no other step
//! that compares, publishes and stores together.

use std::ops::Range;
use std::sync::{Arc, LazyLock, PoisonError};

use event::{Offset, Partition, StreamName};
use futures::FutureExt;
use futures::future::BoxFuture;
use redis::Script;
use redis::aio::MultiplexedConnection;

use super::Shared;
use super::error::failure;
use crate::database::event_text::write_event;
use crate::database::{
    Attempt, DatabaseError, Loaded, RefusedRow, Rows, Session, StoredPosition, TargetTable,
};

/// Gives the position, and stores the given one when there is none.
static POSITION: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('EXISTS', KEYS[1]) == 0 then \
           redis.call('HSET', KEYS[1], 'journal', ARGV[1], 'offset', ARGV[2]) \
         end \
         return redis.call('HMGET', KEYS[1], 'journal', 'offset')",
    )
});

/// Publishes everything and stores the position, unless the position is not where it should be. Gives what it found
/// before, in both cases. Offsets are compared as texts: numbers of scripts are doubles.
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local found = redis.call('HMGET', KEYS[1], 'journal', 'offset') \
         if found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then return found end \
         for i = 5, #ARGV do redis.call('PUBLISH', ARGV[4], ARGV[i]) end \
         redis.call('HSET', KEYS[1], 'offset', ARGV[3]) \
         return found",
    )
});

/// What a script found: the journal and the offset.
type Found = (Option<String>, Option<String>);

/// One connection.
pub(super) struct RedisSession {
    connection: MultiplexedConnection,
    shared: Arc<Shared>,
    /// Where the open transaction began.
    begun: Option<StoredPosition>,
    messages: Vec<Vec<u8>>,
}

impl RedisSession {
    pub(super) fn new(connection: MultiplexedConnection, shared: Arc<Shared>) -> Self {
        Self {
            connection,
            shared,
            begun: None,
            messages: Vec::new(),
        }
    }

    fn key(&self, stream: &StreamName, partition: Partition) -> String {
        format!("{}:{stream}:{partition}", self.shared.options.group)
    }

    /// Where to begin when Redis knows nothing.
    async fn beginning(&self, stream: &StreamName, partition: Partition) -> Result<Offset, DatabaseError> {
        let key = self.key(stream, partition);
        let known = self
            .shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let starts = self.shared.journal.start(stream).await;
        let starts = starts.map_err(|error| DatabaseError::Outage {
            operation: "ask the journal where it begins",
            message: error.to_string(),
        })?;
        let start = starts.iter().find(|start| start.partition == partition);
        Ok(start.map_or(Offset(0), |start| start.offset))
    }

    fn remember(&self, key: String, offset: Offset) {
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, offset);
    }
}

/// A position as Redis has it.
fn stored(found: Found) -> Result<Option<StoredPosition>, DatabaseError> {
    let (journal, offset) = match found {
        (None, None) => return Ok(None),
        found => found,
    };
    let parsed = offset.as_ref().and_then(|offset| offset.parse().ok());
    match journal.zip(parsed) {
        Some((journal, offset)) => Ok(Some(StoredPosition {
            journal,
            offset: Offset(offset),
        })),
        None => Err(DatabaseError::Denied {
            operation: "read the position",
            message: "its key holds something else".to_owned(),
        }),
    }
}

impl Session for RedisSession {
    fn prepare<'a>(&'a mut self, _table: &'a Arc<TargetTable>) -> BoxFuture<'a, Result<(), DatabaseError>> {
        // There are no tables.
        std::future::ready(Ok(())).boxed()
    }

    fn position<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        journal: &'a str,
    ) -> BoxFuture<'a, Result<StoredPosition, DatabaseError>> {
        async move {
            let stream = &table.stream.name;
            let beginning = self.beginning(stream, partition).await?;
            let key = self.key(stream, partition);
            let mut asked = POSITION.key(&key);
            asked.arg(journal).arg(beginning.0);
            let found: Found = asked
                .invoke_async(&mut self.connection)
                .await
                .map_err(|error| failure("read the position", &error))?;
            let found = stored(found)?.ok_or_else(|| DatabaseError::Outage {
                operation: "read the position",
                message: "it was not stored".to_owned(),
            })?;
            if found.journal == journal {
                self.remember(key, found.offset);
            }
            Ok(found)
        }
        .boxed()
    }

    fn begin<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
    ) -> BoxFuture<'a, Result<Option<StoredPosition>, DatabaseError>> {
        async move {
            let key = self.key(&table.stream.name, partition);
            let found: Found = redis::cmd("HMGET")
                .arg(key)
                .arg("journal")
                .arg("offset")
                .query_async(&mut self.connection)
                .await
                .map_err(|error| failure("read the position", &error))?;
            self.messages.clear();
            self.begun = stored(found)?;
            Ok(self.begun.clone())
        }
        .boxed()
    }

    fn load<'a>(
        &'a mut self,
        table: &'a Arc<TargetTable>,
        rows: &'a Arc<Rows>,
        range: Range<usize>,
        _attempt: Attempt,
    ) -> BoxFuture<'a, Result<Loaded, DatabaseError>> {
        for slice in rows.slices(range) {
            for row in slice.range {
                let mut message = Vec::new();
                write_event(&mut message, &table.stream, slice.batch, row);
                self.messages.push(message);
            }
        }
        let unwritable = Vec::new();
        std::future::ready(Ok(Loaded::Rows { unwritable })).boxed()
    }

    fn refuse<'a>(
        &'a mut self,
        _table: &'a TargetTable,
        _rows: &'a Rows,
        _refused: &'a [RefusedRow],
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        // Every event has a form as JSON, so none is refused.
        std::future::ready(Ok(())).boxed()
    }

    fn commit<'a>(
        &'a mut self,
        table: &'a TargetTable,
        partition: Partition,
        position: &'a StoredPosition,
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async move {
            let from = self.begun.take().map_or(Offset(0), |begun| begun.offset);
            let key = self.key(&table.stream.name, partition);
            let channel = self.shared.options.channel_of(&table.stream.name);
            let expected = (Some(position.journal.clone()), Some(from.to_string()));
            let mut script = PUBLISH.key(&key);
            script
                .arg(&position.journal)
                .arg(from.0)
                .arg(position.offset.0)
                .arg(channel);
            for message in self.messages.drain(..) {
                script.arg(message);
            }
            let found: Found = script
                .invoke_async(&mut self.connection)
                .await
                .map_err(|error| failure("publish", &error))?;
            if found != expected {
                let (journal, offset) = found;
                let found = offset
                    .zip(journal)
                    .map(|(offset, journal)| format!("{offset} of journal `{journal}`"));
                return Err(DatabaseError::Moved {
                    found: found.unwrap_or_else(|| "nothing".to_owned()),
                    expected: from,
                });
            }
            self.remember(key, position.offset);
            Ok(())
        }
        .boxed()
    }
}
