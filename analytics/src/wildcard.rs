//! `SELECT *` leaves out the columns that say where a row came from.
//!
//! A query sees a hidden column only when its text names it; then each `*` over a stream excludes it, unless it
//! is listed by itself.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, TableFactor, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use event::Catalog;

use crate::Readable;
use crate::session::HIDDEN;

/// The hidden columns that the text names, anywhere.
pub(crate) fn mentioned(sql: &str) -> BTreeSet<&'static str> {
    let text = sql.to_ascii_lowercase();
    HIDDEN
        .into_iter()
        .filter(|column| text.contains(column))
        .collect()
}

/// Adds EXCLUDE to each `*` over streams.
pub(crate) fn exclude(
    statement: &mut DfStatement,
    catalog: &Catalog,
    readable: &Readable,
    hidden: &BTreeSet<&'static str>,
) {
    if hidden.is_empty() {
        return;
    }
    match statement {
        DfStatement::Statement(statement) => {
            let _ = statement.visit(&mut Excluder {
                catalog,
                readable,
                hidden,
            });
        }
        DfStatement::Explain(explain) => exclude(&mut explain.statement, catalog, readable, hidden),
        _ => {}
    }
}

struct Excluder<'a> {
    catalog: &'a Catalog,
    /// Whether a name is a stream's must not show where the stream may not be read.
    readable: &'a Readable,
    hidden: &'a BTreeSet<&'static str>,
}

impl VisitorMut for Excluder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.body(&mut query.body);
        ControlFlow::Continue(())
    }
}

impl Excluder<'_> {
    fn body(&self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn select(&self, select: &mut Select) {
        let mut relations = Vec::new();
        for table in &select.from {
            for factor in
                std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))
            {
                let Some(relation) = self.relation(factor) else {
                    return;
                };
                relations.push(relation);
            }
        }
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(options) if relations.len() == 1 => {
                    let options = if relations[0].1 {
                        self.with(options)
                    } else {
                        options
                    };
                    items.push(SelectItem::Wildcard(options));
                }
                SelectItem::Wildcard(options) if relations.iter().any(|(_, stream)| *stream) => {
                    items.extend(relations.iter().map(|(name, stream)| {
                        let options = if *stream {
                            self.with(options.clone())
                        } else {
                            options.clone()
                        };
                        let kind = SelectItemQualifiedWildcardKind::ObjectName(name.clone());
                        SelectItem::QualifiedWildcard(kind, options)
                    }));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    let stream = relations
                        .iter()
                        .any(|(other, stream)| *stream && same(other, &name));
                    let options = if stream { self.with(options) } else { options };
                    let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
                    items.push(SelectItem::QualifiedWildcard(kind, options));
                }
                other => items.push(other),
            }
        }
        select.projection = items;
    }

    /// The name that the relation goes by and whether it is a stream; `None` when it has none.
    fn relation(&self, factor: &TableFactor) -> Option<(ObjectName, bool)> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let last = name.0.last()?.as_ident()?.value.to_ascii_lowercase();
                let stream = self.readable.allows(&last) && self.catalog.get(&last).is_some();
                let alias = alias
                    .as_ref()
                    .map(|alias| ObjectName::from(vec![alias.name.clone()]));
                Some((alias.unwrap_or_else(|| name.clone()), stream))
            }
            TableFactor::Derived {
                alias: Some(alias), ..
            } => Some((ObjectName::from(vec![alias.name.clone()]), false)),
            TableFactor::Derived { .. } => Some((ObjectName::from(Vec::<Ident>::new()), false)),
            _ => None,
        }
    }

    fn with(&self, mut options: WildcardAdditionalOptions) -> WildcardAdditionalOptions {
        let mut names = match options.opt_exclude.take() {
            Some(ExcludeSelectItem::Single(name)) => vec![name],
            Some(ExcludeSelectItem::Multiple(names)) => names,
            None => Vec::new(),
        };
        for column in self.hidden {
            let name = ObjectName::from(vec![Ident::new(*column)]);
            if !names.iter().any(|other| same(other, &name)) {
                names.push(name);
            }
        }
        options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
        options
    }
}

fn same(left: &ObjectName, right: &ObjectName) -> bool {
    left.to_string().eq_ignore_ascii_case(&right.to_string())
}
