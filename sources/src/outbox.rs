//! An outbox table from the other side: made from a declaration, and filled, as an application that writes events into
//! its database does. For trying things out and for tests.

use event::{FieldType, StreamDeclaration};
use serde_json::Value;

use crate::SourceError;
use crate::postgres::{Connection, Server, quoted, quoted_table};

/// The statements that make an outbox table for a stream: a column for each field, the state of each row, and an index of
/// the rows that wait. A moment that the writer leaves out is the one of the insert.
#[must_use]
pub fn table_sql(table: &str, stream: &StreamDeclaration, id: &str) -> String {
    let name = quoted_table(table);
    let mut columns = Vec::new();
    // What lies inside of another field comes with it.
    for field in stream.fields.iter().filter(|field| field.path.len() == 1) {
        let (sql_type, default) = match &field.kind {
            FieldType::Bool => ("BOOLEAN", ""),
            FieldType::Int { .. } | FieldType::Timestamp { unit: Some(_) } => ("BIGINT", ""),
            FieldType::Float { .. } => ("DOUBLE PRECISION", ""),
            FieldType::String { .. } | FieldType::Enum { .. } => ("TEXT", ""),
            FieldType::Uuid => ("UUID", ""),
            FieldType::Timestamp { unit: None } => ("TIMESTAMPTZ", " DEFAULT now()"),
            FieldType::Json => ("JSONB", ""),
        };
        let role = match (field.name == id, field.optional) {
            (true, _) => " PRIMARY KEY",
            (false, false) => " NOT NULL",
            (false, true) => "",
        };
        columns.push(format!("{} {sql_type}{role}{default}", quoted(&field.name)));
    }
    columns.push("state TEXT NOT NULL DEFAULT 'pending'".to_owned());
    columns.push("reason TEXT".to_owned());
    let order = quoted(stream.time.as_deref().unwrap_or(id));
    let index = quoted(&format!("{}_waiting", table.replace('.', "_")));
    format!(
        "CREATE TABLE IF NOT EXISTS {name} (\n    {}\n);\nCREATE INDEX IF NOT EXISTS {index} ON {name} ({order}) WHERE \
         state = 'pending';\n",
        columns.join(",\n    ")
    )
}

/// Writes events into an outbox table, each in a transaction of its own.
pub struct OutboxWriter {
    connection: Connection,
    table: String,
}

impl OutboxWriter {
    /// Connects to a server.
    ///
    /// # Errors
    /// [`SourceError`] (input) for a URL that is none, (outage) when the server does not take the connection.
    pub async fn open(url: &str, table: &str) -> Result<Self, SourceError> {
        let server = Server::parse(url).map_err(|error| SourceError::Config(format!("the URL {error}")))?;
        Ok(Self {
            connection: Connection::open(&server).await?,
            table: quoted_table(table),
        })
    }

    /// Runs the statements of [`table_sql`].
    ///
    /// # Errors
    /// [`SourceError`] when the server refuses.
    pub async fn create(&self, sql: &str) -> Result<(), SourceError> {
        self.connection.run("make the table", sql).await
    }

    /// Writes one event, a JSON object whose members are columns.
    ///
    /// # Errors
    /// [`SourceError`] when it is no object, or the server refuses it.
    pub async fn insert(&self, event: &Value) -> Result<(), SourceError> {
        let members = event.as_object().filter(|members| !members.is_empty());
        let members =
            members.ok_or_else(|| SourceError::Config("an event is an object with members".to_owned()))?;
        let columns: Vec<_> = members.keys().map(|name| quoted(name)).collect();
        let columns = columns.join(", ");
        let sql = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_record(NULL::{table}, $1::text::json)",
            table = self.table
        );
        let text = event.to_string();
        self.connection
            .execute("write an event", &sql, &[&text])
            .await
            .map(drop)
    }
}
