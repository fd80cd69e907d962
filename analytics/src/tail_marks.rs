//! What is known of the values of a column in a run of a tail: bounds of numbers and moments, and which values of ids,
//! texts and integers may be there.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow_schema::DataType;
use datafusion::common::ScalarValue;
use event::schema;
use parquet::bloom_filter::Sbbf;

use crate::QueryError;
use crate::tail_run::Part;

/// How often a filter says maybe of a value that is not there, at most.
const FALSE_SHARE: f64 = 0.01;
/// What is known of a column of a run.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    /// Its least and its greatest value.
    pub(crate) bounds: Option<(ScalarValue, ScalarValue)>,
    /// Which values may be there.
    pub(crate) members: Option<Sbbf>,
}

impl Mark {
    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self
                .members
                .as_ref()
                .map_or(0, |members| members.num_blocks() * 32)
    }

    /// What rows say about a column.
    pub(crate) fn of(name: &str, parts: &[Part], members: bool) -> Result<Self, QueryError> {
        let rows: usize = parts.iter().map(|part| part.rows.num_rows()).sum();
        let mut filter = match members {
            true => Some(Sbbf::new_with_ndv_fpp(rows.max(1) as u64, FALSE_SHARE)?),
            false => None,
        };
        let mut bounds: Option<(ScalarValue, ScalarValue)> = None;
        for part in parts {
            if name == schema::TRACE_ID {
                let ids = part.requests.iter().map(|request| &request.trace_id);
                if let Some(filter) = &mut filter {
                    ids.for_each(|id| filter.insert(&id.as_bytes()[..]));
                }
                continue;
            }
            let Some(column) = part.rows.column_by_name(name) else {
                continue;
            };
            if let Some((least, greatest)) = bounds_of(column) {
                bounds = Some(match bounds {
                    None => (least, greatest),
                    Some((before, after)) => (lower(before, least), higher(after, greatest)),
                });
            }
            if let Some(filter) = &mut filter {
                insert(filter, column);
            }
        }
        if let Some(filter) = &mut filter {
            filter.fold_to_target_fpp(FALSE_SHARE);
        }
        Ok(Self {
            bounds,
            members: filter,
        })
    }
}

fn insert(filter: &mut Sbbf, column: &ArrayRef) {
    let nulls = column.nulls();
    let rows = (0..column.len()).filter(|row| nulls.is_none_or(|nulls| nulls.is_valid(*row)));
    match column.data_type() {
        DataType::FixedSizeBinary(16) => {
            let (ids, _) = column.as_fixed_size_binary().value_data().as_chunks::<16>();
            rows.for_each(|row| filter.insert(&ids[row][..]));
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            rows.for_each(|row| filter.insert(values.value(row).as_bytes()));
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().values();
            rows.for_each(|row| filter.insert(&values[row].to_le_bytes()[..]));
        }
        _ => {}
    }
}

/// Least and greatest value of a column of numbers or moments.
fn bounds_of(column: &ArrayRef) -> Option<(ScalarValue, ScalarValue)> {
    match column.data_type() {
        DataType::Int64 => {
            let bounds = extremes(column.as_primitive::<Int64Type>(), i64::cmp)?;
            Some((
                ScalarValue::Int64(Some(bounds.0)),
                ScalarValue::Int64(Some(bounds.1)),
            ))
        }
        // In the order in which the engine compares.
        DataType::Float64 => {
            let bounds = extremes(column.as_primitive::<Float64Type>(), f64::total_cmp)?;
            Some((
                ScalarValue::Float64(Some(bounds.0)),
                ScalarValue::Float64(Some(bounds.1)),
            ))
        }
        DataType::Timestamp(..) => {
            let bounds = extremes(column.as_primitive_opt::<TimestampMicrosecondType>()?, i64::cmp)?;
            let moment = |at| ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into()));
            Some((moment(bounds.0), moment(bounds.1)))
        }
        _ => None,
    }
}

fn extremes<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    order: impl Fn(&T::Native, &T::Native) -> std::cmp::Ordering,
) -> Option<(T::Native, T::Native)> {
    let fold = |bounds: Option<(T::Native, T::Native)>, value: T::Native| {
        Some(match bounds {
            None => (value, value),
            Some((least, greatest)) => (
                if order(&value, &least).is_lt() {
                    value
                } else {
                    least
                },
                if order(&value, &greatest).is_gt() {
                    value
                } else {
                    greatest
                },
            ),
        })
    };
    if values.null_count() == 0 {
        return values.values().iter().copied().fold(None, fold);
    }
    values.iter().flatten().fold(None, fold)
}

fn lower(one: ScalarValue, other: ScalarValue) -> ScalarValue {
    if other.partial_cmp(&one).is_some_and(std::cmp::Ordering::is_lt) {
        other
    } else {
        one
    }
}

fn higher(one: ScalarValue, other: ScalarValue) -> ScalarValue {
    if other.partial_cmp(&one).is_some_and(std::cmp::Ordering::is_gt) {
        other
    } else {
        one
    }
}
