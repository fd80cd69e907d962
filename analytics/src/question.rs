//! A question in SQL as the engine gets it: checked and bounded, and fit to travel to a worker process.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::common::{ParamValues, ScalarValue};
use event::{Offset, Partition, Position};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::analytics::AnalyticsOptions;
use crate::{Format, QueryError, Readable, SqlRequest, guard};

/// A position that can travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct At(u32, u64);

impl From<Position> for At {
    fn from(position: Position) -> Self {
        Self(position.partition.0, position.offset.0)
    }
}

impl From<At> for Position {
    fn from(At(partition, offset): At) -> Self {
        Self::new(Partition(partition), Offset(offset))
    }
}

/// How far the journal is known to be durable, by the name of the stream. A query sees at least this much.
pub(crate) type Seen = BTreeMap<String, Vec<At>>;

/// One statement and what bounds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) sql: String,
    /// The streams that are there for whoever asks.
    pub(crate) readable: Readable,
    pub(crate) params: Option<Params>,
    pub(crate) limit: Option<usize>,
    pub(crate) timeout: Duration,
    /// What every stream that is asked must have reached, by the wish of whoever asks.
    pub(crate) min_position: Vec<At>,
    pub(crate) seen: Seen,
    pub(crate) format: Format,
}

impl Question {
    /// What is asked for, within the options' bounds.
    pub(crate) fn new(
        request: SqlRequest,
        format: Format,
        options: &AnalyticsOptions,
    ) -> Result<Self, QueryError> {
        guard::fits(&request.sql, options.sql_bytes_max)?;
        let timeout = request.timeout.unwrap_or(options.timeout);
        Ok(Self {
            sql: request.sql,
            readable: request.readable,
            params: request.params.map(Params::parse).transpose()?,
            limit: request.limit,
            timeout: timeout.min(options.timeout_max),
            min_position: request.min_position.into_iter().map(At::from).collect(),
            seen: Seen::new(),
            format,
        })
    }
}

/// Values of `$1` … or of `$name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Params {
    List(Vec<Scalar>),
    Named(Vec<(String, Scalar)>),
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    /// The bits of a float: its digits need not survive being written and read.
    Float(u64),
    Text(String),
}

impl Params {
    fn parse(params: Value) -> Result<Self, QueryError> {
        match params {
            Value::Array(values) => Ok(Self::List(
                values.into_iter().map(Scalar::parse).collect::<Result<_, _>>()?,
            )),
            Value::Object(values) => {
                let mut named = Vec::with_capacity(values.len());
                for (name, value) in values {
                    named.push((name, Scalar::parse(value)?));
                }
                Ok(Self::Named(named))
            }
            _ => Err(QueryError::Invalid("`params` is a list or an object".to_owned())),
        }
    }
}

impl From<Params> for ParamValues {
    fn from(params: Params) -> Self {
        match params {
            Params::List(values) => {
                let values: Vec<ScalarValue> = values.into_iter().map(ScalarValue::from).collect();
                Self::from(values)
            }
            Params::Named(values) => {
                let values = values.into_iter();
                let named: Vec<(String, ScalarValue)> =
                    values.map(|(name, value)| (name, value.into())).collect();
                Self::from(named)
            }
        }
    }
}

impl Scalar {
    fn parse(value: Value) -> Result<Self, QueryError> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::String(value) => Self::Text(value),
            Value::Number(value) => match (value.as_i64(), value.as_u64(), value.as_f64()) {
                (Some(value), _, _) => Self::Int(value),
                (_, Some(value), _) => Self::Unsigned(value),
                (_, _, Some(value)) => Self::Float(value.to_bits()),
                (None, None, None) => {
                    return Err(QueryError::Invalid(format!("parameter `{value}` is no number")));
                }
            },
            Value::Array(_) | Value::Object(_) => {
                return Err(QueryError::Invalid(
                    "a parameter is a number, text, true, false or null".to_owned(),
                ));
            }
        })
    }
}

impl From<Scalar> for ScalarValue {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Bool(value) => Self::Boolean(Some(value)),
            Scalar::Int(value) => Self::Int64(Some(value)),
            Scalar::Unsigned(value) => Self::UInt64(Some(value)),
            Scalar::Float(bits) => Self::Float64(Some(f64::from_bits(bits))),
            Scalar::Text(value) => Self::Utf8(Some(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_is_the_same_after_its_way_to_a_worker() {
        let request = SqlRequest {
            sql: "SELECT $1, $2 -- \u{0} \"é\"".to_owned(),
            readable: Readable::only(["running"]),
            params: Some(json!([
                0.1,
                1e300,
                -0.0,
                5e-324,
                i64::MIN,
                u64::MAX,
                null,
                true,
                "a'b\n"
            ])),
            limit: Some(7),
            timeout: Some(Duration::from_millis(1_234)),
            min_position: vec![Position::new(Partition(3), Offset(u64::MAX))],
        };
        let options = AnalyticsOptions::new("unused".into());
        let mut question = Question::new(request, Format::Arrow, &options).expect("within bounds");
        question.seen.insert("run".to_owned(), vec![At(0, 5)]);
        let written = serde_json::to_vec(&question).expect("written");
        let read: Question = serde_json::from_slice(&written).expect("read");
        assert_eq!(read, question);
    }

    #[test]
    fn what_is_no_parameter_is_refused_before_anybody_runs_it() {
        let options = AnalyticsOptions::new("unused".into());
        for params in [json!(1), json!([[1]]), json!({"a": {}})] {
            let request = SqlRequest {
                sql: "SELECT $1".to_owned(),
                params: Some(params),
                ..SqlRequest::default()
            };
            assert!(Question::new(request, Format::Json, &options).is_err());
        }
    }
}
