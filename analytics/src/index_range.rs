//! Which part of a stream's index a query can need, so that the rest is not read.

use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::logical_expr::{Expr, Operator, col, lit};
use event::schema;
use lake::DataFile;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

/// Indexes [from, to).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexRange {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl IndexRange {
    /// Every index.
    pub(crate) const ALL: Self = Self {
        from: 0,
        to: u64::MAX,
    };

    /// What is in both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }

    /// What conditions that must all hold leave of the index: comparisons of `_index` with a number; others leave
    /// all of it.
    pub(crate) fn of(conditions: &[Expr]) -> Self {
        conditions.iter().map(Self::of_one).fold(Self::ALL, Self::and)
    }

    fn of_one(condition: &Expr) -> Self {
        let Expr::BinaryExpr(comparison) = condition else {
            return Self::ALL;
        };
        let (operator, value) = match (comparison.left.as_ref(), comparison.right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) if column.name == schema::INDEX => {
                (comparison.op, value)
            }
            (Expr::Literal(value, _), Expr::Column(column)) if column.name == schema::INDEX => {
                match comparison.op.swap() {
                    Some(operator) => (operator, value),
                    None => return Self::ALL,
                }
            }
            _ => return Self::ALL,
        };
        let ScalarValue::Int64(Some(value)) = value else {
            return Self::ALL;
        };
        // Of a negative bound at least everything from 0 on, or nothing, is left.
        let (value, after) = (
            u64::try_from(*value).unwrap_or(0),
            u64::try_from(value.saturating_add(1)).unwrap_or(0),
        );
        match operator {
            Operator::Eq => Self {
                from: value,
                to: after,
            },
            Operator::Lt => Self { from: 0, to: value },
            Operator::LtEq => Self { from: 0, to: after },
            Operator::Gt => Self {
                from: after,
                to: u64::MAX,
            },
            Operator::GtEq => Self {
                from: value,
                to: u64::MAX,
            },
            _ => Self::ALL,
        }
    }

    /// Whether any row of the file is in it.
    pub(crate) fn touches(self, file: &DataFile) -> bool {
        self.from < file.first_index + file.rows && file.first_index < self.to
    }

    /// Tells the scan which rows of the file are in it. Only saves reading: what else comes out is filtered away.
    pub(crate) fn select(self, file: &DataFile, partitioned: PartitionedFile) -> PartitionedFile {
        let first = self.from.clamp(file.first_index, file.first_index + file.rows) - file.first_index;
        let end = self.to.clamp(file.first_index, file.first_index + file.rows) - file.first_index;
        if first == 0 && end == file.rows {
            return partitioned;
        }
        let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        let selection = RowSelection::from(vec![
            RowSelector::skip(count(first)),
            RowSelector::select(count(end.saturating_sub(first))),
            RowSelector::skip(count(file.rows - end.max(first))),
        ]);
        partitioned.with_extension(ParquetRowSelection::new(selection))
    }

    /// The condition that a row is in it.
    pub(crate) fn condition(self) -> Result<Expr> {
        let bound = |index: u64| lit(i64::try_from(index).unwrap_or(i64::MAX));
        let from = col(schema::INDEX).gt_eq(bound(self.from));
        Ok(match self.to {
            u64::MAX => from,
            to => from.and(col(schema::INDEX).lt(bound(to))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_of_the_index_leave_a_part_and_others_all() {
        let index = || col(schema::INDEX);
        let cases = [
            (vec![index().gt_eq(lit(5i64)), index().lt(lit(9i64))], (5, 9)),
            (vec![lit(5i64).lt(index())], (6, u64::MAX)),
            (vec![index().eq(lit(7i64))], (7, 8)),
            (vec![index().lt_eq(lit(-3i64))], (0, 0)),
            (vec![index().gt(lit(-3i64))], (0, u64::MAX)),
            (vec![index().gt(lit(i64::MAX))], (i64::MAX as u64, u64::MAX)),
            (vec![index().not_eq(lit(7i64))], (0, u64::MAX)),
            (vec![col("other").lt(lit(7i64))], (0, u64::MAX)),
        ];
        for (conditions, (from, to)) in cases {
            assert_eq!(
                IndexRange::of(&conditions),
                IndexRange { from, to },
                "{conditions:?}"
            );
        }
    }
}
