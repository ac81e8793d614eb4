//! A TCP proxy that can be cut: the dependency behind it is then away, at once and for every connection. It can also
//! lose the answers to commits: PostgreSQL has done it, and nobody is told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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

/// Forwards to one address until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
    loss: Option<Arc<Loss>>,
    accept: tokio::task::JoinHandle<()>,
}

/// Whose commit's answer is lost, once: of the first transaction whose statements hold this text.
struct Loss {
    statement: String,
    happened: AtomicBool,
}

impl Proxy {
    pub async fn to(target: &str) -> Self {
        Self::with(target, None).await
    }

    /// In front of PostgreSQL without TLS: the first transaction with a statement that holds this text is committed, and
    /// the connection ends before the answer. A worker sends a statement's text once per connection, so it must be fresh.
    pub async fn losing_the_answer_to_the_commit_of(target: &str, statement: &str) -> Self {
        let loss = Loss { statement: statement.to_owned(), happened: AtomicBool::new(false) };
        Self::with(target, Some(Arc::new(loss))).await
    }

    async fn with(target: &str, loss: Option<Arc<Loss>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (open, _) = watch::channel(true);
        let open = Arc::new(open);
        let (target, state, losing) = (target.to_owned(), Arc::clone(&open), loss.clone());
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
        Self { address, open, loss, accept }
    }

    /// Ends every connection and refuses new ones' traffic.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets traffic through again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }

    /// Whether the answer was lost.
    pub fn has_lost_it(&self) -> bool {
        self.loss.as_ref().is_some_and(|loss| loss.happened.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, loss: Option<&Loss>) {
    let Some(loss) = loss else {
        drop(copy_bidirectional(&mut client, &mut server).await);
        return;
    };
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let lost = tokio::select! {
        lost = until_the_lost_commit(from_client, to_server, loss) => lost,
        _ = copy(&mut from_server, &mut to_client) => None,
    };
    if let Some(_kept_open) = lost {
        // The server answers once it has committed; that answer goes nowhere.
        drop(from_server.read(&mut [0; 1_024]).await);
        loss.happened.store(true, Ordering::SeqCst);
    }
}

/// Forwards what the client says up to and with the COMMIT whose answer is to be lost. The driver sends COMMIT as a
/// message of its own: `Q`, length, text.
async fn until_the_lost_commit(
    mut from_client: OwnedReadHalf,
    mut to_server: OwnedWriteHalf,
    loss: &Loss,
) -> Option<OwnedWriteHalf> {
    const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
    let mut buffer = vec![0; 64 << 10];
    let mut meant = false;
    loop {
        let read = from_client.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        let said = &buffer[..read];
        meant |= String::from_utf8_lossy(said).contains(&loss.statement);
        let commits = meant && said.ends_with(COMMIT) && !loss.happened.load(Ordering::SeqCst);
        to_server.write_all(said).await.ok()?;
        if commits {
            return Some(to_server);
        }
    }
}
