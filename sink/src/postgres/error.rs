//! What PostgreSQL answers, by kind: the SQLSTATE decides, never the text.
//!
//! | SQLSTATE | verdict |
//! |---|---|
//! | 21 one key twice in one statement, 22 data, 23 constraint, 44 a view's check, 54 a limit, P0 raised by a trigger | some row is to blame: rows are tried in smaller ranges |
//! | 22P03, 22P04 the binary format is not the table's | the table has changed under us: [`DatabaseError::Denied`], and the next connection compares it again |
//! | 0A, 28, 3D, 3F, 42 no right, no database, no such column | [`DatabaseError::Denied`]: a person must act |
//! | everything else (08, 25, 40, 53, 55, 57, 58, XX), and a connection that is gone | [`DatabaseError::Outage`]: the same again later may pass |

use tokio_postgres::error::{DbError, SqlState};

use crate::database::{DatabaseError, Refusal};

/// What an error of a statement means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// A row of what was sent is to blame; the transaction is aborted up to its savepoint.
    Row(Refusal),
    /// No row is; the session is of no use any more.
    Failed(DatabaseError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Row,
    Outage,
    Denied,
}

fn kind_of(code: &SqlState) -> Kind {
    if *code == SqlState::INVALID_BINARY_REPRESENTATION || *code == SqlState::BAD_COPY_FILE_FORMAT {
        return Kind::Denied;
    }
    match code.code().get(..2) {
        Some("21" | "22" | "23" | "44" | "54" | "P0") => Kind::Row,
        Some("0A" | "28" | "3D" | "3F" | "42") => Kind::Denied,
        _ => Kind::Outage,
    }
}

/// What an error means for a statement that writes rows.
pub(super) fn verdict(operation: &'static str, error: &tokio_postgres::Error) -> Verdict {
    match error.as_db_error() {
        Some(said) if kind_of(said.code()) == Kind::Row => {
            Verdict::Row(Refusal::new(said.code().code(), words(said)))
        }
        _ => Verdict::Failed(failure(operation, error)),
    }
}

/// What an error means for a statement that has no row of an event in it.
pub(super) fn failure(operation: &'static str, error: &tokio_postgres::Error) -> DatabaseError {
    let Some(said) = error.as_db_error() else {
        let message = chain(error);
        return DatabaseError::Outage { operation, message };
    };
    let message = format!("{} (SQLSTATE {})", words(said), said.code().code());
    match kind_of(said.code()) {
        Kind::Row | Kind::Denied => DatabaseError::Denied { operation, message },
        Kind::Outage => DatabaseError::Outage { operation, message },
    }
}

/// What the server said, in one line. The statement and the place in it are left out: they are ours.
fn words(error: &DbError) -> String {
    let mut text = error.message().to_owned();
    let parts = [
        ("", error.detail()),
        ("constraint ", error.constraint()),
        ("in ", error.where_()),
    ];
    for (what, value) in parts {
        if let Some(value) = value {
            text.push_str("; ");
            text.push_str(what);
            text.push_str(&value.replace('\n', " "));
        }
    }
    text
}

/// An error of the client and its causes: the socket, TLS, how it authenticates. None of them repeats a password.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_the_code_decides_who_must_act() {
        let cases = [
            (
                Kind::Row,
                "21000 22021 22P05 22003 22008 23505 23502 23514 44000 54000 P0001",
            ),
            (Kind::Denied, "22P03 22P04 28P01 3D000 3F000 42501 42P01 42703"),
            (
                Kind::Outage,
                "08006 25006 25P03 40001 40P01 53100 53300 55P03 57014 57P01 57P03 58030 XX000",
            ),
        ];
        for (expected, codes) in cases {
            for code in codes.split(' ') {
                assert_eq!(kind_of(&SqlState::from_code(code)), expected, "{code}");
            }
        }
    }
}
