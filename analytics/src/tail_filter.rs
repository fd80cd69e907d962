//! Which runs of a tail a question can leave out, and which rows of the others.
//!
//! What is asked comes as the engine's own conditions, and the engine's own rules say what they need: bounds of a run's
//! values, or that some values are not among them ([`PruningPredicate`]). So types, nulls and zones mean here what they
//! mean there. A mark of a column is made when a question about it has the run's rows at hand, and is kept for the next
//! one. It speaks of all of a run's rows, also of those that do not count or are not asked for.
//!
//! Leaving out never decides: rows that stay are filtered again above.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result, ScalarValue, ToDFSchema};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use event::{FieldDeclaration, FieldType, StreamDeclaration, schema};

use crate::QueryError;
use crate::index_range::IndexRange;
use crate::parameters::{Filter, Wanted};
use crate::tail_marks::Mark;
use crate::tail_one_of::OneOf;
use crate::tail_run::{Part, Run};

/// What a question leaves of a tail.
#[derive(Debug)]
pub(crate) struct TailFilter {
    predicate: Option<PruningPredicate>,
    /// The columns that it is about.
    columns: BTreeSet<String>,
    one_of: Vec<OneOf>,
    index: IndexRange,
}

/// A run in a question's range, and the index of its first row there, where it is known.
struct Bounds<'a> {
    run: &'a Run,
    index: Option<(u64, u64)>,
    filter: &'a TailFilter,
}

impl TailFilter {
    /// What `conditions` that must all hold, and that the predicate is made of, leave, and a part of the index.
    pub(crate) fn new(
        conditions: &[Expr],
        predicate: Option<PruningPredicate>,
        index: IndexRange,
        stream: &StreamDeclaration,
    ) -> Self {
        let predicate = predicate.filter(|predicate| !predicate.always_true());
        let guarantees = predicate.iter().flat_map(PruningPredicate::literal_guarantees);
        let one_of: Vec<OneOf> = guarantees
            .filter_map(|guarantee| OneOf::new(guarantee, stream))
            .collect();
        let wire = schema::wire(stream);
        let named = conditions.iter().flat_map(Expr::column_refs);
        let columns: BTreeSet<String> = named
            .map(|column| column.name.clone())
            .filter(|name| wire.column_with_name(name).is_some() || *name == schema::TRACE_ID)
            .collect();
        Self {
            predicate,
            columns,
            one_of,
            index,
        }
    }

    /// What a REST question leaves.
    pub(crate) fn of(
        filter: &Filter,
        state: &dyn Session,
        index: IndexRange,
        stream: &StreamDeclaration,
    ) -> Result<Self> {
        let conditions = conditions(filter, stream);
        let predicate = predicate(state, &schema::lake(stream), &conditions)?;
        Ok(Self::new(&conditions, predicate, index, stream))
    }

    /// Whether nothing is left out.
    pub(crate) fn is_all(&self) -> bool {
        self.predicate.is_none() && self.index == IndexRange::ALL
    }

    /// Whether a run may hold a row that is wanted; `index` is that of its first row in the range and after its last.
    pub(crate) fn may_hold(&self, run: &Run, index: Option<(u64, u64)>) -> Result<bool> {
        if index.is_some_and(|index| !self.touches(index)) {
            return Ok(false);
        }
        let Some(predicate) = &self.predicate else {
            return Ok(true);
        };
        let bounds = Bounds {
            run,
            index,
            filter: self,
        };
        Ok(predicate.prune(&bounds)?.into_iter().all(|keep| keep))
    }

    /// Whether rows with these indexes may be wanted.
    pub(crate) fn touches(&self, (from, to): (u64, u64)) -> bool {
        self.index.from < to && from < self.index.to
    }

    /// Whether the next question of this form could leave more runs out than this one.
    pub(crate) fn lacks_marks(&self, run: &Run) -> bool {
        let lacks = |name: &String| {
            run.mark(name).is_none_or(|mark| {
                mark.members.is_none() && self.one_of.iter().any(|one_of| one_of.column == *name)
            })
        };
        run.full && self.columns.iter().any(lacks)
    }

    /// Marks a run all of whose rows these are; `keep` keeps a mark of so many bytes, where there is room.
    pub(crate) fn mark(
        &self,
        run: &Run,
        parts: &[Part],
        stream: &StreamDeclaration,
        keep: impl Fn(&str, Mark, usize),
    ) -> Result<(), QueryError> {
        for name in &self.columns {
            let asked = self.one_of.iter().any(|one_of| one_of.column == *name);
            let listed = |field: &FieldDeclaration| {
                field.name == *name && matches!(field.kind, FieldType::Enum { .. } | FieldType::Bool)
            };
            // Of a few values each is in every run.
            let members = asked && !stream.fields.iter().any(listed);
            if run
                .mark(name)
                .is_some_and(|mark| mark.members.is_some() || !members)
            {
                continue;
            }
            let mark = Mark::of(name, parts, members)?;
            let bytes = mark.bytes();
            keep(name, mark, bytes);
        }
        Ok(())
    }

    /// The rows of a part that may be wanted, of those from one on up to another; `None` when that is all of them.
    pub(crate) fn rows(&self, part: &Part, from: u32, to: u32) -> Option<Vec<u32>> {
        let mut found: Option<Vec<u32>> = None;
        for one_of in &self.one_of {
            let candidates = found.take();
            found = Some(match candidates {
                None => one_of.rows(part, from..to)?,
                Some(rows) => one_of.rows(part, rows.into_iter())?,
            });
        }
        found
    }
}

/// What conditions that must all hold say about bounds of values, where they say anything.
pub(crate) fn predicate(
    state: &dyn Session,
    schema: &SchemaRef,
    conditions: &[Expr],
) -> Result<Option<PruningPredicate>> {
    let Some(condition) = conjunction(conditions.to_vec()) else {
        return Ok(None);
    };
    let columns = Arc::clone(schema).to_dfschema()?;
    let condition = state.create_physical_expr(condition, &columns)?;
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    Ok(predicate.try_build(condition).ok())
}

/// What a REST question asks, as far as the engine's conditions mean the same: its zeros of floats are equal, those of
/// the engine are not.
fn conditions(filter: &Filter, stream: &StreamDeclaration) -> Vec<Expr> {
    let moment = |at: i64| lit(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into())));
    let value = |wanted: &Wanted| match wanted {
        Wanted::Bool(value) => Some(lit(*value)),
        Wanted::Int(value) => Some(lit(*value)),
        Wanted::Float(_) => None,
        Wanted::Text(value) => Some(lit(value.clone())),
        Wanted::Time(at) => Some(moment(*at)),
    };
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let time = stream.time_column();
    let mut conditions = Vec::new();
    conditions.extend(filter.start.map(|start| column(time).gt_eq(moment(start))));
    conditions.extend(filter.end.map(|end| column(time).lt(moment(end))));
    for (name, wanted) in &filter.equal {
        conditions.extend(value(wanted).map(|value| column(name).eq(value)));
    }
    for (name, wanted) in &filter.any {
        let values: Option<Vec<Expr>> = wanted.iter().map(value).collect();
        let values = values.filter(|values| !values.is_empty());
        conditions.extend(values.map(|values| column(name).in_list(values, false)));
    }
    conditions
}

impl Bounds<'_> {
    fn of(&self, column: &Column) -> Option<(ArrayRef, ArrayRef)> {
        let ints = |from: i64, to: i64| -> Option<(ArrayRef, ArrayRef)> {
            Some((
                Arc::new(Int64Array::from_value(from, 1)),
                Arc::new(Int64Array::from_value(to, 1)),
            ))
        };
        match column.name.as_str() {
            schema::INDEX => {
                let (from, to) = self.index?;
                ints(from.cast_signed(), to.saturating_sub(1).cast_signed())
            }
            schema::OFFSET => {
                let range = self.run.range;
                ints(
                    range.from.0.cast_signed(),
                    range.to.0.saturating_sub(1).cast_signed(),
                )
            }
            schema::RECEIVED_AT => {
                let (from, to) = self.run.received?;
                let moment = |at| Arc::new(TimestampMicrosecondArray::from_value(at, 1).with_timezone("UTC"));
                Some((moment(from), moment(to)))
            }
            name => {
                let mark = self.run.mark(name)?;
                let (least, greatest) = mark.bounds.as_ref()?;
                Some((least.to_array().ok()?, greatest.to_array().ok()?))
            }
        }
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column).map(|(least, _)| least)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column).map(|(_, greatest)| greatest)
    }

    fn num_containers(&self) -> usize {
        1
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.run.ends().last().copied().unwrap_or(0);
        Some(Arc::new(UInt64Array::from_value(u64::from(rows), 1)))
    }

    fn contained(&self, column: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let mark = self.run.mark(&column.name)?;
        let members = mark.members.as_ref()?;
        // All that is asked of one column must hold, so it may be looked at together.
        let mut asked = self
            .filter
            .one_of
            .iter()
            .filter(|one_of| one_of.column == column.name);
        let absent = asked.any(|one_of| !one_of.values.iter().any(|value| members.check(value.as_slice())));
        absent.then(|| BooleanArray::from(vec![false]))
    }
}
