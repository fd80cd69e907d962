//! Ad-hoc SQL: admitted, planned, run on threads of its own, bounded in time, memory and rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use bytes::Bytes;
use datafusion::common::ParamValues;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use event::Position;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::analytics::Shared;
use crate::deadline::{Deadline, watched};
use crate::encode::{Encoder, unwritable, write_row};
use crate::json::write_text;
use crate::pin::Pin;
use crate::question::Question;
use crate::session::{QueryTables, for_query};
use crate::{Format, QueryError, Readable, growth, guard, offset, time_offset, wildcard};
use event::batch::bytes_of_rows;

/// Rows of a JSON or text answer when the request names no limit.
const DOCUMENT_ROWS: usize = 10_000;
/// Bytes of a JSON or text answer, which is made in memory.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// A question in SQL.
#[derive(Clone, Debug, Default)]
pub struct SqlRequest {
    /// One SELECT, WITH, VALUES, EXPLAIN, DESCRIBE or SHOW.
    pub sql: String,
    /// Values of `$1` … (a list) or `$name` (an object).
    pub params: Option<Value>,
    /// Most rows of the answer.
    pub limit: Option<usize>,
    /// Longest time; the options bound it.
    pub timeout: Option<Duration>,
    /// Waits until the journal has reached these positions of every stream that is asked.
    pub min_position: Vec<Position>,
    /// The streams that are there for this question; none by default.
    pub readable: Readable,
}

/// Bytes of an answer.
pub enum SqlBody {
    /// The whole of it.
    Whole(Vec<u8>),
    /// As it comes; an error ends it abnormally.
    Stream(BoxStream<'static, Result<Bytes, QueryError>>),
}

/// An answer.
pub struct SqlAnswer {
    /// How it is written.
    pub format: Format,
    /// The positions that it reflects, as JSON.
    pub as_of: Value,
    /// Its bytes.
    pub body: SqlBody,
}

/// A planned query that has begun.
struct Running {
    rows: SendableRecordBatchStream,
    schema: SchemaRef,
    as_of: Value,
    /// They keep what is read in the journal until the answer ends.
    _pins: Vec<Arc<Pin>>,
}

/// What is known when an answer begins: its positions and, for a document, all of it.
type Begun = Result<(Value, Option<Vec<u8>>), QueryError>;

/// Answers on the threads of this process.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    handle: &tokio::runtime::Handle,
    question: Question,
) -> Result<SqlAnswer, QueryError> {
    let permit = shared.admit_sql()?;
    let format = question.format;
    let deadline = Deadline::after(question.timeout);
    let (sender, mut receiver) = mpsc::channel::<Result<Bytes, QueryError>>(4);
    let (begin, began) = tokio::sync::oneshot::channel();
    let wanted = Arc::clone(&deadline);
    let work = handle.spawn(async move {
        let _permit = permit;
        run(&shared, question, &wanted, begin, &sender).await;
    });
    let mut task = Task::new(work, Arc::clone(&deadline));
    let began = tokio::time::timeout_at(deadline.at(), began)
        .await
        .map_err(|_| deadline.error())?;
    let (as_of, whole) = began.map_err(|_| QueryError::Engine)??;
    let body = match whole {
        Some(bytes) => SqlBody::Whole(bytes),
        None => {
            // An error before the first row still gets a status of its own.
            let first = tokio::time::timeout_at(deadline.at(), receiver.recv())
                .await
                .map_err(|_| deadline.error())?;
            let first = first.transpose()?;
            if first.is_none() {
                // Nothing at all came, not even what ends an answer: the engine panicked.
                return Err(match (&mut task.work).await {
                    Ok(()) => QueryError::Storage("the query gave no answer".to_owned()),
                    Err(_) => QueryError::Engine,
                });
            }
            let rest = until(task, move |context| receiver.poll_recv(context));
            SqlBody::Stream(futures::stream::iter(first.map(Ok)).chain(rest).boxed())
        }
    };
    Ok(SqlAnswer { format, as_of, body })
}

async fn run(
    shared: &Arc<Shared>,
    question: Question,
    deadline: &Arc<Deadline>,
    begin: tokio::sync::oneshot::Sender<Begun>,
    sender: &mpsc::Sender<Result<Bytes, QueryError>>,
) {
    let begun = Instant::now();
    let (format, limit) = (question.format, question.limit);
    if !format.streams() {
        let whole = again(|| async {
            let running = start(shared, question.clone(), deadline).await?;
            let as_of = running.as_of.clone();
            Ok((as_of, Some(document(running, format, limit, begun).await?)))
        });
        let _ = begin.send(whole.await);
        return;
    }
    let rows_max = shared.options.sql_rows_max;
    match start(shared, question, deadline).await {
        Ok(running) => {
            let _ = begin.send(Ok((running.as_of.clone(), None)));
            if let Err(error) = stream(running, format, limit, rows_max, sender).await {
                let _ = sender.send(Err(error)).await;
            }
        }
        Err(error) => {
            let _ = begin.send(Err(error));
        }
    }
}

/// Asks again when the journal let go of the tail between the pin and the reading: the lake has it by then.
pub(crate) async fn again<T, F: Future<Output = Result<T, QueryError>>>(
    question: impl Fn() -> F,
) -> Result<T, QueryError> {
    for _ in 0..4 {
        match question().await {
            Err(QueryError::Moved(_)) => {}
            answer => return answer,
        }
    }
    question().await
}

/// Ends its query when nobody waits for it any more.
pub(crate) struct Task {
    work: tokio::task::JoinHandle<()>,
    deadline: Arc<Deadline>,
}

impl Task {
    /// Work that is wanted until the deadline.
    pub(crate) fn new(work: tokio::task::JoinHandle<()>, deadline: Arc<Deadline>) -> Self {
        Self { work, deadline }
    }

    fn end(&self) {
        self.deadline.leave();
        self.work.abort();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.end();
    }
}

/// The rest of an answer, until the deadline.
pub(crate) fn until(
    task: Task,
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Bytes, QueryError>>>
    + Send
    + 'static,
) -> impl futures::Stream<Item = Result<Bytes, QueryError>> + Send {
    let (mut task, mut ended) = (task, false);
    let mut timer = Box::pin(tokio::time::sleep_until(task.deadline.at()));
    futures::stream::poll_fn(move |context| {
        use std::future::Future;
        use std::task::Poll;
        if ended {
            return Poll::Ready(None);
        }
        let item = match poll(context) {
            Poll::Ready(Some(item)) => item,
            // The channel closes with the task; if that panicked, the answer must not look whole.
            Poll::Ready(None) => match std::pin::Pin::new(&mut task.work).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {
                    ended = true;
                    return Poll::Ready(None);
                }
                Poll::Ready(Err(_)) => Err(QueryError::Engine),
            },
            Poll::Pending => match timer.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => Err(task.deadline.error()),
            },
        };
        ended = item.is_err();
        if ended {
            task.end();
        }
        Poll::Ready(Some(item))
    })
}

async fn start(
    shared: &Arc<Shared>,
    question: Question,
    deadline: &Arc<Deadline>,
) -> Result<Running, QueryError> {
    let mut statement = guard::admit(&question.sql, shared.options.sql_bytes_max)?;
    let hidden = wildcard::mentioned(&question.sql);
    wildcard::exclude(&mut statement, &shared.catalog, &question.readable, &hidden);
    let tables = QueryTables::new(
        shared.catalog.clone(),
        question.readable,
        Arc::clone(&shared.pinner),
        hidden,
        question.min_position,
        question.seen,
    );
    let session = for_query(&shared.base, Arc::clone(&tables))?;
    let plan = session.state().statement_to_plan(statement).await?;
    let plan = match question.params {
        Some(params) => plan.with_param_values(ParamValues::from(params))?,
        None => plan,
    };
    growth::check(&plan)?;
    let plan = time_offset::by_time(offset::by_index(plan)?, shared).await?;
    let frame = session.execute_logical_plan(plan).await?;
    let context = Arc::new(frame.task_ctx());
    let plan = watched(frame.create_physical_plan().await?, deadline)?;
    let rows = execute_stream(plan, context)?;
    Ok(Running {
        schema: rows.schema(),
        rows,
        as_of: as_of(&tables.pins()),
        _pins: tables.pins(),
    })
}

/// Which lake version and which journal positions an answer reflects.
pub(crate) fn as_of<P: std::ops::Deref<Target = Pin>>(pins: &[P]) -> Value {
    let mut streams = Map::new();
    for pin in pins {
        let end: Vec<Value> = pin
            .end
            .iter()
            .map(|at| serde_json::json!({"partition": at.partition.0, "offset": at.offset.0}))
            .collect();
        let at = serde_json::json!({"lake_version": pin.snapshot.version, "positions": end});
        streams.insert(pin.declaration.name.as_str().to_owned(), at);
    }
    Value::Object(streams)
}

async fn stream(
    mut running: Running,
    format: Format,
    limit: Option<usize>,
    rows_max: u64,
    sender: &mpsc::Sender<Result<Bytes, QueryError>>,
) -> Result<(), QueryError> {
    let mut encoder = Encoder::new(format, &running.schema)?;
    let mut total = 0u64;
    while let Some(batch) = running.rows.next().await {
        let mut batch = batch?;
        if let Some(limit) = limit {
            let left = (limit as u64).saturating_sub(total) as usize;
            batch = batch.slice(0, batch.num_rows().min(left));
        }
        total += batch.num_rows() as u64;
        if total > rows_max {
            return Err(QueryError::TooLarge(format!(
                "the answer has more than {rows_max} rows"
            )));
        }
        let bytes = encoder.batch(&batch)?;
        if !bytes.is_empty() && sender.send(Ok(bytes.into())).await.is_err() {
            return Ok(());
        }
        if limit.is_some_and(|limit| total >= limit as u64) {
            break;
        }
    }
    let _ = sender.send(Ok(encoder.finish()?.into())).await;
    Ok(())
}

async fn document(
    mut running: Running,
    format: Format,
    limit: Option<usize>,
    begun: Instant,
) -> Result<Vec<u8>, QueryError> {
    let limit = limit.unwrap_or(DOCUMENT_ROWS);
    let (mut batches, mut total, mut truncated, mut bytes) = (Vec::new(), 0, false, 0);
    while let Some(batch) = running.rows.next().await {
        let batch = batch?;
        let kept = batch.num_rows().min(limit - total);
        truncated |= kept < batch.num_rows();
        if kept > 0 {
            batches.push(batch.slice(0, kept));
            bytes += bytes_of_rows(&batch.slice(0, kept));
        }
        total += kept;
        if truncated {
            break;
        }
        within(bytes)?;
    }
    match format {
        Format::Text => text(&batches, &running.schema, total, truncated),
        _ => json(&batches, &running, total, truncated, begun),
    }
}

fn text(
    batches: &[RecordBatch],
    schema: &SchemaRef,
    total: usize,
    truncated: bool,
) -> Result<Vec<u8>, QueryError> {
    let empty = [RecordBatch::new_empty(Arc::clone(schema))];
    let batches = if batches.is_empty() { &empty[..] } else { batches };
    let bytes = schema
        .fields()
        .iter()
        .enumerate()
        .fold(0, |bytes, (column, field)| {
            // Every cell is as wide as the widest.
            let widths = batches.iter().map(|batch| widest(batch.column(column)));
            bytes + total * widths.max().unwrap_or(0).max(field.name().len())
        });
    within(bytes)?;
    let table = arrow_cast::pretty::pretty_format_batches(batches);
    let table = table.map_err(|error| unwritable(Format::Text, &error))?;
    let mut out = table.to_string().into_bytes();
    let more = if truncated { ", truncated" } else { "" };
    let rows = if total == 1 { "row" } else { "rows" };
    out.extend_from_slice(format!("\n{total} {rows}{more}\n").as_bytes());
    within(out.len())?;
    Ok(out)
}

fn json(
    batches: &[RecordBatch],
    running: &Running,
    total: usize,
    truncated: bool,
    begun: Instant,
) -> Result<Vec<u8>, QueryError> {
    let mut out = b"{\"columns\":[".to_vec();
    for (at, field) in running.schema.fields().iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"name\":" } else { b"{\"name\":" });
        write_text(&mut out, field.name());
        out.extend_from_slice(b",\"type\":");
        write_text(&mut out, &crate::columns::type_name(field.data_type()));
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"rows\":[");
    let mut first = true;
    for batch in batches {
        for row in 0..batch.num_rows() {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_row(&mut out, batch, row).map_err(|error| unwritable(Format::Json, &error))?;
        }
        within(out.len())?;
    }
    let tail = format!(
        "],\"row_count\":{total},\"truncated\":{truncated},\"as_of\":{},\"elapsed_ms\":{}}}\n",
        running.as_of,
        begun.elapsed().as_millis()
    );
    out.extend_from_slice(tail.as_bytes());
    Ok(out)
}

/// At least the length of the longest text, or of a nested value, in a column.
fn widest(column: &ArrayRef) -> usize {
    let longest = |rows: &mut dyn Iterator<Item = usize>| rows.max().unwrap_or(0);
    let rows = 0..column.len();
    match column.data_type() {
        DataType::Utf8 => longest(&mut column.as_string::<i32>().iter().flatten().map(str::len)),
        DataType::LargeUtf8 => longest(&mut column.as_string::<i64>().iter().flatten().map(str::len)),
        DataType::Utf8View => longest(&mut column.as_string_view().iter().flatten().map(str::len)),
        kind if kind.is_nested() || kind.is_binary() => longest(&mut rows.map(|row| {
            let value = column.slice(row, 1).to_data();
            value.get_slice_memory_size().unwrap_or(0)
        })),
        _ => 0,
    }
}

fn within(bytes: usize) -> Result<(), QueryError> {
    if bytes <= DOCUMENT_BYTES_MAX {
        return Ok(());
    }
    Err(QueryError::TooLarge(format!(
        "the answer exceeds {DOCUMENT_BYTES_MAX} bytes: ask for NDJSON, CSV, Arrow or Parquet, which stream"
    )))
}
