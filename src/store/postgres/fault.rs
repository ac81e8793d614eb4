//! What can go wrong in PostgreSQL, and how it becomes the store's error: SQLSTATE and names only. The driver's own
//! Display prints the server's DETAIL, which holds row values, so it is never used (R18).

use std::{error::Error as _, io};

use deadpool_postgres::PoolError;
use tokio_postgres::{
    error::DbError,
    types::{WasNull, WrongType},
};

use crate::{store::Error, tls};

/// A failure before it is known what was attempted.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server's or the driver's.
    Database(tokio_postgres::Error),
    /// No connection could be had; with the kind of reason.
    Pool(&'static str),
    /// Ours.
    Store(Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Database(error),
            PoolError::Timeout(_) => Self::Pool("pool timeout"),
            PoolError::Closed => Self::Pool("pool closed"),
            PoolError::NoRuntimeSpecified => Self::Pool("no runtime"),
            PoolError::PostCreateHook(_) => Self::Pool("hook"),
        }
    }
}

impl Fault {
    /// The store's error for this fault.
    pub(super) fn into_error(self, attempted: &'static str) -> Error {
        match self {
            Self::Store(error) => error,
            Self::Pool(code) => Error::Unavailable { attempted, code: code.to_owned() },
            Self::Database(error) => match error.as_db_error() {
                Some(refusal) => from_refusal(attempted, refusal),
                None => from_driver(attempted, &error),
            },
        }
    }

    /// Code and column, when the server refused data rather than a statement: classes 22 (data) and 23 (constraints),
    /// and 54 (limits: a document nested too deep).
    pub(super) fn refused_data(&self) -> Option<(String, Option<String>)> {
        let Self::Database(error) = self else { return None };
        let refusal = error.as_db_error()?;
        let code = refusal.code().code();
        is_data(code).then(|| (code.to_owned(), refusal.column().map(str::to_owned)))
    }
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or("")
}

fn is_data(code: &str) -> bool {
    ["22", "23", "54"].contains(&class(code))
}

/// SQLSTATEs that a repetition can heal (R2): lost connections, rollbacks, resources, shutdown, system errors, a read-only
/// replica after a fail-over, lock timeout, a transaction that idled away; a refused login, for passwords and certificates
/// are changed on both sides one after the other.
fn is_outage(code: &str) -> bool {
    matches!(class(code), "08" | "28" | "40" | "53" | "57" | "58") || matches!(code, "25006" | "25P03" | "55P03")
}

/// A code that people should not have to look up.
fn said(sqlstate: &str) -> &str {
    match sqlstate {
        "28P01" => "28P01, the server refuses the password",
        "28000" => "28000, the server refuses the role, its certificate, or a connection of this kind",
        other => other,
    }
}

fn from_refusal(attempted: &'static str, refusal: &DbError) -> Error {
    let sqlstate = refusal.code().code();
    if is_outage(sqlstate) {
        return Error::Unavailable { attempted, code: said(sqlstate).to_owned() };
    }
    let names = [refusal.table(), refusal.column(), refusal.constraint()];
    let code = std::iter::once(sqlstate).chain(names.into_iter().flatten()).collect::<Vec<_>>().join(" ");
    if is_data(sqlstate) { Error::RefusedData { attempted, code } } else { Error::Refused { attempted, code } }
}

fn from_driver(attempted: &'static str, error: &tokio_postgres::Error) -> Error {
    let unavailable = |code: &str| Error::Unavailable { attempted, code: code.to_owned() };
    match error.source() {
        Some(source) if source.is::<WrongType>() || source.is::<WasNull>() || source.is::<serde_json::Error>() => {
            Error::Unreadable { what: "value" }
        }
        Some(source) => match source.downcast_ref::<io::Error>() {
            Some(cause) => match tls::reason(cause) {
                Some(reason) => unavailable(reason),
                None => unavailable(&format!("connection: {:?}", cause.kind())),
            },
            None => Error::Refused { attempted, code: "driver".to_owned() },
        },
        None => unavailable("connection"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_heal_is_told_from_what_cannot() {
        for outage in ["08006", "28000", "28P01", "25006", "40001", "40P01", "53300", "55P03", "57014", "57P01", "58030", "25P03"] {
            assert!(is_outage(outage), "{outage}");
        }
        for refusal in ["22P02", "23505", "42P01", "3D000", "25001", ""] {
            assert!(!is_outage(refusal), "{refusal}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_unavailable_and_names_no_address() {
        let url = "postgres://canary:canary@127.0.0.1:1/canary";
        let Err(error) = tokio_postgres::connect(url, tokio_postgres::NoTls).await else { panic!("port 1 answers") };
        let error = Fault::from(error).into_error("connect");
        assert_eq!(
            error,
            Error::Unavailable { attempted: "connect", code: "connection: ConnectionRefused".to_owned() }
        );
    }
}
