//! Passes TCP connections on from an address that pods reach to a server that listens on the loopback only.
//! Temporal's development server needs it: bound to another address, its own parts do not find each other (CLI 1.5.1),
//! and bound to all of them it would be open to the whole network.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running pass; dropping it closes the listener.
pub(crate) struct Forward(JoinHandle<()>);

impl Forward {
    /// Passes connections to `from` on to `to`.
    pub(crate) async fn start(from: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(from).await.with_context(|| format!("could not listen on {from}"))?;
        Ok(Self(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    let _closed = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        })))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}
