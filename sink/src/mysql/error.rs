//! What the server says, by its codes: whose fault it is. Never by its texts, which differ by version and language.
//!
//! A code that is not known is an outage: it is tried again, is counted, and nothing is lost or refused for it.

use mysql_async::{DriverError, Error, ServerError};

use crate::database::{DatabaseError, Refusal};

/// `LOAD DATA LOCAL` is off: MySQL 5.7, MySQL 8 (server, client), MariaDB, and a client that does not offer it.
const LOAD_DATA_OFF: [u16; 5] = [1_148, 2_068, 3_948, 3_950, 4_166];

/// Duplicate column: somebody else added it first.
pub(super) const DUPLICATE_COLUMN: u16 = 1_060;

/// The row of a table is too large for InnoDB's page.
pub(super) const ROW_TOO_LARGE: u16 = 1_118;

/// Errors of a row whose SQLSTATE does not say so.
const ROW_CODES: [u16; 17] = [
    ROW_TOO_LARGE, // row size too large, by the values of this row
    1_263,         // NULL supplied to NOT NULL column
    1_265,         // data truncated
    1_364,         // no default value
    1_366,         // incorrect value, such as characters that the column's set lacks
    1_367,         // illegal value while parsing
    1_369,         // CHECK OPTION failed
    1_406,         // data too long
    1_411,         // incorrect value for function
    1_526,         // no partition for this value
    1_644,         // SIGNAL of a trigger
    1_713,         // undo log record too big
    1_748,         // row does not match the partition
    3_140,         // invalid JSON text
    3_819,         // CHECK constraint violated (MySQL)
    4_025,         // CHECK constraint failed (MariaDB)
    1_301,         // result larger than max_allowed_packet
];

/// Errors of rights, names and statements: a person must act.
const DENIED_CODES: [u16; 14] = [
    1_044, // access denied to the database
    1_045, // access denied: wrong user or password
    1_046, // no database selected
    1_049, // unknown database
    1_054, // unknown column
    1_064, // syntax
    1_142, // command denied on the table
    1_143, // command denied on a column
    1_146, // no such table
    1_227, // a privilege is missing
    1_251, // authentication protocol is not supported
    1_370, // routine access denied
    1_698, // access denied without a password
    1_820, // the password must be changed
];

/// Errors whose SQLSTATE says that a person must act, but time does as well: too many connections of this user, a
/// limit of this hour.
const OUTAGE_CODES: [u16; 2] = [1_203, 1_226];

/// Whose fault a server's error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Row,
    Denied,
    Outage,
}

fn verdict(error: &ServerError) -> Verdict {
    if ROW_CODES.contains(&error.code) {
        return Verdict::Row;
    }
    if DENIED_CODES.contains(&error.code) {
        return Verdict::Denied;
    }
    if OUTAGE_CODES.contains(&error.code) {
        return Verdict::Outage;
    }
    match error.state.get(..2) {
        // Data exception, integrity constraint, WITH CHECK OPTION, raised by a trigger.
        Some("22" | "23" | "44" | "45") => Verdict::Row,
        // Invalid authorization, syntax error or access rule.
        Some("28" | "42") => Verdict::Denied,
        // 08 connection, 40 rolled back, 70100 killed, HY000: deadlock 1213, lock wait 1205, read-only 1290, 1792,
        // 1836, too many connections 1040, 1203, 1226, packet too large 1153, full 1114, 1021, shutdown 1053 …
        _ => Verdict::Outage,
    }
}

/// Whether an error says that `LOAD DATA LOCAL` is not allowed here.
pub(super) fn load_data_is_off(error: &Error) -> bool {
    matches!(error, Error::Server(error) if LOAD_DATA_OFF.contains(&error.code))
}

/// The server's code, if the server said it.
pub(super) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code),
        Error::Driver(_) | Error::Io(_) | Error::Other(_) | Error::Url(_) => None,
    }
}

/// A refusal when it is a row's fault, else the error of the whole.
pub(super) fn refusal(operation: &'static str, error: Error) -> Result<Refusal, DatabaseError> {
    match error {
        Error::Server(error) if verdict(&error) == Verdict::Row => {
            Ok(Refusal::new(error.code.to_string(), error.message))
        }
        error => Err(failed(operation, &error)),
    }
}

/// The error of an operation in which no row can be at fault.
pub(super) fn failed(operation: &'static str, error: &Error) -> DatabaseError {
    let (verdict, message) = match error {
        Error::Server(error) => {
            let message = format!("error {} ({}): {}", error.code, error.state, error.message);
            (verdict(error), message)
        }
        // Its text may hold a packet's bytes, so only its kind is told.
        Error::Driver(DriverError::UnexpectedPacket { .. }) => {
            (Verdict::Outage, "the server sent what was not due".to_owned())
        }
        Error::Driver(
            error @ (DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::NoKeyFound
            | DriverError::NoClientSslFlagFromServer
            | DriverError::CleartextPluginDisabled),
        ) => (Verdict::Denied, error.to_string()),
        Error::Driver(error) => (Verdict::Outage, error.to_string()),
        Error::Io(error) => (Verdict::Outage, error.to_string()),
        Error::Other(error) => (Verdict::Outage, error.to_string()),
        Error::Url(_) => (Verdict::Denied, "the URL is wrong".to_owned()),
    };
    match verdict {
        Verdict::Denied => DatabaseError::Denied { operation, message },
        // Where no row is at fault, what looks like a row's error is one of the table's; it is tried again.
        Verdict::Row | Verdict::Outage => DatabaseError::Outage { operation, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, state: &str) -> Error {
        Error::Server(ServerError {
            code,
            message: "in any language".to_owned(),
            state: state.to_owned(),
        })
    }

    #[test]
    fn a_row_is_refused_only_for_what_is_its_fault() {
        for (code, state) in [
            (1_406, "22001"),
            (1_264, "22003"),
            (1_366, "HY000"),
            (1_366, "22007"),
            (1_062, "23000"),
            (1_048, "23000"),
            (1_292, "22007"),
            (1_644, "45000"),
            (3_819, "HY000"),
            (4_025, "23000"),
        ] {
            let refusal = refusal("load rows", server(code, state)).expect("the row's fault");
            assert_eq!(refusal.code, code.to_string());
        }
        for (code, state) in [
            (1_213, "40001"),
            (1_205, "HY000"),
            (1_290, "HY000"),
            (1_792, "25006"),
            (1_836, "HY000"),
            (1_153, "08S01"),
            (1_040, "08004"),
            (1_203, "42000"),
            (1_114, "HY000"),
            (1_053, "08S01"),
            (1_927, "70100"),
            (1_020, "HY000"),
            (60_000, "HY000"),
        ] {
            let error = refusal("load rows", server(code, state)).expect_err("not the row's fault");
            assert!(matches!(error, DatabaseError::Outage { .. }), "{error}");
        }
        for (code, state) in [
            (1_045, "28000"),
            (1_049, "42000"),
            (1_142, "42000"),
            (1_146, "42S02"),
        ] {
            let error = refusal("load rows", server(code, state)).expect_err("not the row's fault");
            assert!(matches!(error, DatabaseError::Denied { .. }), "{error}");
        }
        assert!(load_data_is_off(&server(4_166, "HY000")) && !load_data_is_off(&server(1_064, "42000")));
    }
}
