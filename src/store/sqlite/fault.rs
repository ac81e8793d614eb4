//! What can go wrong inside a SQLite transaction, and how it becomes the store's error: result codes, never values (R18).

use rusqlite::ErrorCode;

use crate::store::Error;

/// A failure inside a transaction, before it is known what was attempted.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite's or the driver's.
    Database(rusqlite::Error),
    /// Ours.
    Store(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// The store's error for this fault.
    pub(super) fn into_error(self, attempted: &'static str) -> Error {
        match self {
            Self::Store(error) => error,
            Self::Database(rusqlite::Error::SqliteFailure(failure, _)) => from_code(attempted, failure),
            Self::Database(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::Utf8Error(..),
            ) => Error::Unreadable { what: "value" },
            Self::Database(rusqlite::Error::QueryReturnedNoRows) => {
                Error::Refused { attempted, code: "no such row".to_owned() }
            }
            Self::Database(_) => Error::Refused { attempted, code: "driver".to_owned() },
        }
    }

    /// The result code, when SQLite refused the data of one row.
    pub(super) fn refused_data(&self) -> Option<String> {
        match self {
            Self::Database(rusqlite::Error::SqliteFailure(failure, _)) => {
                is_data(failure.code).then(|| code_text(*failure))
            }
            _ => None,
        }
    }
}

fn is_data(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
}

fn code_text(failure: rusqlite::ffi::Error) -> String {
    format!("SQLite {} {:?}", failure.extended_code, failure.code)
}

fn from_code(attempted: &'static str, failure: rusqlite::ffi::Error) -> Error {
    let code = code_text(failure);
    match failure.code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::DiskFull
        | ErrorCode::OutOfMemory
        | ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted => Error::Unavailable { attempted, code },
        refused if is_data(refused) => Error::RefusedData { attempted, code },
        _ => Error::Refused { attempted, code },
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_refused_value_is_named_by_code_and_never_shown() {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch("CREATE TABLE t (a INTEGER UNIQUE, b TEXT UNIQUE) STRICT").expect("table");
        connection.execute("INSERT INTO t VALUES (1, 'canary')", []).expect("row");
        for statement in ["INSERT INTO t VALUES (2, 'canary')", "INSERT INTO t VALUES ('canary', 'b')", "SELECT canary"]
        {
            let fault = Fault::from(connection.execute(statement, []).expect_err("refused"));
            let error = fault.into_error("write a row");
            assert!(matches!(error, Error::RefusedData { .. } | Error::Refused { .. }), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        let read: rusqlite::Result<i64> = connection.query_row("SELECT b FROM t", [], |row| row.get(0));
        let error = Fault::from(read.expect_err("text is no integer")).into_error("read");
        assert_eq!(error, Error::Unreadable { what: "value" });
    }

    #[test]
    fn a_locked_database_is_unavailable_and_data_faults_are_told_from_it() {
        let failure = |code| Fault::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
        let busy = failure(rusqlite::ffi::SQLITE_BUSY);
        assert_eq!(busy.refused_data(), None);
        assert!(matches!(busy.into_error("write"), Error::Unavailable { attempted: "write", .. }));
        assert!(failure(rusqlite::ffi::SQLITE_CONSTRAINT).refused_data().is_some());
    }
}
