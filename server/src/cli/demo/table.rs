//! A few rows as text, in the form that SQL answers have.

use std::fmt;

/// Column names and rows of as many cells.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a head and no rows.
    pub(super) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|&name| name.to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().map(|row| cell(row, column).chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        let rule: String = widths
            .iter()
            .map(|width| format!("+{}", "-".repeat(width + 2)))
            .collect();
        for (number, row) in self.rows.iter().enumerate() {
            if number < 2 {
                writeln!(f, "{rule}+")?;
            }
            for (column, width) in widths.iter().enumerate() {
                write!(f, "| {:<width$} ", cell(row, column))?;
            }
            writeln!(f, "|")?;
        }
        writeln!(f, "{rule}+")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["a", "much"]);
        table.row(["über".to_owned(), "1".to_owned()]);
        let expected = "\
+------+------+
| a    | much |
+------+------+
| über | 1    |
+------+------+
";
        assert_eq!(table.to_string(), expected);
    }
}
