//! Functions whose answer can be many times their input, with a bound.
//!
//! No memory pool is asked before a function makes its answer, and an allocation that fails ends the process. So
//! what a call could make of a batch is computed first, from the sizes of its arguments, and a call beyond the
//! bound is an error. The operator `||` is no function: its operands pass one that only measures them.

use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::{DataType, FieldRef};
use datafusion::common::{DFSchema, Result, exec_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Documentation, Expr, ExprSchemable, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Most bytes that a call may make of one batch: some thousand bytes for each of its 8,192 rows.
const ANSWER_BYTES_MAX: u64 = 128 << 20;

/// How large an answer can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// As large as all arguments together.
    Sum,
    /// As large as the first argument times any from this one on.
    Product(usize),
    /// As large as the others together, with the first between each two of them.
    Separated,
}

const GROWING: [(&str, Growth); 22] = [
    ("concat", Growth::Sum),
    ("overlay", Growth::Sum),
    ("encode", Growth::Sum),
    ("struct", Growth::Sum),
    ("named_struct", Growth::Sum),
    ("map", Growth::Sum),
    ("make_array", Growth::Sum),
    ("array_append", Growth::Sum),
    ("array_prepend", Growth::Sum),
    ("array_concat", Growth::Sum),
    ("array_union", Growth::Sum),
    ("arrays_zip", Growth::Sum),
    ("flatten", Growth::Sum),
    ("string_to_array", Growth::Sum),
    ("replace", Growth::Product(2)),
    ("regexp_replace", Growth::Product(2)),
    ("array_replace", Growth::Product(2)),
    ("array_replace_n", Growth::Product(2)),
    ("array_replace_all", Growth::Product(2)),
    ("array_to_string", Growth::Product(1)),
    ("to_char", Growth::Product(1)),
    ("concat_ws", Growth::Separated),
];

/// Puts the bound around every function of the state that needs one, and around `||`.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for (name, growth) in GROWING {
        let inner = state.udf(name)?;
        state.register_udf(Arc::new(ScalarUDF::from(Bounded { inner, growth })))?;
    }
    state.register_expr_planner(Arc::new(Concatenation {
        measure: Arc::new(ScalarUDF::from(Measured {
            signature: Signature::any(1, Volatility::Immutable),
        })),
    }))
}

/// Bytes of an argument over all rows, and of its largest value.
fn sizes(argument: &ColumnarValue, rows: usize) -> (u64, u64) {
    match argument {
        ColumnarValue::Scalar(value) => {
            let bytes = match value.try_as_str() {
                Some(text) => text.map_or(0, str::len),
                None => value.size(),
            } as u64;
            (bytes.saturating_mul(rows.max(1) as u64), bytes)
        }
        ColumnarValue::Array(values) => {
            let data = values.to_data();
            let bytes = data
                .get_slice_memory_size()
                .unwrap_or_else(|_| values.get_array_memory_size());
            // A view's text lies in buffers that its slices share, so only the views tell.
            let (bytes, largest) = match values.data_type() {
                DataType::Utf8 => (bytes, longest(values.as_string::<i32>().iter())),
                DataType::LargeUtf8 => (bytes, longest(values.as_string::<i64>().iter())),
                DataType::Utf8View => {
                    let texts = || values.as_string_view().iter();
                    (
                        texts().flatten().map(|text| text.len() + 16).sum(),
                        longest(texts()),
                    )
                }
                _ => (bytes, bytes),
            };
            (bytes as u64, largest as u64)
        }
    }
}

fn longest<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> usize {
    texts.flatten().map(str::len).max().unwrap_or(0)
}

impl Growth {
    fn answer_bytes(self, args: &ScalarFunctionArgs) -> u64 {
        let rows = args.number_rows;
        let all: Vec<(u64, u64)> = args.args.iter().map(|argument| sizes(argument, rows)).collect();
        let sum = |all: &[(u64, u64)]| {
            all.iter()
                .fold(0u64, |sum, (bytes, _)| sum.saturating_add(*bytes))
        };
        match (self, all.split_first()) {
            (_, None) => 0,
            (Self::Sum, Some(_)) => sum(&all),
            (Self::Product(from), Some(((bytes, _), _))) => {
                let factors = all.iter().skip(from).map(|(_, largest)| *largest);
                let factor = factors.max().unwrap_or(0);
                // A text of n bytes has n + 1 places.
                bytes
                    .saturating_add(rows.max(1) as u64)
                    .saturating_mul(factor.saturating_add(1))
            }
            (Self::Separated, Some(((_, separator), others))) => {
                let places = (rows.max(1) as u64).saturating_mul(others.len() as u64);
                // A list among the others has its own places, at most one for each of its bytes.
                let lists = args.args[1..].iter().zip(others);
                let elements = lists
                    .filter(|(argument, _)| argument.data_type().is_nested())
                    .fold(0u64, |sum, (_, (bytes, _))| sum.saturating_add(*bytes));
                let between = separator.saturating_mul(places.saturating_add(elements));
                sum(others).saturating_add(between)
            }
        }
    }
}

fn check(name: &str, bytes: u64) -> Result<()> {
    if bytes <= ANSWER_BYTES_MAX {
        return Ok(());
    }
    exec_err!("`{name}` could make {bytes} bytes of one batch, which exceeds the limit of {ANSWER_BYTES_MAX}")
}

/// A function with its bound. It is not simplified while planning, because that would make its answer unmeasured.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
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

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check(self.name(), self.growth.answer_bytes(&args))?;
        self.inner.invoke_with_args(args)
    }
}

/// Gives what it gets, when that is not too large.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Measured {
    signature: Signature,
}

impl ScalarUDFImpl for Measured {
    fn name(&self) -> &'static str {
        "_measured"
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(ToString::to_string).collect())
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args
            .iter()
            .map(|argument| argument.schema_name().to_string())
            .collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [argument] => Ok(argument.clone()),
            _ => exec_err!("`||` has two operands"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check("||", Growth::Sum.answer_bytes(&args).saturating_mul(2))?;
        match args.args.into_iter().next() {
            Some(argument) => Ok(argument),
            None => exec_err!("`||` has two operands"),
        }
    }
}

#[derive(Debug)]
struct Concatenation {
    measure: Arc<ScalarUDF>,
}

impl ExprPlanner for Concatenation {
    fn plan_binary_op(
        &self,
        expression: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if expression.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expression));
        }
        let nested = |operand: &Expr| operand.get_type(schema).is_ok_and(|kind| kind.is_nested());
        if nested(&expression.left) || nested(&expression.right) {
            return Ok(PlannerResult::Original(expression));
        }
        let measured = |operand: Expr| {
            let function = ScalarFunction::new_udf(Arc::clone(&self.measure), vec![operand]);
            Box::new(Expr::ScalarFunction(function))
        };
        Ok(PlannerResult::Planned(Expr::BinaryExpr(BinaryExpr::new(
            measured(expression.left),
            Operator::StringConcat,
            measured(expression.right),
        ))))
    }
}
