//! Rows into groups by number.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow_schema::{DataType, Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

/// A text of a dictionary that no row has had yet.
const UNSEEN: u32 = u32::MAX;
/// One that a row of this batch has, before it is looked up.
const NEXT: u32 = u32::MAX - 1;

/// The groups of one partition.
pub(super) struct Grouping {
    column: usize,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// The texts of the groups.
    texts: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// The texts that numbers stand for, of the row group that is read.
    dictionary: Option<ArrayRef>,
    /// The group of each of them.
    numbers: Vec<u32>,
    /// The group of rows without a text.
    absent: Option<u32>,
    /// The groups of a batch's rows.
    groups: Vec<usize>,
    schema: SchemaRef,
    room: MemoryReservation,
}

impl Grouping {
    /// No groups yet; what comes out has `schema`, the text first.
    pub(super) fn new(
        column: usize,
        functions: &[Arc<AggregateFunctionExpr>],
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
        schema: SchemaRef,
        room: MemoryReservation,
    ) -> Result<Self> {
        let texts = Arc::new(Schema::new(vec![schema.field(0).clone()]));
        let accumulators = functions
            .iter()
            .map(|function| function.create_groups_accumulator());
        Ok(Self {
            column,
            arguments: functions.iter().map(|function| function.expressions()).collect(),
            filters,
            texts: new_group_values(texts, &GroupOrdering::None)?,
            accumulators: accumulators.collect::<Result<_>>()?,
            dictionary: None,
            numbers: Vec::new(),
            absent: None,
            groups: Vec::new(),
            schema,
            room,
        })
    }

    /// Brings rows into their groups.
    pub(super) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        self.find_groups(rows.column(self.column))?;
        let count = self.texts.len();
        let functions = self
            .accumulators
            .iter_mut()
            .zip(&self.arguments)
            .zip(&self.filters);
        for ((accumulator, arguments), filter) in functions {
            let evaluated =
                |expression: &Arc<dyn PhysicalExpr>| expression.evaluate(rows)?.into_array(rows.num_rows());
            let arguments = arguments.iter().map(evaluated).collect::<Result<Vec<_>>>()?;
            let filter = filter.as_ref().map(evaluated).transpose()?;
            let filter: Option<&BooleanArray> = filter.as_ref().map(|filter| filter.as_boolean());
            accumulator.update_batch(&arguments, &self.groups, filter, count)?;
        }
        Ok(())
    }

    /// Finds the group of each row, and makes those that are new.
    fn find_groups(&mut self, column: &ArrayRef) -> Result<()> {
        let Some(column) = column.as_dictionary_opt::<Int32Type>() else {
            return internal_err!("texts of {} are not numbers", column.data_type());
        };
        let (texts, keys) = (column.values(), column.keys());
        let same = self.dictionary.as_ref();
        if !same.is_some_and(|known| known.to_data().ptr_eq(&texts.to_data())) {
            self.numbers.clear();
            self.numbers.resize(texts.len(), UNSEEN);
            self.dictionary = Some(Arc::clone(texts));
        }
        let mut new: Vec<u32> = Vec::new();
        let numbers = &mut self.numbers;
        let mut see = |key: i32| {
            let group = numbers.get_mut(key as usize).ok_or_else(damaged)?;
            if *group == UNSEEN {
                *group = NEXT;
                new.push(key as u32);
            }
            Ok::<(), DataFusionError>(())
        };
        match keys.nulls() {
            None => keys.values().iter().try_for_each(|key| see(*key))?,
            Some(_) => keys.iter().flatten().try_for_each(see)?,
        }
        if !new.is_empty() {
            let new = UInt32Array::from(new);
            let mut groups = Vec::new();
            self.texts
                .intern(&[arrow_select::take::take(texts, &new, None)?], &mut groups)?;
            for (key, found) in new.values().iter().zip(groups) {
                if let Some(group) = self.numbers.get_mut(*key as usize) {
                    *group = narrow(found)?;
                }
            }
        }
        if keys.null_count() > 0 && self.absent.is_none() {
            let mut group = Vec::new();
            self.texts
                .intern(&[new_null_array(&DataType::Utf8, 1)], &mut group)?;
            self.absent = group.pop().map(narrow).transpose()?;
        }
        // Every number was looked at above.
        let group = |key: i32| self.numbers.get(key as usize).copied().unwrap_or(UNSEEN) as usize;
        let absent = self.absent.unwrap_or(UNSEEN) as usize;
        self.groups.clear();
        match keys.nulls() {
            None => self.groups.extend(keys.values().iter().map(|key| group(*key))),
            Some(_) => {
                let groups = keys.iter().map(|key| key.map_or(absent, group));
                self.groups.extend(groups);
            }
        }
        Ok(())
    }

    /// Whether there is room for what is held; all that is emitted leaves room.
    pub(super) fn fits(&mut self) -> bool {
        let states: usize = self
            .accumulators
            .iter()
            .map(|accumulator| accumulator.size())
            .sum();
        let numbers = (self.numbers.capacity() + 2 * self.groups.capacity()) * size_of::<u32>();
        self.room.try_resize(self.texts.size() + states + numbers).is_ok()
    }

    /// The texts of all groups and their states, a group in a row, and begins anew.
    pub(super) fn emit(&mut self, batch_rows: usize) -> Result<VecDeque<RecordBatch>> {
        if self.texts.is_empty() {
            return Ok(VecDeque::new());
        }
        let mut columns = self.texts.emit(EmitTo::All)?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        (self.dictionary, self.absent) = (None, None);
        self.texts.clear_shrink(0);
        self.room.free();
        let all = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let batches = (0..all.num_rows()).step_by(batch_rows.max(1));
        Ok(batches
            .map(|from| all.slice(from, batch_rows.min(all.num_rows() - from)))
            .collect())
    }
}

fn damaged() -> DataFusionError {
    exec_datafusion_err!("a number of a text is beyond the end of its dictionary: the file is damaged")
}

fn narrow(group: usize) -> Result<u32> {
    let narrow = u32::try_from(group).ok().filter(|group| *group < NEXT);
    narrow.ok_or_else(|| exec_datafusion_err!("a group has the number {group}, there are at most {NEXT}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::types::Int64Type;
    use arrow_array::{DictionaryArray, Int32Array, StringArray};
    use arrow_schema::Field;
    use datafusion::common::ScalarValue;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};
    use datafusion::functions_aggregate::count::count_udaf;
    use datafusion::physical_expr::aggregate::AggregateExprBuilder;
    use datafusion::physical_expr::expressions::Literal;

    use super::*;

    #[test]
    fn groups_that_do_not_fit_into_memory_are_given_away_and_begun_anew() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("text", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
        ]));
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(64 << 10));
        let room = MemoryConsumer::new("test").register(&pool);
        let one: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Int64(Some(1))));
        let rows = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
        let count = AggregateExprBuilder::new(count_udaf(), vec![one])
            .schema(rows)
            .alias("count");
        let count = Arc::new(count.build().expect("counts"));
        let mut grouping = Grouping::new(0, &[count], vec![None], schema, room).expect("of texts");
        let (mut given, mut times) = (Vec::new(), 0);
        for round in 0..40 {
            let texts: StringArray = (0..100).map(|text| Some(format!("{round}: {text}"))).collect();
            // Not every text has a row, and some rows have none.
            let keys: Int32Array = (0..500).map(|row| (row % 7 != 0).then_some(row % 90)).collect();
            let column: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(texts)));
            let rows = RecordBatch::try_from_iter([("text", column)]).expect("one column");
            grouping.add(&rows).expect("is added");
            if !grouping.fits() {
                times += 1;
                given.extend(grouping.emit(33).expect("is given"));
            }
        }
        assert!(times > 1, "{times}");
        given.extend(grouping.emit(33).expect("is given"));
        assert!(given.iter().all(|batch| batch.num_rows() <= 33));
        let mut found: BTreeMap<Option<String>, i64> = BTreeMap::new();
        for batch in &given {
            let counts = batch.column(1).as_primitive::<Int64Type>().values();
            for (text, count) in batch.column(0).as_string::<i32>().iter().zip(counts) {
                *found.entry(text.map(str::to_owned)).or_default() += count;
            }
        }
        let mut expected: BTreeMap<Option<String>, i64> = BTreeMap::new();
        for (round, row) in (0..40).flat_map(|round| (0..500).map(move |row| (round, row))) {
            let text = (row % 7 != 0).then(|| format!("{round}: {}", row % 90));
            *expected.entry(text).or_default() += 1;
        }
        assert_eq!(found, expected);
    }
}
