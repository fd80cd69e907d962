//! Events in index order, as many as are asked for, written while they are read.
//!
//! An answer is made in chunks. Between two of them nothing but the pin is held, so a client that reads slowly keeps no
//! file open, and however many events it asks for, a chunk or two are in memory. The first chunk is made before the
//! answer begins: what fails until then has a status of its own, and a small answer has its length.
//!
//! Events whose index is not final yet, as in the tail of a topic with several partitions, come last and in any order,
//! unless the body tells a cursor: that would skip what settles in front of it.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::RecordBatch;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use event::StreamDeclaration;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::answer::json;
use super::parameters::Asked;
use super::shape::{EventShape, ShapeWriter};
use super::{EventsView, Order, count, newest};
use crate::analytics::Shared;
use crate::deadline::Deadline;
use crate::events::{read_cursor, write_cursor};
use crate::http::put_as_of;
use crate::pin::Pin;
use crate::sql::{Task, again, as_of, until};
use crate::walk::{Stretch, in_order_of};
use crate::{Analytics, QueryError};

/// Bytes of one chunk of an answer, and of an answer that has its length in its head. Tests have chunks of a few
/// events.
const CHUNK_BYTES: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// What is known when an answer begins.
struct Begun {
    as_of: Value,
    first: Vec<u8>,
    whole: bool,
}

/// Answers a question for events.
pub(super) async fn answer(
    analytics: &Analytics,
    view: EventsView,
    asked: Asked,
) -> Result<Response, QueryError> {
    let shared = Arc::clone(&analytics.shared);
    let permit = shared.admit()?;
    let (begun, handle) = (Instant::now(), shared.compute.handle());
    let deadline = Deadline::after(shared.options.timeout_max);
    let (sender, mut receiver) = mpsc::channel(1);
    let (begin, began) = oneshot::channel();
    let work = handle.spawn(async move {
        // Held by the work, which can outlive whoever asked until its next point of yielding.
        let _permit = permit;
        run(&shared, &view, &asked, begin, &sender).await;
    });
    let task = Task::new(work, Arc::clone(&deadline));
    let found = tokio::time::timeout_at(deadline.at(), began).await;
    metrics::histogram!("tidemill_query_seconds", "kind" => "view").record(begun.elapsed().as_secs_f64());
    let found = found.map_err(|_| deadline.error())?;
    let found =
        found.map_err(|_| QueryError::Storage("the question failed inside the engine".to_owned()))??;
    let first = Bytes::from(found.first);
    let body = if found.whole {
        Body::from(first)
    } else {
        let rest = until(task, move |context| receiver.poll_recv(context));
        Body::from_stream(futures::stream::iter([Ok(first)]).chain(rest))
    };
    let mut response = json(body);
    put_as_of(&mut response, &found.as_of);
    Ok(response)
}

async fn run(
    shared: &Shared,
    view: &EventsView,
    asked: &Asked,
    begin: oneshot::Sender<Result<Begun, QueryError>>,
    sender: &mpsc::Sender<Result<Bytes, QueryError>>,
) {
    let (mut answering, begun) = match again(|| Answering::begin(shared, view, asked)).await {
        Ok(begun) => begun,
        Err(error) => {
            // Nobody waits any more when this fails, here and below.
            let _ = begin.send(Err(error));
            return;
        }
    };
    let whole = begun.whole;
    if begin.send(Ok(begun)).is_err() || whole {
        return;
    }
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        let more = answering.fill(shared, &mut chunk).await;
        let (chunk, more) = match more {
            Ok(more) => (Ok(Bytes::from(chunk)), more),
            Err(error) => (Err(error), false),
        };
        if sender.send(chunk).await.is_err() || !more {
            return;
        }
    }
}

/// An answer that is being written.
struct Answering<'a> {
    view: &'a EventsView,
    asked: &'a Asked,
    pin: Pin,
    /// A copy of the pin's, so that writers borrow nothing that changes.
    stream: Arc<StreamDeclaration>,
    shape: EventShape,
    columns: Vec<String>,
    /// Events that may still come.
    left: usize,
    /// Events that are still to be skipped.
    skip: usize,
    written: bool,
    next_cursor: Option<u64>,
    state: State,
}

/// Where the next chunk goes on.
enum State {
    /// At this index.
    Indexed(u64),
    /// In rows whose index is not final; the batch and its row come first.
    Tail(
        BoxStream<'static, Result<RecordBatch, QueryError>>,
        Option<(RecordBatch, usize)>,
    ),
    /// At the end.
    Done,
}

impl<'a> Answering<'a> {
    async fn begin(
        shared: &Shared,
        view: &'a EventsView,
        asked: &'a Asked,
    ) -> Result<(Self, Begun), QueryError> {
        let limit = limit(view, asked)?;
        let cursor = asked.cursor.as_deref();
        let from = cursor.map_or(Ok(0), |cursor| {
            read_cursor(cursor, view.stream.as_str(), &asked.filter)
        })?;
        let pin = shared.pin(view.stream.as_str(), &[]).await?;
        if limit.is_none() && !asked.nothing {
            check_size(shared, &pin, view, asked).await?;
        }
        let stream = Arc::clone(&pin.declaration);
        let shape = view.shape.clone().unwrap_or_else(|| EventShape::general(&stream));
        let mut columns = shape.columns(&stream);
        columns.extend(asked.filter.columns(stream.time_column()));
        if columns.is_empty() {
            // Rows without any column would not even be counted.
            columns.push(stream.time_column().to_owned());
        }
        columns.sort_unstable();
        columns.dedup();
        let as_of = as_of(&[&pin]);
        let state = if asked.nothing {
            State::Done
        } else {
            State::Indexed(from.max(pin.snapshot.removed))
        };
        let mut answering = Self {
            view,
            asked,
            pin,
            stream,
            shape,
            columns,
            left: limit.unwrap_or(view.limit_max),
            skip: asked.offset,
            written: false,
            next_cursor: None,
            state,
        };
        let mut first = view.body.before.clone();
        first.push(b'[');
        let whole = match view.order {
            Order::Newest if !asked.nothing => {
                answering.newest(shared, &mut first).await?;
                true
            }
            Order::Index | Order::Newest => !answering.fill(shared, &mut first).await?,
        };
        Ok((answering, Begun { as_of, first, whole }))
    }

    /// Writes the next chunk; `false` when it was the last one.
    async fn fill(&mut self, shared: &Shared, out: &mut Vec<u8>) -> Result<bool, QueryError> {
        let enough = out.len() + CHUNK_BYTES;
        while out.len() < enough {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Indexed(from) => self.state = self.indexed(shared, from, out, enough).await?,
                State::Tail(batches, part) => self.state = self.tail(batches, part, out, enough).await?,
                State::Done => {
                    out.push(b']');
                    let cursor = self
                        .next_cursor
                        .map(|index| write_cursor(index, self.view.stream.as_str(), &self.asked.filter));
                    self.view.body.end(out, cursor.as_deref());
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes events from an index on, until the chunk is full.
    async fn indexed(
        &mut self,
        shared: &Shared,
        from: u64,
        out: &mut Vec<u8>,
        enough: usize,
    ) -> Result<State, QueryError> {
        let (asked, stream, shape) = (self.asked, &self.stream, &self.shape);
        let (mut left, mut skip, mut written) = (self.left, self.skip, self.written);
        // What counts every row needs no row that is skipped.
        let mut from = from;
        if asked.filter.is_empty() && skip > 0 {
            from = from.saturating_add(skip as u64);
            skip = 0;
        }
        let (mut state, mut next_cursor) = (None, None);
        let see = |stretch: Stretch| {
            let mask = asked.filter.mask(&stretch.rows, stream.time_column())?;
            let writer = shape.writer(stream, &stretch.rows)?;
            for row in 0..stretch.rows.num_rows() {
                if mask.as_ref().is_some_and(|mask| !mask.value(row)) {
                    continue;
                }
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                let index = stretch.first_index + row as u64;
                if left == 0 {
                    next_cursor = Some(index);
                    state = Some(State::Done);
                    return Ok(false);
                }
                if out.len() >= enough {
                    state = Some(State::Indexed(index));
                    return Ok(false);
                }
                write(&writer, out, &mut written, row, Some(index))?;
                left -= 1;
            }
            Ok(true)
        };
        in_order_of(shared, &self.pin, &self.columns, from, &asked.filter, see).await?;
        (self.left, self.skip, self.written, self.next_cursor) = (left, skip, written, next_cursor);
        Ok(state.unwrap_or_else(|| self.unsettled(shared, from)))
    }

    /// What comes after the last event whose index is final.
    fn unsettled(&mut self, shared: &Shared, from: u64) -> State {
        if self.pin.tail_index().is_some() || self.view.body.has_cursor() || self.left == 0 {
            return State::Done;
        }
        if self.asked.filter.is_empty() {
            // The offset can lie beyond what has an index.
            let beyond = from.saturating_sub(self.pin.lake_end());
            self.skip = usize::try_from(beyond).unwrap_or(usize::MAX);
        }
        State::Tail(shared.pinner.tail.read_pin(&self.pin), None)
    }

    /// Writes events without an index, until the chunk is full.
    async fn tail(
        &mut self,
        mut batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
        mut part: Option<(RecordBatch, usize)>,
        out: &mut Vec<u8>,
        enough: usize,
    ) -> Result<State, QueryError> {
        loop {
            let (rows, from) = match part.take() {
                Some(part) => part,
                None => match batches.next().await {
                    Some(rows) => (rows?, 0),
                    None => return Ok(State::Done),
                },
            };
            let mask = self.asked.filter.mask(&rows, self.stream.time_column())?;
            let writer = self.shape.writer(&self.stream, &rows)?;
            for row in from..rows.num_rows() {
                if mask.as_ref().is_some_and(|mask| !mask.value(row)) {
                    continue;
                }
                if self.skip > 0 {
                    self.skip -= 1;
                    continue;
                }
                if self.left == 0 {
                    return Ok(State::Done);
                }
                if out.len() >= enough {
                    return Ok(State::Tail(batches, Some((rows, row))));
                }
                write(&writer, out, &mut self.written, row, None)?;
                self.left -= 1;
            }
        }
    }

    /// Writes the newest events and the end.
    async fn newest(&mut self, shared: &Shared, out: &mut Vec<u8>) -> Result<(), QueryError> {
        let (filter, columns) = (&self.asked.filter, &self.columns);
        let chosen = newest::choose(shared, &self.pin, columns, filter, self.skip, self.left).await?;
        let writers = chosen
            .batches
            .iter()
            .map(|rows| self.shape.writer(&self.stream, rows));
        let writers: Vec<ShapeWriter<'_>> = writers.collect::<Result<_, _>>()?;
        for place in &chosen.places {
            write(
                &writers[place.batch],
                out,
                &mut self.written,
                place.row,
                place.index,
            )?;
        }
        out.push(b']');
        self.view.body.end(out, None);
        Ok(())
    }
}

fn write(
    writer: &ShapeWriter<'_>,
    out: &mut Vec<u8>,
    written: &mut bool,
    row: usize,
    index: Option<u64>,
) -> Result<(), QueryError> {
    if *written {
        out.push(b',');
    }
    *written = true;
    writer.write(out, row, index)
}

/// How many events are asked for; `None` for all that there are.
fn limit(view: &EventsView, asked: &Asked) -> Result<Option<usize>, QueryError> {
    let limit = asked.limit.or(view.limit);
    if let Some(limit) = limit.filter(|limit| *limit > view.limit_max) {
        return Err(QueryError::TooLarge(format!(
            "{limit} events are asked for, and one answer has at most {}: ask for fewer at a time",
            view.limit_max
        )));
    }
    let last = limit.unwrap_or(view.limit_max).saturating_add(asked.offset);
    if view.order == Order::Newest && last > super::NEWEST_EVENTS_MAX {
        return Err(QueryError::TooLarge(format!(
            "the newest events are asked for up to number {last}, and {} can be: ask for a range of time, or in the \
             order of the index",
            super::NEWEST_EVENTS_MAX
        )));
    }
    Ok(limit)
}

/// An answer is whole or none: nobody is told part of a range as if it were all of it.
async fn check_size(shared: &Shared, pin: &Pin, view: &EventsView, asked: &Asked) -> Result<(), QueryError> {
    let most = (view.limit_max as u64).saturating_add(asked.offset as u64);
    if count::more_than(shared, pin, &asked.filter, most).await? {
        return Err(QueryError::TooLarge(format!(
            "the range has more than {} events, which is the most that one answer has: ask for a shorter range, or for \
             `limit` events at a time",
            view.limit_max
        )));
    }
    Ok(())
}
