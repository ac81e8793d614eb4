//! The store in the fake world: the real one on SQLite, a file for each world. Its clock is the machine's, so the times at
//! which it recorded wishes are told by the world's clock.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{FakeWorld, State};
use crate::{
    operator::{
        error::Error,
        world::{Answer, Reply},
    },
    store::{self, Store},
};

/// Times and opens; nothing runs on it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// An empty store of the present schema, to be copied.
static TEMPLATE: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let directory = directory();
    let (migrated, copy) = (directory.path().join("migrated"), directory.path().join("template"));
    let store = open(&migrated);
    block_on(store.migrate()).expect("migrates");
    let connection = rusqlite::Connection::open(&migrated).expect("opens");
    connection.execute("VACUUM INTO ?1", [copy.to_str().expect("a path of ours")]).expect("copied");
    (directory, copy)
});

/// Where a world's store is; gone with it.
#[derive(Debug)]
pub(in crate::operator) struct File {
    path: PathBuf,
    _directory: TempDir,
}

impl File {
    /// Changes rows behind everybody's back.
    pub(in crate::operator) fn execute(&self, sql: &str) {
        rusqlite::Connection::open(&self.path).expect("opens").execute_batch(sql).expect("executes");
    }

    /// Rows of a query as texts, for the eyes of tests.
    pub(in crate::operator) fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let connection = rusqlite::Connection::open(&self.path).expect("opens");
        let mut statement = connection.prepare(sql).expect("prepares");
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|place| row.get(place)).collect()).expect("queries");
        rows.collect::<Result<_, _>>().expect("rows of text")
    }
}

/// Runs a future here, with a runtime at hand for its timers and threads.
pub(in crate::operator) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let _runtime = RUNTIME.enter();
    futures::executor::block_on(future)
}

/// A store of its own.
pub(super) fn fresh() -> (Arc<dyn Store>, File) {
    let directory = directory();
    let path = directory.path().join("store");
    std::fs::copy(&TEMPLATE.1, &path).expect("copied");
    (open(&path), File { path, _directory: directory })
}

/// In memory where that is a file system: a store syncs every commit.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

fn open(path: &Path) -> Arc<dyn Store> {
    block_on(store::open(&format!("sqlite:{}", path.display()))).expect("opens")
}

impl FakeWorld {
    /// What the store said.
    pub(super) fn told(&self, answer: Result<Answer, store::Error>) -> Reply {
        self.leadership.heed(&answer);
        let mut answer = answer.map_err(Error::Store)?;
        let mut state = self.state();
        match &mut answer {
            Answer::Connector(told) => {
                told.fresh_tokens.values_mut().chain(told.handled.values_mut()).for_each(|of| state.retell(&mut of.at));
            }
            Answer::Recorded(times) => times.values_mut().for_each(|at| state.retell(at)),
            _ => {}
        }
        Ok(answer)
    }
}

impl State {
    /// The time of a record by this world's clock: when it was first told of, and no two at once.
    fn retell(&mut self, recorded_at: &mut Timestamp) {
        let mut at = self.now;
        while self.recorded.values().any(|of| *of == at) {
            at += SignedDuration::from_micros(1);
        }
        *recorded_at = *self.recorded.entry(*recorded_at).or_insert(at);
    }
}
