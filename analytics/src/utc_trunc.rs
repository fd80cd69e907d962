//! `date_trunc` that takes the fast way for UTC.
//!
//! DataFusion truncates a column with a time zone value by value through a calendar. UTC has no shifts: seconds to days
//! have one length, and events come nearly in the order of time, so most moments fall where the one before did and need
//! no division. For the larger units the zone is taken off and put back, which copies nothing. As a function rather than
//! a rewrite of the plan, it also holds in plans that somebody else's optimiser made.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, TimestampMicrosecondArray};
use arrow_schema::{DataType, FieldRef, TimeUnit};
use datafusion::common::Result;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct UtcTrunc {
    inner: DateTruncFunc,
}

impl UtcTrunc {
    pub(crate) fn new() -> Self {
        Self {
            inner: DateTruncFunc::new(),
        }
    }
}

impl ScalarUDFImpl for UtcTrunc {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(input)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(ColumnarValue::Array(times)) = args.args.get(1) else {
            return self.inner.invoke_with_args(args);
        };
        let DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) = times.data_type() else {
            return self.inner.invoke_with_args(args);
        };
        let zone = Arc::clone(zone);
        if !matches!(zone.as_ref(), "UTC" | "+00:00") {
            return self.inner.invoke_with_args(args);
        }
        let times = times.as_primitive::<TimestampMicrosecondType>();
        if let Some(unit) = args.args.first().and_then(microseconds)
            && let Some(found) = floored(times, unit)
        {
            return Ok(ColumnarValue::Array(Arc::new(found.with_timezone(zone))));
        }
        let plain = times.clone().with_timezone_opt(None::<Arc<str>>);
        args.args[1] = ColumnarValue::Array(Arc::new(plain));
        Ok(match self.inner.invoke_with_args(args)? {
            ColumnarValue::Array(found) => {
                let found = found.as_primitive::<TimestampMicrosecondType>().clone();
                ColumnarValue::Array(Arc::new(found.with_timezone(zone)))
            }
            scalar => scalar,
        })
    }
}

/// How long a unit is that always has the same length.
fn microseconds(unit: &ColumnarValue) -> Option<i64> {
    let ColumnarValue::Scalar(unit) = unit else {
        return None;
    };
    match unit.try_as_str()??.to_ascii_lowercase().as_str() {
        "second" => Some(1_000_000),
        "minute" => Some(60_000_000),
        "hour" => Some(3_600_000_000),
        "day" => Some(86_400_000_000),
        _ => None,
    }
}

/// Each moment, cut down to a multiple of so many microseconds; nothing when one cannot be.
fn floored(times: &TimestampMicrosecondArray, unit: i64) -> Option<TimestampMicrosecondArray> {
    let mut last = 0;
    let mut values = Vec::with_capacity(times.len());
    for time in times.values() {
        if *time < last || time.abs_diff(last) >= unit.unsigned_abs() {
            last = time.checked_sub(time.rem_euclid(unit))?;
        }
        values.push(last);
    }
    TimestampMicrosecondArray::try_new(values.into(), times.nulls().cloned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, RecordBatch};
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::SessionContext;
    use std::time::{Duration, Instant};

    async fn run(session: &SessionContext, sql: &str) -> (Vec<RecordBatch>, Duration) {
        let begun = Instant::now();
        let frame = session.sql(sql).await.expect("plans");
        let rows = frame.collect().await.expect("runs");
        (rows, begun.elapsed())
    }

    /// Also prints the times, which are where the module's claim comes from.
    #[tokio::test]
    async fn the_fast_way_gives_the_same_answers() {
        // Rising, falling, close together, around the epoch, and none.
        let times = (0..200_000i64).map(|at| match at % 5 {
            0 => Some(at * 987_654_321 - 20_000_000_000_000),
            1 => Some(-at * 1_234_567),
            2 => Some(at % 7 - 3),
            3 => Some(3_600_000_000 * (at % 50) - at % 2),
            _ => None,
        });
        let times: TimestampMicrosecondArray = times.collect();
        let times = times.with_timezone("UTC");
        let rows = RecordBatch::try_from_iter([("at", Arc::new(times) as ArrayRef)]).expect("one column");
        let (slow, fast) = (SessionContext::new(), SessionContext::new());
        fast.register_udf(ScalarUDF::from(UtcTrunc::new()));
        slow.register_batch("t", rows.clone()).expect("registers");
        fast.register_batch("t", rows).expect("registers");
        for unit in [
            "year", "quarter", "month", "week", "day", "hour", "minute", "second",
        ] {
            let sql = format!("SELECT date_trunc('{unit}', at) AS b FROM t");
            let (expected, slow) = run(&slow, &sql).await;
            let (found, fast) = run(&fast, &sql).await;
            assert_eq!(found, expected, "{unit}");
            println!("{unit}: {slow:?} with the zone, {fast:?} without");
        }
    }
}
