//! A table's shape: made from the declaration, compared with what is there, grown by new optional fields.
//!
//! A table of a declared mapping may be somebody else's: it is taken as it is when every column can take its values
//! (see [`super::wire`]) and the key is unique. Any other difference is an error that names it. Nothing is ever
//! dropped, renamed or converted.
//!
//! Several processes may do this at once: whoever has something to change takes a lock for the transaction, and
//! looks again under it. The statements say `IF NOT EXISTS` all the same, because a server may answer the second
//! look from what it remembers of the first; what came out is looked at once more after the commit.

use tokio_postgres::types::Type;

use super::connection::Connection;
use super::encode::Sent;
use super::positions;
use super::wire::{ddl, is_own, wire};
use crate::database::{Column, DatabaseError, DeclaredType, MappingError, TargetTable};

/// Longest name, in bytes: PostgreSQL cuts longer ones without an error.
const NAME_BYTES_MAX: usize = 63;

/// Most columns of a table.
const COLUMNS_MAX: usize = 1_600;

/// Most columns of a key.
const KEY_COLUMNS_MAX: usize = 32;

/// Names that every table has already.
const SYSTEM_COLUMNS: [&str; 6] = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

const OPERATION: &str = "prepare the table";

/// The lock of whoever changes tables; an arbitrary number that means nothing to others.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7261845032761)";

const FIND_TABLE: &str = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1)";

const FIND_COLUMNS: &str = "
    SELECT a.attname::text, coalesce(b.typname, t.typname)::text, coalesce(b.typtype, t.typtype) = 'e',
           format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '',
           t.typname LIKE 'timestamp%' AND a.atttypmod BETWEEN 0 AND 5
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

/// An index that `ON CONFLICT` accepts for exactly these columns, whatever their order.
const FIND_KEY: &str = "
    SELECT 1 FROM pg_index i
    WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
      AND $2 = (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\")
                FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k(number)
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number)
    LIMIT 1";

/// A column as the server has it.
#[derive(Debug)]
struct FoundColumn {
    name: String,
    type_name: String,
    is_enum: bool,
    shown: String,
    not_null: bool,
    filled: bool,
    generated: bool,
    /// Whether it keeps less than microseconds.
    coarse: bool,
}

/// What must be done before rows can be written.
enum Plan<'a> {
    Nothing(Vec<Sent>),
    Create,
    Add(Vec<&'a Column>),
}

/// Whether PostgreSQL can have such a table.
pub(super) fn check(table: &TargetTable) -> Result<(), MappingError> {
    let unsupported = |reason: String| MappingError::Unsupported {
        table: table.name.clone(),
        reason,
    };
    let names = std::iter::once(("table", &table.name))
        .chain(table.columns.iter().map(|column| ("column", &column.name)))
        .chain(table.filled_columns().map(|column| ("column", &column.name)));
    for (what, name) in names {
        if name.len() > NAME_BYTES_MAX {
            let bytes = name.len();
            return Err(unsupported(format!(
                "the name of {what} `{name}` has {bytes} bytes, the limit of PostgreSQL is {NAME_BYTES_MAX}"
            )));
        }
        if what == "column" && SYSTEM_COLUMNS.contains(&name.as_str()) {
            return Err(unsupported(format!(
                "column `{name}` is one that PostgreSQL gives every table"
            )));
        }
    }
    for (what, count, limit) in [
        ("columns", table.columns.len(), COLUMNS_MAX),
        ("columns in the key", table.key.len(), KEY_COLUMNS_MAX),
    ] {
        if count > limit {
            return Err(unsupported(format!(
                "{count} {what}, the limit of PostgreSQL is {limit}"
            )));
        }
    }
    Ok(())
}

/// A name in a statement. Names match `^[a-zA-Z_][a-zA-Z0-9_]*$`; the quotes keep their case.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Names in a statement, separated by commas.
pub(super) fn quoted_list<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    let names: Vec<String> = columns.map(|column| quoted(&column.name)).collect();
    names.join(", ")
}

/// Makes the table what the declaration says, and gives the form in which each column is sent.
pub(super) async fn prepare(
    connection: &Connection,
    table: &TargetTable,
) -> Result<Vec<Sent>, DatabaseError> {
    let own = positions::missing(connection).await?;
    if own.is_empty()
        && let Plan::Nothing(sent) = compare(connection, table).await?
    {
        return Ok(sent);
    }
    connection
        .run(OPERATION, "BEGIN ISOLATION LEVEL READ COMMITTED")
        .await?;
    connection.run(OPERATION, LOCK).await?;
    for statement in positions::missing(connection).await? {
        connection.run(OPERATION, statement).await?;
    }
    match compare(connection, table).await? {
        Plan::Nothing(_) => {}
        Plan::Create => connection.run(OPERATION, &create(table)).await?,
        Plan::Add(columns) => {
            for column in &columns {
                tracing::info!(table = table.name, column = column.name, "a new column");
            }
            connection.run(OPERATION, &add(table, &columns)).await?;
        }
    }
    connection.run(OPERATION, "COMMIT").await?;
    columns_of(connection, table).await
}

/// The form in which each column of a prepared table is sent.
pub(super) async fn columns_of(
    connection: &Connection,
    table: &TargetTable,
) -> Result<Vec<Sent>, DatabaseError> {
    match compare(connection, table).await? {
        Plan::Nothing(sent) => Ok(sent),
        Plan::Create | Plan::Add(_) => Err(DatabaseError::Outage {
            operation: OPERATION,
            message: format!("table `{}` was changed meanwhile", table.name),
        }),
    }
}

fn create(table: &TargetTable) -> String {
    let mut parts = Vec::with_capacity(table.columns.len() + 2);
    if let Some(serial) = &table.serial {
        let kind = match serial.declared_type {
            Some(DeclaredType::SmallInt) => "SMALLSERIAL",
            Some(DeclaredType::BigInt) => "BIGSERIAL",
            _ => "SERIAL",
        };
        parts.push(format!("{} {kind} PRIMARY KEY", quoted(&serial.name)));
    }
    for column in &table.columns {
        let not_null = if column.nullable { "" } else { " NOT NULL" };
        parts.push(format!("{} {}{not_null}", quoted(&column.name), type_of(column)));
    }
    if let Some(filled) = &table.inserted_at {
        let kind = filled
            .declared_type
            .map_or("TIMESTAMPTZ".to_owned(), declared_ddl);
        parts.push(format!(
            "{} {kind} DEFAULT CURRENT_TIMESTAMP",
            quoted(&filled.name)
        ));
    }
    if table.serial.is_none() {
        parts.push(format!("PRIMARY KEY ({})", quoted_list(table.key_columns())));
    }
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({})",
        quoted(&table.name),
        parts.join(", ")
    )
}

/// The type of a column that is made.
fn type_of(column: &Column) -> String {
    column
        .declared_type
        .map_or_else(|| ddl(column.kind).to_owned(), declared_ddl)
}

fn declared_ddl(declared: DeclaredType) -> String {
    match declared {
        DeclaredType::SmallInt => "SMALLINT".to_owned(),
        DeclaredType::Integer => "INTEGER".to_owned(),
        DeclaredType::BigInt => "BIGINT".to_owned(),
        DeclaredType::Timestamp => "TIMESTAMP".to_owned(),
        DeclaredType::TimestampTz => "TIMESTAMPTZ".to_owned(),
        DeclaredType::VarChar(characters) => format!("VARCHAR({characters})"),
        DeclaredType::Text => "TEXT".to_owned(),
        DeclaredType::Json => "JSON".to_owned(),
    }
}

fn add(table: &TargetTable, columns: &[&Column]) -> String {
    let added: Vec<String> = columns
        .iter()
        .map(|column| {
            format!(
                "ADD COLUMN IF NOT EXISTS {} {}",
                quoted(&column.name),
                type_of(column)
            )
        })
        .collect();
    format!("ALTER TABLE {} {}", quoted(&table.name), added.join(", "))
}

/// What is between the table as it is and the table as it must be.
async fn compare<'a>(connection: &Connection, table: &'a TargetTable) -> Result<Plan<'a>, DatabaseError> {
    let name = quoted(&table.name);
    let kinds = connection
        .query(OPERATION, FIND_TABLE, &[(&name, Type::TEXT)])
        .await?;
    let Some(kind) = kinds.first() else {
        return Ok(Plan::Create);
    };
    let kind: String = get(kind, 0)?;
    if !["r", "p"].contains(&kind.as_str()) {
        return Err(differs(
            table,
            "it is a view or something else that is no table".to_owned(),
        ));
    }
    let mut found = Vec::new();
    for row in connection
        .query(OPERATION, FIND_COLUMNS, &[(&name, Type::TEXT)])
        .await?
    {
        found.push(FoundColumn {
            name: get(&row, 0)?,
            type_name: get(&row, 1)?,
            is_enum: get(&row, 2)?,
            shown: get(&row, 3)?,
            not_null: get(&row, 4)?,
            filled: get(&row, 5)?,
            generated: get(&row, 6)?,
            coarse: get(&row, 7)?,
        });
    }
    let plan = columns(table, &found).map_err(|difference| differs(table, difference))?;
    if table.serial.is_some() {
        // It is appended to, so nothing has to tell its rows apart.
        return Ok(plan);
    }
    let mut key: Vec<String> = table.key_columns().map(|column| column.name.clone()).collect();
    let shown = quoted_list(table.key_columns());
    key.sort_unstable();
    let parameters = [(&name as _, Type::TEXT), (&key as _, Type::TEXT_ARRAY)];
    if connection
        .query(OPERATION, FIND_KEY, &parameters)
        .await?
        .is_empty()
    {
        let difference = format!("it has no primary key or unique index of exactly {shown}");
        return Err(differs(table, difference));
    }
    Ok(plan)
}

/// Compares columns; the error says what differs.
fn columns<'a>(table: &'a TargetTable, found: &[FoundColumn]) -> Result<Plan<'a>, String> {
    let mut sent = Vec::with_capacity(table.columns.len());
    let mut missing = Vec::new();
    for column in &table.columns {
        let (name, expected) = (&column.name, ddl(column.kind));
        let Some(there) = found.iter().find(|there| there.name == *name) else {
            if !column.nullable {
                return Err(format!("required column `{name}` ({expected}) is missing"));
            }
            missing.push(column);
            continue;
        };
        let wire = wire(column.kind, &there.type_name, there.is_enum)
            .filter(|_| table.declared || is_own(column.kind, &there.type_name));
        let Some(wire) = wire else {
            return Err(format!("column `{name}` is {}, expected {expected}", there.shown));
        };
        if there.coarse {
            return Err(format!(
                "column `{name}` is {}, which cuts microseconds",
                there.shown
            ));
        }
        if there.generated {
            return Err(format!("column `{name}` is generated, so it takes no values"));
        }
        if there.not_null && column.nullable {
            return Err(format!(
                "column `{name}` takes no null, but its field is optional"
            ));
        }
        sent.push(Sent {
            source: column.source,
            wire,
        });
    }
    for filled in table.filled_columns() {
        let name = &filled.name;
        let there = found.iter().find(|there| there.name == *name);
        if !there.is_some_and(|there| there.filled || there.generated) {
            return Err(format!(
                "column `{name}` is missing, or the database does not fill it by itself"
            ));
        }
    }
    let ours = |there: &FoundColumn| table.columns.iter().any(|column| column.name == there.name);
    if let Some(alone) = found
        .iter()
        .find(|there| !ours(there) && there.not_null && !there.filled && !there.generated)
    {
        return Err(format!(
            "column `{}` must have a value, and nothing is mapped to it",
            alone.name
        ));
    }
    Ok(if missing.is_empty() {
        Plan::Nothing(sent)
    } else {
        Plan::Add(missing)
    })
}

fn differs(table: &TargetTable, difference: String) -> DatabaseError {
    DatabaseError::Differs {
        table: table.name.clone(),
        difference,
    }
}

/// A value of a row of a catalog.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a tokio_postgres::Row,
    column: usize,
) -> Result<T, DatabaseError> {
    row.try_get(column)
        .map_err(|error| super::error::failure("read an answer", &error))
}
