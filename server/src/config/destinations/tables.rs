//! Declared tables of a database: `[destinations.NAME.tables.STREAM]`.

use std::collections::BTreeMap;

use event::{StreamDeclaration, StreamName};
use toml::{Table, Value};

use crate::config::check::hint;
use crate::config::reading::Reading;

/// Keys of one table of a destination.
const TABLE_KEYS: &[&str] = &[
    "table",
    "columns",
    "key",
    "event",
    "on_conflict",
    "serial",
    "inserted_at",
    "types",
];
/// A declared table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableConfig {
    /// Its name; prefix and stream when absent.
    pub table: Option<String>,
    /// Columns by field, in their order; all fields under their own names when absent.
    pub columns: Option<Vec<(String, String)>>,
    /// Columns of the primary key; `_partition`, `_offset`, `_row` when absent.
    pub key: Option<Vec<String>>,
    /// The column that gets the whole event as JSON.
    pub event: Option<String>,
    /// What happens to an event whose key is there already.
    pub on_conflict: OnConflict,
    /// The primary key, when the database numbers the rows.
    pub serial: Option<String>,
    /// The column that the database fills with its time.
    pub inserted_at: Option<String>,
    /// Types of columns when the table is made.
    pub types: BTreeMap<String, String>,
}

/// What happens to an event whose key of its own is in the table already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It is kept in `tidemill_refused`.
    #[default]
    Refuse,
    /// The first one stays.
    Ignore,
    /// The last one stays.
    Update,
}

impl Reading<'_> {
    pub(super) fn tables(&mut self) -> BTreeMap<StreamName, TableConfig> {
        let mut found = BTreeMap::new();
        let declared = match self.table.get("tables") {
            None => return found,
            Some(Value::Table(declared)) => declared,
            Some(_) => {
                self.problem(
                    "tables",
                    "is a section: write `[destinations.NAME.tables.STREAM]`",
                );
                return found;
            }
        };
        for (name, value) in declared {
            let key = format!("tables.{name}");
            let Some(stream) = self.stream(&key, name).cloned() else {
                continue;
            };
            match value {
                Value::Table(table) => {
                    let table = self.declared_table(&key, table, &stream);
                    found.insert(stream.name, table);
                }
                _ => self.problem(&key, "is a section: write `[destinations.NAME.tables.STREAM]`"),
            }
        }
        found
    }

    fn declared_table(&mut self, key: &str, table: &Table, stream: &StreamDeclaration) -> TableConfig {
        self.unknown_keys(key, table, TABLE_KEYS);
        let lake = event::schema::lake(stream);
        let columns = table
            .get("columns")
            .map(|columns| self.columns(&format!("{key}.columns"), columns, &lake));
        let name = |reading: &mut Self, part: &str| {
            let written = table.get(part)?.as_str().map(str::to_owned);
            match &written {
                Some(name) => reading.check_name(&format!("{key}.{part}"), name),
                None => reading.problem(&format!("{key}.{part}"), "is not text"),
            }
            written
        };
        let (own_name, event) = (name(self, "table"), name(self, "event"));
        let (serial, inserted_at) = (name(self, "serial"), name(self, "inserted_at"));
        let types = self.column_types(key, table);
        let own_key = table.get("key").and_then(|value| {
            let columns = self.texts(&format!("{key}.key"), value, "columns")?;
            for column in &columns {
                self.check_name(&format!("{key}.key"), column);
            }
            Some(columns)
        });
        let words = [
            ("refuse", OnConflict::Refuse),
            ("ignore", OnConflict::Ignore),
            ("update", OnConflict::Update),
        ];
        let on_conflict = table.get("on_conflict").map(|value| {
            let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
            if found.is_none() {
                let message = format!("{value} is not one of refuse, ignore, update");
                self.problem(&format!("{key}.on_conflict"), message);
            }
            found.map(|(_, on_conflict)| *on_conflict).unwrap_or_default()
        });
        TableConfig {
            table: own_name,
            columns,
            key: own_key,
            event,
            on_conflict: on_conflict.unwrap_or_default(),
            serial,
            inserted_at,
            types,
        }
    }

    /// `types = { column = "integer" }`.
    fn column_types(&mut self, key: &str, table: &Table) -> BTreeMap<String, String> {
        let Some(written) = table.get("types") else {
            return BTreeMap::new();
        };
        let pair = |(column, value): (&String, &Value)| Some((column.clone(), value.as_str()?.to_owned()));
        let types = written
            .as_table()
            .and_then(|types| types.iter().map(pair).collect());
        types.unwrap_or_else(|| {
            self.problem(&format!("{key}.types"), "must be `{ column = \"integer\" }`");
            BTreeMap::new()
        })
    }

    /// `columns = { field = "column" }`, or a list of fields that keep their names.
    pub(in crate::config) fn columns(
        &mut self,
        key: &str,
        written: &Value,
        lake: &arrow_schema::SchemaRef,
    ) -> Vec<(String, String)> {
        let pairs: Option<Vec<(String, String)>> = match written {
            Value::Table(table) => {
                let pair =
                    |(field, column): (&String, &Value)| Some((field.clone(), column.as_str()?.to_owned()));
                table.iter().map(pair).collect()
            }
            Value::Array(fields) => {
                let pair = |field: &Value| field.as_str().map(|field| (field.to_owned(), field.to_owned()));
                fields.iter().map(pair).collect()
            }
            _ => None,
        };
        let Some(pairs) = pairs else {
            self.problem(key, "must be `{ field = \"column\" }` or a list of fields");
            return Vec::new();
        };
        for (field, column) in &pairs {
            if lake.column_with_name(field).is_none() {
                let hint = hint(field, lake.fields().iter().map(|field| field.name().as_str()));
                self.problem(key, format!("the stream has no field `{field}`{hint}"));
            }
            self.check_name(key, column);
        }
        pairs
    }
}
