//! `/v1/sql`: the statement as JSON, plain text or a parameter, the answer by `Accept`.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use crate::http::{pairs, put_as_of};
use crate::parameters::positions;
use crate::problem;
use crate::{Analytics, Format, QueryError, Readable, SqlBody, SqlRequest};

pub(crate) async fn get(
    State(analytics): State<Analytics>,
    readable: Readable,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, QueryError> {
    let mut request = SqlRequest {
        readable,
        ..SqlRequest::default()
    };
    parameters(&mut request, query.as_deref())?;
    if request.sql.is_empty() {
        return Err(QueryError::Invalid("`q` is missing".to_owned()));
    }
    respond(&analytics, request, &headers).await
}

pub(crate) async fn post(
    State(analytics): State<Analytics>,
    readable: Readable,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, QueryError> {
    let body = match body {
        Ok(body) => body,
        Err(error) => return Ok(problem::answer(error.status(), &error.body_text())),
    };
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let json = media.is_some_and(|media| media.trim_start().starts_with("application/json"));
    let mut request = if json {
        from_json(&body)?
    } else {
        let sql =
            std::str::from_utf8(&body).map_err(|_| QueryError::Invalid("the SQL is not UTF-8".to_owned()))?;
        SqlRequest {
            sql: sql.to_owned(),
            ..SqlRequest::default()
        }
    };
    request.readable = readable;
    parameters(&mut request, query.as_deref())?;
    respond(&analytics, request, &headers).await
}

fn from_json(body: &[u8]) -> Result<SqlRequest, QueryError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| QueryError::Invalid(format!("the body is no JSON: {error}")))?;
    let Value::Object(members) = value else {
        return Err(QueryError::Invalid(
            "the body is a JSON object with `sql`".to_owned(),
        ));
    };
    let mut request = SqlRequest::default();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("sql", Value::String(sql)) => request.sql = sql,
            ("params", value) => request.params = Some(value).filter(|value| !value.is_null()),
            ("limit" | "timeout" | "min_position", Value::Null) => {}
            ("limit", value) => request.limit = Some(limit(&plain(&value))?),
            ("timeout", value) => request.timeout = Some(timeout(&plain(&value))?),
            ("min_position", value) => request.min_position = positions(&plain(&value))?,
            (name, _) => {
                return Err(QueryError::Invalid(format!(
                    "`{name}` is unknown or of the wrong type; there are sql, params, limit, timeout, min_position"
                )));
            }
        }
    }
    if request.sql.is_empty() {
        return Err(QueryError::Invalid("`sql` is missing".to_owned()));
    }
    Ok(request)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parameters(request: &mut SqlRequest, query: Option<&str>) -> Result<(), QueryError> {
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "q" => request.sql = value,
            "limit" => request.limit = Some(limit(&value)?),
            "timeout" => request.timeout = Some(timeout(&value)?),
            "min_position" => request.min_position = positions(&value)?,
            _ => return Err(QueryError::Invalid(format!("`{name}` is no parameter of SQL"))),
        }
    }
    Ok(())
}

fn limit(text: &str) -> Result<usize, QueryError> {
    let limit = text.parse().ok().filter(|limit| *limit <= 100_000_000);
    limit.ok_or_else(|| QueryError::Invalid(format!("`limit` is `{text}`, expected 0 to 100000000")))
}

/// Seconds, or a number with `ms` or `s`.
fn timeout(text: &str) -> Result<Duration, QueryError> {
    let (number, milliseconds) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1_000),
        (None, None) => (text, 1_000),
    };
    let number: Option<u64> = number.parse().ok();
    let found = number
        .and_then(|number| number.checked_mul(milliseconds))
        .filter(|found| *found > 0);
    let found = found.map(Duration::from_millis);
    found.ok_or_else(|| {
        QueryError::Invalid(format!(
            "`timeout` is `{text}`, expected something like 500ms or 30s"
        ))
    })
}

async fn respond(
    analytics: &Analytics,
    request: SqlRequest,
    headers: &HeaderMap,
) -> Result<Response, QueryError> {
    let accept = headers
        .get(header::ACCEPT)
        .map(|value| value.to_str().unwrap_or_default());
    let format = Format::negotiate(accept)?;
    let begun = Instant::now();
    let answer = analytics.sql(request, format).await;
    metrics::histogram!("tidemill_query_seconds", "kind" => "sql").record(begun.elapsed().as_secs_f64());
    let answer = answer?;
    let mut response = match answer.body {
        SqlBody::Whole(bytes) => bytes.into_response(),
        SqlBody::Stream(stream) => Body::from_stream(stream).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(format.media_type()),
    );
    put_as_of(&mut response, &answer.as_of);
    Ok(response)
}
