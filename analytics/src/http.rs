//! The routes of questions (design §5).

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use event::{FieldType, StreamDeclaration, schema};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::analytics::Shared;
use crate::columns::type_name;
use crate::events::{PAGE_EVENTS, PAGE_EVENTS_MAX, nth, page};
use crate::parameters::{Filter, interval, moment, positions, wanted};
use crate::sql::again;
use crate::stats::{StatsQuestion, stats};
use crate::{Analytics, QueryError, Readable, problem, sql_http};

/// Bytes of a request's body beside its SQL text: parameters, and what JSON escapes.
const BODY_BYTES_BESIDE: usize = 256 << 10;

pub(crate) fn router(analytics: Analytics) -> Router {
    let body_bytes_max = 2 * analytics.shared.options.sql_bytes_max + BODY_BYTES_BESIDE;
    Router::new()
        .route("/v1/streams", get(streams))
        .route("/v1/streams/{stream}", get(stream))
        .route("/v1/streams/{stream}/events", get(events))
        .route("/v1/streams/{stream}/events/{index}", get(event))
        .route("/v1/streams/{stream}/stats", get(stream_stats))
        .route("/v1/stats", get(all_stats))
        .route("/v1/sql", get(sql_http::get).post(sql_http::post))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(analytics)
}

async fn nowhere() -> QueryError {
    QueryError::NotFound("there is no such route".to_owned())
}

async fn not_allowed(method: Method) -> Response {
    problem::answer(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("{method} is not allowed here"),
    )
}

/// Runs a question on the threads that compute, within the time limit; dropping the future ends it.
pub(crate) async fn compute<T, F>(
    analytics: &Analytics,
    kind: &'static str,
    question: impl Fn(Arc<Shared>) -> F + Send + Sync + 'static,
) -> Result<T, QueryError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, QueryError>> + Send,
{
    let shared = Arc::clone(&analytics.shared);
    let permit = shared.admit()?;
    let (begun, limit) = (Instant::now(), shared.options.timeout);
    let mut tasks = tokio::task::JoinSet::new();
    let handle = shared.compute.handle();
    let work = async move {
        // Held by the work, which can outlive whoever asked until its next point of yielding.
        let _permit = permit;
        again(|| question(Arc::clone(&shared))).await
    };
    tasks.spawn_on(work, &handle);
    let answer = match tokio::time::timeout(limit, tasks.join_next()).await {
        Err(_) => Err(QueryError::Timeout(limit.as_millis())),
        Ok(Some(Ok(answer))) => answer,
        Ok(_) => Err(QueryError::Storage(
            "the question failed inside the engine".to_owned(),
        )),
    };
    metrics::histogram!("tidemill_query_seconds", "kind" => kind).record(begun.elapsed().as_secs_f64());
    answer
}

/// Parts of a path, which need not be UTF-8 once their escapes are gone.
type Part<T> = Result<Path<T>, PathRejection>;

fn part<T>(part: Part<T>) -> Result<T, QueryError> {
    match part {
        Ok(Path(part)) => Ok(part),
        Err(error) => Err(QueryError::Invalid(error.body_text())),
    }
}

/// A JSON answer of bytes.
fn document(bytes: Vec<u8>) -> Response {
    let mut response = bytes.into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Names the positions that an answer reflects in its head, where its body has no place for them.
pub(crate) fn put_as_of(response: &mut Response, as_of: &Value) {
    if let Ok(as_of) = HeaderValue::from_str(&as_of.to_string()) {
        response.headers_mut().insert("as-of", as_of);
    }
}

fn value(value: &Value) -> Response {
    document(format!("{value}\n").into_bytes())
}

/// The query's parameters, each at most once.
pub(crate) fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, QueryError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(QueryError::Invalid(format!("`{name}` is there twice")));
        }
        pairs.push((name.into_owned(), value.into_owned()));
    }
    Ok(pairs)
}

async fn streams(State(analytics): State<Analytics>, readable: Readable) -> Result<Response, QueryError> {
    let work = move |shared: Arc<Shared>| {
        let readable = readable.clone();
        async move {
            let mut all = Vec::new();
            for declaration in readable.of(&shared.catalog) {
                all.push(describe(&shared, declaration).await?);
            }
            Ok(json!({"streams": all}))
        }
    };
    Ok(value(&compute(&analytics, "streams", work).await?))
}

async fn stream(
    State(analytics): State<Analytics>,
    readable: Readable,
    name: Part<String>,
) -> Result<Response, QueryError> {
    let name = part(name)?;
    readable.check(&name)?;
    let work = move |shared: Arc<Shared>| {
        let name = name.clone();
        async move { describe(&shared, shared.stream(&name)?).await }
    };
    Ok(value(&compute(&analytics, "stream", work).await?))
}

async fn event(
    State(analytics): State<Analytics>,
    readable: Readable,
    parts: Part<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, QueryError> {
    let (name, index) = part(parts)?;
    readable.check(&name)?;
    let index = index.parse().map_err(|_| {
        let shown: String = index.chars().take(64).collect();
        QueryError::Invalid(format!("`{shown}` is no index, expected 0, 1, 2 …"))
    })?;
    let mut min_position = Vec::new();
    for (key, text) in pairs(query.as_deref())? {
        match key.as_str() {
            "min_position" => min_position = positions(&text)?,
            _ => {
                return Err(QueryError::Invalid(format!(
                    "`{key}` is no parameter of an event"
                )));
            }
        }
    }
    let work = move |shared: Arc<Shared>| {
        let (name, min_position) = (name.clone(), min_position.clone());
        async move { nth(&shared, &name, index, &min_position).await }
    };
    let (event, as_of) = compute(&analytics, "event", work).await?;
    let mut response = document(event);
    put_as_of(&mut response, &as_of);
    Ok(response)
}

async fn events(
    State(analytics): State<Analytics>,
    readable: Readable,
    name: Part<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, QueryError> {
    let name = part(name)?;
    readable.check(&name)?;
    let declaration = analytics.shared.stream(&name)?;
    let (mut filter, mut limit, mut cursor) = (Filter::default(), PAGE_EVENTS, None);
    for (key, text) in pairs(query.as_deref())? {
        match key.as_str() {
            "limit" => {
                let found = text
                    .parse()
                    .ok()
                    .filter(|limit| (1..=PAGE_EVENTS_MAX).contains(limit));
                limit = found.ok_or_else(|| {
                    QueryError::Invalid(format!("`limit` is `{text}`, expected 1 to {PAGE_EVENTS_MAX}"))
                })?;
            }
            "cursor" => cursor = Some(text),
            _ => narrow(&mut filter, declaration, &key, &text)?,
        }
    }
    let work = move |shared: Arc<Shared>| {
        let (name, filter, cursor) = (name.clone(), filter.clone(), cursor.clone());
        async move { page(&shared, &name, &filter, limit, cursor.as_deref()).await }
    };
    Ok(document(compute(&analytics, "range", work).await?))
}

fn narrow(filter: &mut Filter, stream: &StreamDeclaration, key: &str, text: &str) -> Result<(), QueryError> {
    match key {
        "start" => filter.start = Some(moment(key, text)?),
        "end" => filter.end = Some(moment(key, text)?),
        "min_position" => filter.min_position = positions(text)?,
        field => filter
            .equal
            .push((field.to_owned(), wanted(stream, field, text)?)),
    }
    Ok(())
}

async fn stream_stats(
    State(analytics): State<Analytics>,
    readable: Readable,
    name: Part<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, QueryError> {
    let name = part(name)?;
    readable.check(&name)?;
    let declaration = analytics.shared.stream(&name)?;
    let mut question = StatsQuestion::default();
    for (key, text) in pairs(query.as_deref())? {
        match key.as_str() {
            "interval" => question.interval = Some(interval(&text)?),
            "by" => question.by = Some(text),
            "exact" => {
                question.exact = text.parse().map_err(|_| {
                    QueryError::Invalid(format!("`exact` is `{text}`, expected true or false"))
                })?;
            }
            _ => narrow(&mut question.filter, declaration, &key, &text)?,
        }
    }
    let work = move |shared: Arc<Shared>| {
        let (name, question) = (name.clone(), question.clone());
        async move { stats(&shared, &name, &question).await }
    };
    Ok(value(&compute(&analytics, "stats", work).await?))
}

async fn all_stats(State(analytics): State<Analytics>, readable: Readable) -> Result<Response, QueryError> {
    let work = move |shared: Arc<Shared>| {
        let readable = readable.clone();
        async move {
            let mut all = Vec::new();
            for declaration in readable.of(&shared.catalog) {
                all.push(stats(&shared, declaration.name.as_str(), &StatsQuestion::default()).await?);
            }
            Ok(json!({"streams": all}))
        }
    };
    Ok(value(&compute(&analytics, "all_stats", work).await?))
}

/// A stream's declaration, columns and state.
async fn describe(shared: &Shared, stream: &Arc<StreamDeclaration>) -> Result<Value, QueryError> {
    let pin = shared.pinner.pin(stream).await?;
    let fields = stream.fields.iter().map(|field| {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), json!(field.name));
        entry.insert("type".to_owned(), json!(kind(&field.kind)));
        entry.insert("optional".to_owned(), json!(field.optional));
        if let FieldType::Enum { values } = &field.kind {
            entry.insert("values".to_owned(), json!(values));
        }
        if !field.description.is_empty() {
            entry.insert("description".to_owned(), json!(field.description));
        }
        if field.path != [field.name.clone()] {
            entry.insert("from".to_owned(), json!(field.path.join(".")));
        }
        Value::Object(entry)
    });
    let columns = crate::pin::table_schema(stream);
    let columns = columns.fields().iter().map(|column| {
        json!({"name": column.name(), "type": type_name(column.data_type()), "nullable": column.is_nullable()})
    });
    let positions = |positions: &[event::Position]| -> Vec<Value> {
        let positions = positions.iter();
        positions
            .map(|at| json!({"partition": at.partition.0, "offset": at.offset.0}))
            .collect()
    };
    Ok(json!({
        "name": stream.name.as_str(),
        "version": stream.version,
        "description": stream.description,
        "routes": stream.routes,
        "time": stream.time_column(),
        "key": stream.key,
        "unique": stream.unique.as_ref().map(|unique| json!({
            "field": unique.field,
            "window_seconds": unique.window.as_secs(),
            "ids_max": unique.ids_max,
        })),
        "retention_seconds": stream.retention.map(|retention| retention.as_secs()),
        "fields": fields.collect::<Vec<_>>(),
        "columns": columns.collect::<Vec<_>>(),
        "removed": pin.snapshot.removed,
        "lake": {"version": pin.snapshot.version, "events": pin.lake_end() - pin.snapshot.removed,
            "files": pin.snapshot.files.len(), "positions": positions(&pin.snapshot.positions)},
        "journal": {"positions": positions(&pin.end)},
        "lag_records": pin.lag(),
        "hidden_columns": crate::session::HIDDEN.map(Value::from).to_vec(),
        "index_column": schema::INDEX,
    }))
}

fn kind(kind: &FieldType) -> &'static str {
    match kind {
        FieldType::Bool => "bool",
        FieldType::Int { .. } => "int",
        FieldType::Float { .. } => "float",
        FieldType::String { .. } => "string",
        FieldType::Enum { .. } => "enum",
        FieldType::Uuid => "uuid",
        FieldType::Timestamp { .. } => "timestamp",
        FieldType::Json => "json",
    }
}
