//! Which rows of a file can pass conditions on text columns: each text of a dictionary is judged once.
//!
//! A text column of the lake has a dictionary in each row group, and its pages have numbers of it. The engine makes a
//! text of each number and judges that; where a hundred thousand users have twenty million rows, it judges each user two
//! hundred times, and copies the text before. Here the texts of a dictionary are judged, and the numbers say which rows
//! can pass. The scan reads those alone, and its rows are judged again as ever: this only saves reading. Where it would
//! save little, or nobody knows, all rows are read: texts that hardly repeat, conditions that many rows pass, files in a
//! bucket, conditions on other columns beside (whose bounds may say more).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{Result, ToDFSchema};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;
use futures::{StreamExt, TryStreamExt, stream};
use lake::FileLocation;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection, RowSelector};
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::ColumnChunkMetaData;
use tokio::runtime::Handle;

use crate::files::{Files, bloom_filter_of, open};
use crate::pages::has_numbers;

/// Where more than one row in so many can pass, nearly each page of the other columns is read all the same.
const SHARE_MIN: usize = if cfg!(test) { 4 } else { 64 };
/// Most runs of rows that one scan is told, of 16 bytes each; the files after them are read as ever.
const RUNS_MAX: usize = if cfg!(test) { 256 } else { 1 << 19 };

/// All that a query asks of one text column.
#[derive(Debug)]
pub(crate) struct TextCondition {
    column: String,
    passes: Arc<dyn PhysicalExpr>,
    /// The only texts that can pass, where they are named: bloom filters know of these.
    texts: Option<Vec<String>>,
    /// Whether all of them do, as nothing else is asked.
    texts_pass: bool,
    /// That column alone.
    schema: SchemaRef,
}

/// What is read of a row group.
enum Part {
    All(usize),
    Some(Vec<RowSelector>),
}

/// A condition on a row group, to be judged by one thread.
struct Judgement {
    /// The number of the file among those of the question.
    file: usize,
    path: Arc<Path>,
    footer: ArrowReaderMetadata,
    group: usize,
    condition: usize,
}

/// What is known of a file by one condition.
#[derive(Default)]
struct Known {
    runs: Vec<RowSelector>,
    narrows: bool,
    /// Whether a row group is among them that nothing is known of.
    reads_all: bool,
}

/// Rows of a file that can pass.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) selection: RowSelection,
    /// Of each condition, whether all of these rows pass it.
    pub(crate) pass: Vec<bool>,
}

/// Of each of `files`, of so many bytes, which rows can pass all of `conditions`; nothing where all of them may as well
/// be read. Row groups are looked at by so many threads.
///
/// # Errors
/// When a file cannot be read.
pub(crate) async fn select(
    conditions: &[Arc<TextCondition>],
    opened: &Arc<Files>,
    files: &[(FileLocation, u64)],
    threads: usize,
) -> Result<Vec<Option<Rows>>> {
    let judgements = stream::iter(files.iter().enumerate())
        .then(|(file, (location, bytes))| judgements(opened, file, location, *bytes, conditions.len()))
        .flat_map(|found| match found {
            Ok(judgements) => stream::iter(judgements.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        });
    let mut parts = judgements
        .map_ok(|judgement| {
            let condition = Arc::clone(&conditions[judgement.condition]);
            let opened = Arc::clone(opened);
            async move {
                // On the threads that compute: those for blocking work are many, and each would keep memory for the next time.
                let done = Handle::current().spawn(async move {
                    let group = judgement.footer.metadata().row_group(judgement.group);
                    let rows = usize::try_from(group.num_rows()).unwrap_or(0);
                    // What is damaged is met by whoever reads it.
                    let part = condition.part(&opened, &judgement, rows);
                    (judgement, part.unwrap_or(Part::All(rows)))
                });
                done.await
                    .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))
            }
        })
        .try_buffered(threads.max(1))
        .boxed();
    let mut known: Vec<Vec<Known>> = Vec::new();
    let mut room = RUNS_MAX;
    while let Some((judgement, part)) = parts.try_next().await? {
        // A file that there was no room for is read as a whole: without its last parts nothing is known of it.
        if part.runs() > room {
            known.truncate(judgement.file);
            break;
        }
        room -= part.runs();
        known.resize_with(judgement.file + 1, Vec::new);
        let of_file = &mut known[judgement.file];
        of_file.resize_with(conditions.len(), Known::default);
        let of_condition = &mut of_file[judgement.condition];
        of_condition.narrows |= matches!(part, Part::Some(_));
        of_condition.reads_all |= matches!(part, Part::All(_));
        part.append_to(&mut of_condition.runs);
    }
    drop(parts);
    known.resize_with(files.len(), Vec::new);
    Ok(known.into_iter().map(both).collect())
}

/// All row groups of a file, under each of so many conditions; none of an object in a bucket.
async fn judgements(
    opened: &Files,
    file: usize,
    location: &FileLocation,
    bytes: u64,
    conditions: usize,
) -> Result<Vec<Judgement>> {
    let FileLocation::Local(path) = location else {
        return Ok(Vec::new());
    };
    let footer = opened.footer(location, bytes).await;
    let footer = footer.map_err(|error| DataFusionError::External(Box::new(error)))?;
    let path: Arc<Path> = path.as_path().into();
    let groups = 0..footer.metadata().num_row_groups();
    let all = (0..conditions).flat_map(|condition| groups.clone().map(move |group| (condition, group)));
    let judgements = all.map(|(condition, group)| Judgement {
        file,
        path: Arc::clone(&path),
        footer: footer.clone(),
        group,
        condition,
    });
    Ok(judgements.collect())
}

/// The rows of a file that every condition lets pass.
fn both(conditions: Vec<Known>) -> Option<Rows> {
    let pass = conditions.iter().map(|known| !known.reads_all).collect();
    let narrowing = conditions.into_iter().filter(|known| known.narrows);
    let selections = narrowing.map(|known| RowSelection::from(known.runs));
    let selection = selections.reduce(|one, other| one.intersection(&other))?;
    Some(Rows { selection, pass })
}

impl TextCondition {
    /// What `filters` ask, when each of them asks of one text column of `columns` and of nothing else.
    pub(crate) fn all(state: &dyn Session, filters: &[Expr], columns: &Schema) -> Option<Vec<Arc<Self>>> {
        let mut asked: Vec<(String, Vec<Expr>)> = Vec::new();
        for filter in filters {
            let named = filter.column_refs();
            let mut named = named.iter();
            let (Some(column), None) = (named.next(), named.next()) else {
                return None;
            };
            let field = columns.field_with_name(&column.name).ok()?;
            if *field.data_type() != DataType::Utf8 || filter.is_volatile() {
                return None;
            }
            match asked.iter_mut().find(|(name, _)| *name == column.name) {
                Some((_, of_it)) => of_it.push(filter.clone()),
                None => asked.push((column.name.clone(), vec![filter.clone()])),
            }
        }
        let condition = |(column, filters): (String, Vec<Expr>)| {
            let schema = Arc::new(Schema::new(vec![Field::new(&column, DataType::Utf8, true)]));
            let known = Arc::clone(&schema).to_dfschema().ok()?;
            let (texts, texts_pass) = (filters.iter().find_map(texts), filters.len() == 1);
            let passes = state.create_physical_expr(conjunction(filters)?, &known).ok()?;
            Some(Arc::new(Self {
                column,
                passes,
                texts,
                texts_pass,
                schema,
            }))
        };
        asked.into_iter().map(condition).collect()
    }

    /// The column and the text that all rows have that pass.
    pub(crate) fn one_text(&self) -> Option<(&str, &str)> {
        match self.texts.as_deref() {
            Some([text]) => Some((&self.column, text)),
            _ => None,
        }
    }

    /// What can pass of a row group of so many rows; nothing when nobody can say.
    fn part(&self, files: &Files, judgement: &Judgement, rows: usize) -> Option<Part> {
        let (path, footer, number) = (&judgement.path, &judgement.footer, judgement.group);
        let columns = footer.metadata().row_group(number).columns();
        let leaf = columns
            .iter()
            .position(|column| column.column_path().string() == self.column)?;
        let file = open(path).ok()?;
        let (place, numbers) = ((number, leaf), has_numbers(&columns[leaf]));
        if let Some(texts) = &self.texts {
            // Texts that are in memory are quicker to look through than a filter to read, and are never wrong.
            let known = numbers && self.texts_pass && files.keeps_texts(path, place);
            if !known
                && let Some(filter) = bloom_filter(&file, &columns[leaf])
                && !texts.iter().any(|text| filter.check(text.as_str()))
            {
                return Some(Part::Some(vec![RowSelector::skip(rows)]));
            }
        }
        // Texts that are not in the dictionary lie in the pages, and all of them would have to be read.
        numbers.then_some(())?;
        let mut runs = Runs::default();
        let see = |passes, count| {
            runs.add(passes, count);
            (runs.selected <= rows / SHARE_MIN).then_some(())
        };
        match &self.texts {
            Some(texts) if self.texts_pass => {
                files.with_texts((path, &file), footer, place, texts, see)?;
            }
            // What cannot be judged here, as a text that is no number, the engine meets where it asks itself.
            _ => {
                let judge = |texts: &ArrayRef| {
                    let absent = self.judge(&new_null_array(&DataType::Utf8, 1))?.pop()?;
                    Some((self.judge(texts)?, absent))
                };
                files.with_passing_texts((path, &file), footer, place, judge, see)?;
            }
        }
        runs.part(rows)
    }

    /// Of each text whether it passes; nothing when that is an error.
    fn judge(&self, texts: &ArrayRef) -> Option<Vec<bool>> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::clone(texts)]).ok()?;
        let passes = self.passes.evaluate(&batch).ok()?;
        let passes = passes.into_array(texts.len()).ok()?;
        let passes = passes.as_boolean_opt()?;
        Some(passes.iter().map(|passes| passes == Some(true)).collect())
    }
}

impl Part {
    fn runs(&self) -> usize {
        match self {
            Self::All(_) => 1,
            Self::Some(runs) => runs.len(),
        }
    }

    fn append_to(self, runs: &mut Vec<RowSelector>) {
        match self {
            Self::All(rows) => runs.push(RowSelector::select(rows)),
            Self::Some(more) => runs.extend(more),
        }
    }
}

/// The bloom filter of a column of a row group; nothing when it has none that can be read.
fn bloom_filter(file: &File, column: &ColumnChunkMetaData) -> Option<Sbbf> {
    let place = bloom_filter_of(column)?;
    let mut bytes = vec![0; usize::try_from(place.end - place.start).ok()?];
    file.read_exact_at(&mut bytes, place.start).ok()?;
    Sbbf::from_bytes(&bytes).ok()
}

/// The only texts of a column that a filter on it lets pass, and all of which it does, where it names them.
fn texts(filter: &Expr) -> Option<Vec<String>> {
    let text = |expression: &Expr| match expression {
        Expr::Literal(value, _) => value.try_as_str()?.map(str::to_owned),
        _ => None,
    };
    // A list of a few texts comes as alternatives.
    let (mut texts, mut alternatives) = (Vec::new(), vec![filter]);
    while let Some(alternative) = alternatives.pop() {
        match alternative {
            Expr::BinaryExpr(either) if either.op == Operator::Or => {
                alternatives.extend([either.left.as_ref(), either.right.as_ref()]);
            }
            Expr::BinaryExpr(equal) if equal.op == Operator::Eq => {
                let (left, right) = (equal.left.as_ref(), equal.right.as_ref());
                let other = if matches!(left, Expr::Column(_)) {
                    right
                } else {
                    matches!(right, Expr::Column(_)).then_some(left)?
                };
                texts.push(text(other)?);
            }
            Expr::InList(list) if !list.negated && matches!(*list.expr, Expr::Column(_)) => {
                texts.extend(list.list.iter().map(text).collect::<Option<Vec<_>>>()?);
            }
            _ => return None,
        }
    }
    Some(texts)
}

/// Rows that are selected or skipped, as runs of them.
#[derive(Default)]
struct Runs {
    selectors: Vec<RowSelector>,
    selected: usize,
    /// The last run, which is not among the selectors yet.
    passes: bool,
    rows: usize,
    /// Rows of every run.
    all: usize,
}

impl Runs {
    #[inline]
    fn add(&mut self, passes: bool, rows: usize) {
        if rows == 0 {
            return;
        }
        if passes != self.passes {
            self.turn();
        }
        self.rows += rows;
        self.all += rows;
        if passes {
            self.selected += rows;
        }
    }

    fn turn(&mut self) {
        match (self.rows, self.passes) {
            (0, _) => {}
            (rows, true) => self.selectors.push(RowSelector::select(rows)),
            (rows, false) => self.selectors.push(RowSelector::skip(rows)),
        }
        (self.passes, self.rows) = (!self.passes, 0);
    }

    /// What is read of a row group of so many rows, where that is little and all of them were seen.
    fn part(mut self, rows: usize) -> Option<Part> {
        self.turn();
        (self.selected <= rows / SHARE_MIN && self.all == rows).then_some(Part::Some(self.selectors))
    }
}
