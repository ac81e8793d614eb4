//! Certificates, keys, tokens and passwords in files, read again when their content changes: Kubernetes swaps the files of a
//! mounted Secret behind their paths. What cannot be used leaves the former content in use, and is told by log, readiness and
//! metric. Knows no format: whoever loads says how content becomes a value.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::Instant};

use crate::{
    clock,
    error_class::Class,
    health::Readiness,
    metrics::{KeyFileOf, Metrics},
};

/// Between two looks. The kubelet takes up to a minute or two to bring a changed Secret into a pod, so this adds nothing.
const LOOK: Duration = Duration::from_secs(5);

/// Why there is no value to begin with. Texts hold names and paths, never content (R18).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file is missing or not ours to read.
    #[error("{of}: cannot read {path} ({kind})")]
    Unreadable {
        /// What the files are of.
        of: &'static str,
        /// The file.
        path: String,
        /// Kind of the I/O error.
        kind: String,
    },
    /// Content that is not what it should be.
    #[error("{of}: {problem}")]
    Unusable {
        /// What the files are of.
        of: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    /// Files change under our feet: all is worth another look.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unreadable { .. } | Self::Unusable { .. } => Class::Transient,
        }
    }
}

/// What is made of files.
pub trait Material: Send + Sync + 'static {
    /// When it ends, if it does.
    fn not_after(&self) -> Option<Timestamp> {
        None
    }
}

/// From the files' content, in their order, to the value; or what is wrong, without any of the content.
type Build<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// A value made of files, always the newest usable one; cheap to clone.
pub struct KeyFile<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    of: &'static str,
    paths: Vec<PathBuf>,
    build: Build<T>,
    current: watch::Sender<Current<T>>,
    state: Mutex<State>,
}

struct Current<T> {
    value: Arc<T>,
    since: Instant,
}

struct State {
    /// SHA-256 of the content that was last looked at; none after a file could not be read.
    seen: Option<[u8; 32]>,
    problem: Option<Error>,
}

impl<T> Clone for KeyFile<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> std::fmt::Debug for KeyFile<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KeyFile({})", self.shared.of)
    }
}

impl<T: Material> KeyFile<T> {
    /// A value that is of no file and never changes.
    #[must_use]
    pub fn fixed(of: &'static str, value: T) -> Self {
        Self::with(of, Vec::new(), Box::new(|_| Err("is of no file".to_owned())), value, None)
    }

    fn with(of: &'static str, paths: Vec<PathBuf>, build: Build<T>, value: T, seen: Option<[u8; 32]>) -> Self {
        let (current, _) = watch::channel(Current { value: Arc::new(value), since: Instant::now() });
        Self { shared: Arc::new(Shared { of, paths, build, current, state: Mutex::new(State { seen, problem: None }) }) }
    }

    /// The newest usable value.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.shared.current.borrow().value)
    }

    /// Whether the value is newer than what was made at `moment`.
    #[must_use]
    pub fn changed_since(&self, moment: std::time::Instant) -> bool {
        self.shared.current.borrow().since.into_std() > moment
    }

    /// Calls `act` with every later value, until the last clone of this one is gone.
    ///
    /// # Cancellation
    /// May be dropped at any await.
    pub fn follow<F: Fn(&T) + Send>(&self, act: F) -> impl Future<Output = ()> + Send + use<T, F> {
        let mut changes = self.shared.current.subscribe();
        async move {
            while changes.changed().await.is_ok() {
                let value = Arc::clone(&changes.borrow_and_update().value);
                act(&value);
            }
        }
    }

    /// Looks at the files now.
    pub async fn refresh(&self) {
        self.shared.reread().await;
    }
}

/// A watched value, whatever its type.
#[async_trait]
trait Reread: Send + Sync {
    /// Looks at the files, and takes their content if it is new and usable.
    async fn reread(&self);
    /// What the files are of.
    fn of(&self) -> &'static str;
    /// Why the files' content is not in use.
    fn problem(&self) -> Option<Error>;
    /// When the value in use ends.
    fn not_after(&self) -> Option<Timestamp>;
}

#[async_trait]
impl<T: Material> Reread for Shared<T> {
    async fn reread(&self) {
        if self.paths.is_empty() {
            return;
        }
        let read = read(self.of, &self.paths).await;
        let mut state = self.lock();
        let content = match read {
            Ok(content) => content,
            Err(error) => {
                *state = State { seen: None, problem: Some(error) };
                return;
            }
        };
        let digest = digest(&content);
        if state.seen == Some(digest) {
            return;
        }
        let problem = match (self.build)(&content) {
            Ok(value) => {
                self.current.send_replace(Current { value: Arc::new(value), since: Instant::now() });
                tracing::info!(of = self.of, "key files changed; the new content is in use");
                None
            }
            Err(problem) => Some(Error::Unusable { of: self.of, problem }),
        };
        *state = State { seen: Some(digest), problem };
    }

    fn of(&self) -> &'static str {
        self.of
    }

    fn problem(&self) -> Option<Error> {
        self.lock().problem.clone()
    }

    fn not_after(&self) -> Option<Timestamp> {
        self.current.borrow().value.not_after()
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(of: &'static str, paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Error> {
    let mut content = Vec::with_capacity(paths.len());
    for path in paths {
        let unreadable = |error: io::Error| Error::Unreadable {
            of,
            path: path.display().to_string(),
            kind: error.kind().to_string(),
        };
        content.push(tokio::fs::read(path).await.map_err(unreadable)?);
    }
    Ok(content)
}

fn digest(content: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in content {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// All key files of this process; cheap to clone.
#[derive(Clone, Default)]
pub struct KeyFiles {
    watched: Arc<Mutex<Vec<Weak<dyn Reread>>>>,
    readiness: Readiness,
    metrics: Metrics,
}

impl KeyFiles {
    /// Tells there.
    #[must_use]
    pub fn new(readiness: Readiness, metrics: Metrics) -> Self {
        Self { watched: Arc::default(), readiness, metrics }
    }

    /// Reads files, and watches them as long as the value is in use.
    ///
    /// # Errors
    /// When the value cannot be made now.
    pub async fn load<T: Material>(
        &self,
        of: &'static str,
        paths: Vec<PathBuf>,
        build: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<KeyFile<T>, Error> {
        let content = read(of, &paths).await?;
        let value = build(&content).map_err(|problem| Error::Unusable { of, problem })?;
        let file = KeyFile::with(of, paths, Box::new(build), value, Some(digest(&content)));
        let watched: Weak<Shared<T>> = Arc::downgrade(&file.shared);
        self.lock().push(watched);
        Ok(file)
    }

    /// Looks at all files again and again.
    ///
    /// # Cancellation
    /// May be dropped at any await.
    pub async fn keep(self) {
        loop {
            self.look(clock::now()).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, now: Timestamp) {
        let watched: Vec<_> = {
            let mut watched = self.lock();
            watched.retain(|file| file.strong_count() > 0);
            watched.iter().filter_map(Weak::upgrade).collect()
        };
        for file in watched {
            file.reread().await;
            self.tell(file.as_ref(), now);
        }
    }

    fn tell(&self, file: &dyn Reread, now: Timestamp) {
        let of = KeyFileOf { of: file.of() };
        let (problem, not_after) = (file.problem(), file.not_after());
        self.metrics.key_files_stale.get_or_create(&of).set(i64::from(problem.is_some()));
        if let Some(end) = not_after {
            self.metrics.certificate_not_after.get_or_create(&of).set(end.as_second());
        }
        let ended = not_after.filter(|end| *end <= now).map(|end| format!("our certificate expired at {end}"));
        let stale = problem.map(|problem| format!("{problem}; what was read before stays in use"));
        let note = [stale, ended].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let note = Some(note).filter(|note| !note.is_empty());
        if self.readiness.note(of.of, note.clone()) {
            match note {
                Some(note) => tracing::warn!(of = of.of, note, "key files need somebody"),
                None => tracing::info!(of = of.of, "key files are right again"),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn Reread>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text(String);

    impl Material for Text {
        fn not_after(&self) -> Option<Timestamp> {
            self.0.strip_prefix("ends ").and_then(|end| end.parse().ok())
        }
    }

    fn text(content: &[Vec<u8>]) -> Result<Text, String> {
        let halves: Vec<_> = content.iter().map(|half| String::from_utf8_lossy(half).into_owned()).collect();
        if halves.windows(2).all(|pair| pair[0] == pair[1]) {
            Ok(Text(halves[0].clone()))
        } else {
            Err("halves of two".to_owned())
        }
    }

    fn write(path: &std::path::Path, text: &str) {
        std::fs::write(path, text).expect("written");
    }

    #[tokio::test]
    async fn half_of_a_pair_leaves_the_former_one_in_use_and_is_told_once() {
        let directory = tempfile::tempdir().expect("directory");
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        paths.iter().for_each(|path| write(path, "old"));
        let (readiness, metrics) = (Readiness::default(), Metrics::default());
        let files = KeyFiles::new(readiness.clone(), metrics.clone());
        let file = files.load("pair", paths.to_vec(), text).await.expect("readable");
        let stale = metrics.key_files_stale.get_or_create_owned(&KeyFileOf { of: "pair" });

        write(&paths[0], "new canary");
        files.look(clock::now()).await;
        assert_eq!(file.current().0, "old");
        assert_eq!(stale.get(), 1);
        let report = readiness.report().1;
        assert_eq!(report, "note: pair: halves of two; what was read before stays in use\n");
        assert!(!readiness.note("pair", Some(String::new())), "told already");

        write(&paths[1], "new canary");
        files.look(clock::now()).await;
        assert_eq!((file.current().0.as_str(), stale.get()), ("new canary", 0));
        assert_eq!(readiness.report().1, "");

        std::fs::remove_file(&paths[0]).expect("removed");
        files.look(clock::now()).await;
        assert_eq!((file.current().0.as_str(), stale.get()), ("new canary", 1));
    }

    #[tokio::test]
    async fn what_was_made_before_a_change_is_known_and_followers_get_each_value() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("key");
        write(&path, "1");
        let file = KeyFiles::default().load("key", vec![path.clone()], text).await.expect("readable");
        let before = Instant::now().into_std();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let followed = tokio::spawn({
            let seen = Arc::clone(&seen);
            file.follow(move |value| seen.lock().expect("whole").push(value.0.clone()))
        });
        file.refresh().await;
        assert!(!file.changed_since(before), "same content");
        write(&path, "2");
        file.refresh().await;
        assert!(file.changed_since(before) && !file.changed_since(Instant::now().into_std()));
        drop(file);
        followed.await.expect("ends with the last clone");
        assert_eq!(*seen.lock().expect("whole"), ["2"]);
    }

    #[tokio::test]
    async fn a_certificate_that_has_ended_is_a_note_and_a_metric() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("certificate");
        write(&path, "ends 2026-01-01T00:00:00Z");
        let (readiness, metrics) = (Readiness::default(), Metrics::default());
        let files = KeyFiles::new(readiness.clone(), metrics.clone());
        let _file = files.load("certificate", vec![path], text).await.expect("readable");
        let end: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        files.look(end - Duration::from_secs(1)).await;
        assert_eq!(readiness.report().1, "");
        files.look(end).await;
        assert_eq!(readiness.report().1, "note: certificate: our certificate expired at 2026-01-01T00:00:00Z\n");
        let metric = metrics.certificate_not_after.get_or_create_owned(&KeyFileOf { of: "certificate" });
        assert_eq!(metric.get(), end.as_second());
    }
}
