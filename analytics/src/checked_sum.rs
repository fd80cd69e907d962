//! `sum` that never wraps: integers are summed as decimals.
//!
//! DataFusion adds 64-bit integers with wrapping. As Decimal128(19 or 20, 0) in, 29 or 30 digits out, ten
//! thousand million rows of the largest integer fit, which is more than a query may read.
//!
//! Signed integers are widened here rather than by a cast in the plan: the cast checks the precision of every value,
//! which an integer of 64 bits cannot exceed, and takes longer than all else that a sum does.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Decimal128Array};
use arrow_schema::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

/// What a signed integer is summed as.
const WIDE: DataType = DataType::Decimal128(19, 0);

/// The aggregate function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CheckedSum {
    inner: Sum,
    signature: Signature,
}

impl CheckedSum {
    pub(crate) fn new() -> Self {
        Self {
            inner: Sum::new(),
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [argument] = types else {
            return datafusion::common::plan_err!("`sum` takes one argument, not {}", types.len());
        };
        Ok(vec![match argument {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
            DataType::Null => WIDE,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                DataType::Decimal128(20, 0)
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                DataType::Decimal128(*precision, *scale)
            }
            DataType::Decimal128(..)
            | DataType::Decimal256(..)
            | DataType::Duration(_)
            | DataType::Interval(_) => argument.clone(),
            DataType::Dictionary(_, values) => return self.coerce_types(&[values.as_ref().clone()]),
            other => return datafusion::common::plan_err!("`sum` of {other} is not defined"),
        }])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Int64] => self.inner.return_type(&[WIDE]),
            _ => self.inner.return_type(types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let adds = !args.is_distinct;
        let widens = widens(&args);
        let inner = self.inner.accumulator(args)?;
        if !widens {
            return Ok(inner);
        }
        Ok(Box::new(Widened { inner, adds }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let widens = widens(&args);
        let inner = self.inner.create_groups_accumulator(args)?;
        Ok(if widens {
            Box::new(WidenedGroups(inner))
        } else {
            inner
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let widens = widens(&args);
        let inner = self.inner.create_sliding_accumulator(args)?;
        if !widens {
            return Ok(inner);
        }
        Ok(Box::new(Widened { inner, adds: false }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn widens(args: &AccumulatorArgs) -> bool {
    matches!(args.expr_fields, [field] if *field.data_type() == DataType::Int64)
}

/// The arguments of a sum over integers, as the decimals that are summed.
fn wide(arguments: &[ArrayRef]) -> Vec<ArrayRef> {
    let wide = |values: &ArrayRef| -> ArrayRef {
        match values.as_primitive_opt::<Int64Type>() {
            Some(values) => {
                let wide = values.unary::<_, Decimal128Type>(i128::from);
                Arc::new(wide.with_data_type(WIDE))
            }
            None => Arc::clone(values),
        }
    };
    arguments.iter().map(wide).collect()
}

/// A sum of integers by one of decimals.
#[derive(Debug)]
struct Widened {
    inner: Box<dyn Accumulator>,
    /// Whether several values may be given as their sum.
    adds: bool,
}

impl Accumulator for Widened {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let ([integers], true) = (values, self.adds) else {
            return self.inner.update_batch(&wide(values));
        };
        let Some(integers) = integers.as_primitive_opt::<Int64Type>() else {
            return self.inner.update_batch(values);
        };
        if integers.null_count() == integers.len() {
            return Ok(());
        }
        let sum: i128 = if integers.null_count() == 0 {
            integers.values().iter().map(|value| i128::from(*value)).sum()
        } else {
            integers.iter().flatten().map(i128::from).sum()
        };
        let sum = Decimal128Array::from_value(sum, 1).with_data_type(DataType::Decimal128(38, 0));
        self.inner.update_batch(&[Arc::new(sum)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&wide(values))
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

/// The same for each group.
struct WidenedGroups(Box<dyn GroupsAccumulator>);

impl GroupsAccumulator for WidenedGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.0.update_batch(&wide(values), groups, filter, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.0.evaluate(emit)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.0.merge_batch(states, groups, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.0.convert_to_state(&wide(values), filter)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
