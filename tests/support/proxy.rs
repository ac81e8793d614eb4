//! A TCP proxy that can be cut: the dependency behind it is then away, at once and for every connection. It can also
//! lose the answers to commits: PostgreSQL has done it, and nobody is told. And it can be a trap: whoever sends or gets
//! certain bytes is held there, until somebody kills it.

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
    trap: Option<Arc<Trap>>,
    accept: tokio::task::JoinHandle<()>,
}

/// Whose commit's answer is lost, once: of the first transaction whose statements hold this text.
struct Loss {
    statement: String,
    happened: AtomicBool,
}

/// What is held up, as long as it is set.
struct Trap {
    bytes: Vec<u8>,
    set: AtomicBool,
    sprung: watch::Sender<u32>,
}

impl Proxy {
    pub async fn to(target: &str) -> Self {
        Self::with(target, None, None).await
    }

    /// In front of PostgreSQL without TLS: the first transaction with a statement that holds this text is committed, and
    /// the connection ends before the answer. A worker sends a statement's text once per connection, so it must be fresh.
    pub async fn losing_the_answer_to_the_commit_of(target: &str, statement: &str) -> Self {
        let loss = Loss { statement: statement.to_owned(), happened: AtomicBool::new(false) };
        Self::with(target, Some(Arc::new(loss)), None).await
    }

    /// A connection on which these bytes come along, from whichever side, is held before them.
    pub async fn holding(target: &str, bytes: &[u8]) -> Self {
        let trap = Trap { bytes: bytes.to_vec(), set: AtomicBool::new(true), sprung: watch::channel(0).0 };
        Self::with(target, None, Some(Arc::new(trap))).await
    }

    async fn with(target: &str, loss: Option<Arc<Loss>>, trap: Option<Arc<Trap>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (open, _) = watch::channel(true);
        let open = Arc::new(open);
        let (target, state, losing, trapping) = (target.to_owned(), Arc::clone(&open), loss.clone(), trap.clone());
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = state.subscribe();
                let (target, losing, trapping) = (target.clone(), losing.clone(), trapping.clone());
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        () = forward(client, server, losing.as_deref(), trapping.as_deref()) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open, loss, trap, accept }
    }

    /// Ends every connection and refuses new ones' traffic.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets traffic through again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }

    /// Waits until a connection is held that was not when `seen` were; gives how many there were by now.
    pub async fn sprung(&self, seen: u32) -> u32 {
        let trap = self.trap.as_ref().expect("a trap");
        *trap.sprung.subscribe().wait_for(|sprung| *sprung > seen).await.expect("the trap lives")
    }

    /// Holds nothing any more.
    pub fn release(&self) {
        self.trap.as_ref().expect("a trap").set.store(false, Ordering::SeqCst);
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

async fn forward(mut client: TcpStream, mut server: TcpStream, loss: Option<&Loss>, trap: Option<&Trap>) {
    if let Some(trap) = trap {
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            () = until_its_end(from_client, to_server, trap) => {}
            () = until_its_end(from_server, to_client, trap) => {}
        }
        return;
    }
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

/// Forwards what one side says until it has nothing more to say; after the trap's bytes nothing.
async fn until_its_end(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trap: &Trap) {
    let (mut buffer, mut said, mut held) = (vec![0; 64 << 10], Vec::new(), false);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if held {
            continue;
        }
        said.extend_from_slice(&buffer[..read]);
        held = trap.set.load(Ordering::SeqCst) && said.windows(trap.bytes.len()).any(|part| part == trap.bytes);
        if held {
            trap.sprung.send_modify(|sprung| *sprung += 1);
        } else if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        said.drain(..said.len().saturating_sub(trap.bytes.len()));
    }
}
