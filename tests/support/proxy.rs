//! A TCP proxy that can be cut: the dependency behind it is then away, at once and for every connection. It can also
//! lose the answers to commits: PostgreSQL has done it, and nobody is told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::random::Random;

/// Forwards to one address until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
    losses: Option<Arc<Losses>>,
    accept: tokio::task::JoinHandle<()>,
}

/// Which answers to commits are lost: one in `one_in` at random. A fixed rhythm could hit the same transaction each time
/// that it is tried again.
struct Losses {
    one_in: u64,
    random: Mutex<Random>,
    lost: AtomicU32,
}

impl Losses {
    fn loses_this_one(&self) -> bool {
        let loses = self.random.lock().expect("nobody panics with it").within(1..=self.one_in) == 1;
        self.lost.fetch_add(u32::from(loses), Ordering::SeqCst);
        loses
    }
}

impl Proxy {
    pub async fn to(target: &str) -> Self {
        Self::with(target, None).await
    }

    /// In front of PostgreSQL without TLS: one COMMIT in so many reaches the server and is done there; the connection
    /// ends before its answer.
    pub async fn losing_answers_to_commits(target: &str, one_in: u64, seed: u64) -> Self {
        let random = Mutex::new(Random::of(&[seed]));
        Self::with(target, Some(Arc::new(Losses { one_in, random, lost: AtomicU32::new(0) }))).await
    }

    async fn with(target: &str, losses: Option<Arc<Losses>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (open, _) = watch::channel(true);
        let open = Arc::new(open);
        let (target, state, losing) = (target.to_owned(), Arc::clone(&open), losses.clone());
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = state.subscribe();
                let (target, losing) = (target.clone(), losing.clone());
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        () = forward(client, server, losing.as_deref()) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open, losses, accept }
    }

    /// Ends every connection and refuses new ones' traffic.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets traffic through again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }

    /// Answers lost so far.
    pub fn lost(&self) -> u32 {
        self.losses.as_ref().map_or(0, |losses| losses.lost.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, losses: Option<&Losses>) {
    let Some(losses) = losses else {
        drop(copy_bidirectional(&mut client, &mut server).await);
        return;
    };
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let must_lose = tokio::select! {
        lost = until_a_lost_commit(from_client, to_server, losses) => lost,
        _ = copy(&mut from_server, &mut to_client) => None,
    };
    if let Some(_kept_open) = must_lose {
        // The server answers once it has committed; that answer goes nowhere.
        drop(from_server.read(&mut [0; 1_024]).await);
    }
}

/// Forwards what the client says up to and with the COMMIT whose answer is to be lost. The driver sends COMMIT as a
/// message of its own, `Q`, length, text; no row holds one, for rows travel in messages of another kind.
async fn until_a_lost_commit(
    mut from_client: OwnedReadHalf,
    mut to_server: OwnedWriteHalf,
    losses: &Losses,
) -> Option<OwnedWriteHalf> {
    const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from_client.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        let commits = buffer[..read].ends_with(COMMIT) && losses.loses_this_one();
        to_server.write_all(&buffer[..read]).await.ok()?;
        if commits {
            return Some(to_server);
        }
    }
}
