//! A front of Temporal that demands what Temporal Cloud demands: TLS, a client certificate, an API key. What it lets in goes to
//! the real server, which knows none of these. Demands may change while it runs; who came in before must come in again.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::SendRequest,
    server::{self, SendResponse},
};
use http::{Request, Response, Uri};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What somebody must show to be let in.
#[derive(Clone)]
pub struct Demands {
    pub tls: Arc<ServerConfig>,
    pub api_key: Option<String>,
}

pub struct Frontend {
    pub address: SocketAddr,
    demands: watch::Sender<Demands>,
    seen: Arc<Seen>,
    accept: tokio::task::JoinHandle<()>,
}

/// What came in.
#[derive(Default)]
struct Seen {
    authorizations: Mutex<BTreeSet<String>>,
    namespaces: Mutex<BTreeSet<String>>,
    refused: Mutex<u32>,
}

impl Frontend {
    pub async fn of(temporal: &str, demands: Demands) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (demands, watched) = watch::channel(demands);
        let (temporal, seen) = (temporal.to_owned(), Arc::new(Seen::default()));
        let told = Arc::clone(&seen);
        let accept = tokio::spawn(async move {
            let mut guests = JoinSet::new();
            while let Ok((guest, _)) = listener.accept().await {
                guests.spawn(receive(guest, watched.clone(), temporal.clone(), Arc::clone(&told)));
                while guests.try_join_next().is_some() {}
            }
        });
        Self { address, demands, seen, accept }
    }

    /// From now on these; everybody is sent away and must come in again.
    pub fn demand(&self, demands: Demands) {
        self.demands.send_replace(demands);
    }

    /// Values of the header `authorization` that were let in since the last call.
    pub fn authorizations(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.seen.authorizations.lock().expect("whole"))
    }

    /// Values of the header `temporal-namespace`.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.seen.namespaces.lock().expect("whole").clone()
    }

    /// Handshakes and calls that were refused.
    pub fn refused(&self) -> u32 {
        *self.seen.refused.lock().expect("whole")
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn receive(guest: TcpStream, mut watched: watch::Receiver<Demands>, temporal: String, seen: Arc<Seen>) {
    let demands = watched.borrow_and_update().clone();
    tokio::select! {
        _ = watched.changed() => {}
        served = serve(guest, &demands, &temporal, &seen) => {
            if served.is_none() {
                *seen.refused.lock().expect("whole") += 1;
            }
        }
    }
}

async fn serve(guest: TcpStream, demands: &Demands, temporal: &str, seen: &Arc<Seen>) -> Option<()> {
    let guest = TlsAcceptor::from(Arc::clone(&demands.tls)).accept(guest).await.ok()?;
    let mut guest = server::handshake(guest).await.ok()?;
    let (house, connection) = h2::client::handshake(TcpStream::connect(temporal).await.ok()?).await.ok()?;
    let mut calls = JoinSet::new();
    calls.spawn(async move { drop(connection.await) });
    while let Some(Ok((request, respond))) = guest.accept().await {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let authorization = header("authorization");
        seen.namespaces.lock().expect("whole").extend(header("temporal-namespace"));
        if demands.api_key.as_ref().is_some_and(|key| authorization != Some(format!("Bearer {key}"))) {
            *seen.refused.lock().expect("whole") += 1;
            refuse(respond);
            continue;
        }
        seen.authorizations.lock().expect("whole").extend(authorization);
        calls.spawn(relay(request, respond, house.clone()));
        while calls.try_join_next().is_some() {}
    }
    Some(())
}

/// UNAUTHENTICATED, as gRPC says it.
fn refuse(mut respond: SendResponse<Bytes>) {
    let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", "16");
    drop(respond.send_response(response.body(()).expect("a response"), true));
}

async fn relay(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, house: SendRequest<Bytes>) {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    parts.uri = Uri::builder().scheme("http").authority("temporal").path_and_query(path).build().expect("a URI");
    let Ok(mut house) = house.ready().await else { return };
    let Ok((answer, to_house)) = house.send_request(Request::from_parts(parts, ()), false) else { return };
    let answering = async {
        let (parts, body) = answer.await.ok()?.into_parts();
        let ends = body.is_end_stream();
        let to_guest = respond.send_response(Response::from_parts(parts, ()), ends).ok()?;
        if ends { Some(()) } else { pump(body, to_guest).await }
    };
    tokio::join!(pump(body, to_house), answering);
}

async fn pump(mut from: RecvStream, mut to: SendStream<Bytes>) -> Option<()> {
    while let Some(data) = from.data().await {
        let data = data.ok()?;
        from.flow_control().release_capacity(data.len()).ok()?;
        to.send_data(data, false).ok()?;
    }
    match from.trailers().await.ok()? {
        Some(trailers) => to.send_trailers(trailers).ok(),
        None => to.send_data(Bytes::new(), true).ok(),
    }
}
