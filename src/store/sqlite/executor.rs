//! One SQLite connection on a thread of its own, fed with transactions. Knows no tables.
//! The writer's transactions begin IMMEDIATE: two processes of one host wait for each other instead of failing midway.

use std::{path::Path, sync::mpsc, thread, time::Duration};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::fault::Fault;
use crate::store::Error;

/// How long a writer waits for another process's transaction (architecture: R34).
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Statements kept prepared a connection: all of ours fit.
const PREPARED_STATEMENTS: usize = 128;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A connection and its thread; the thread ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Executor {
    jobs: mpsc::Sender<Job>,
    behavior: TransactionBehavior,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Executor(..)")
    }
}

impl Executor {
    /// Opens the file and starts the thread.
    pub(super) fn open(path: &Path, behavior: TransactionBehavior) -> Result<Self, Error> {
        let attempted = "open the SQLite file";
        let connection = connect(path).map_err(|error| Fault::from(error).into_error(attempted))?;
        let (jobs, receiver) = mpsc::channel::<Job>();
        let run = move || {
            let mut connection = connection;
            for job in receiver {
                job(&mut connection);
            }
        };
        thread::Builder::new()
            .name("sqlite".to_owned())
            .spawn(run)
            .map_err(|_| Error::Unavailable { attempted, code: "no thread".to_owned() })?;
        Ok(Self { jobs, behavior })
    }

    /// Runs `work` in one transaction and commits it if it succeeds.
    ///
    /// # Cancellation
    /// The transaction ends, committed or not, even if the caller goes away.
    pub(super) async fn transact<T, F>(&self, attempted: &'static str, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let behavior = self.behavior;
        let job = move |connection: &mut Connection| {
            let outcome = in_transaction(connection, behavior, work).map_err(|fault| fault.into_error(attempted));
            // Nobody listens any more when the caller was cancelled; the transaction has ended all the same.
            drop(answer.send(outcome));
        };
        let gone = || Error::Unavailable { attempted, code: "SQLite thread ended".to_owned() };
        self.jobs.send(Box::new(job)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let transaction = connection.transaction_with_behavior(behavior)?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // The thread owns the connection, so SQLite's own mutexes would only cost.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a refreshed token must be durable before it is used (R7), also through a power loss.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    Ok(connection)
}
