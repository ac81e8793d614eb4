//! The client against a small server on this machine, which is itself a private address.

use std::sync::atomic::{AtomicU32, Ordering};

use axum::{
    Router,
    body::Body as ServerBody,
    http::{HeaderMap as ServerHeaders, StatusCode as ServerStatus, Uri},
    response::{IntoResponse as _, Response as ServerResponse},
};
use tokio::net::TcpListener;

use super::*;

/// `gzip` of 2,000 zeros.
const GZIPPED_2000_ZEROS: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 99, 96, 24, 5, 163, 96, 20, 140, 130, 81, 48, 10, 70, 193, 80, 7, 0, 68, 244, 201,
    2, 208, 7, 0, 0,
];

/// A server that answers every request by `answer`, given the number of requests before it.
async fn serve(
    answer: impl Fn(u32, Uri, ServerHeaders) -> ServerResponse + Clone + Send + Sync + 'static,
) -> (Url, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("address")).parse().expect("url");
    let count = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&count);
    let app = Router::new().fallback(move |uri: Uri, headers: ServerHeaders| {
        let before = counter.fetch_add(1, Ordering::SeqCst);
        let answer = answer.clone();
        async move { answer(before, uri, headers) }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, count)
}

fn settings(allowed: &[&str]) -> HttpSettings {
    HttpSettings {
        allowed_private_hosts: AllowedHosts::parse(allowed).expect("entries"),
        retry_base: Duration::from_millis(1),
        max_response_bytes: 1_000,
        ..HttpSettings::default()
    }
}

fn client(allowed: &[&str]) -> HttpClient {
    HttpClient::new(settings(allowed)).expect("settings")
}

fn get(url: Url) -> Request<'static> {
    Request {
        system: "hubspot",
        method: Method::GET,
        url,
        bearer: None,
        body: Body::Empty,
        retry: Some(|status| status.is_server_error()),
    }
}

fn refused(result: Result<Response, Error>) -> String {
    match result {
        Err(Error::Configuration { detail, .. }) => detail,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn private_addresses_are_refused_by_literal_and_by_name_and_never_dialled() {
    let (url, count) = serve(|_, _, _| "in".into_response()).await;
    let port = url.port().expect("port");
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "2130706433",
        "0",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
    ];
    for host in hosts {
        let target: Url = format!("https://{host}:{port}/").parse().expect("url");
        let detail = refused(client(&[]).send(get(target)).await);
        assert!(detail.contains("private address") && detail.contains("--allowed-private-hosts"), "{host}: {detail}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn plain_http_needs_a_named_host() {
    let (url, _) = serve(|_, _, _| "in".into_response()).await;
    let port = url.port().expect("port");
    assert!(refused(client(&[]).send(get(url.clone())).await).contains("not https"));
    assert!(refused(client(&["127.0.0.1:1"]).send(get(url.clone())).await).contains("not https"));
    for allowed in ["127.0.0.1", "127.0.0.0/8", &format!("127.0.0.1:{port}")] {
        let response = client(&[allowed]).send(get(url.clone())).await.expect("allowed");
        assert_eq!(response.body, b"in", "{allowed}");
        assert!(response.date().is_some());
    }
    let named: Url = format!("http://localhost:{port}/").parse().expect("url");
    assert!(client(&["localhost"]).send(get(named)).await.is_ok());
}

#[tokio::test]
async fn redirects_are_answers_and_take_no_credential_elsewhere() {
    let (elsewhere, reached) = serve(|_, _, _| "stolen".into_response()).await;
    let target = elsewhere.to_string();
    let (url, _) = serve(move |_, _, _| (ServerStatus::FOUND, [("location", target.clone())]).into_response()).await;
    let token = Secret::new("canary");
    let request = Request { bearer: Some(&token), ..get(url) };
    let response = client(&["127.0.0.1"]).send(request).await.expect("an answer");
    assert_eq!((response.status.as_u16(), reached.load(Ordering::SeqCst)), (302, 0));
}

#[tokio::test]
async fn transport_faults_and_5xx_are_tried_again_and_then_unavailable() {
    let (url, count) = serve(|before, _, _| match before {
        0 => ServerStatus::BAD_GATEWAY.into_response(),
        1 => ServerResponse::builder().header("content-length", "9").body(ServerBody::from("cut")).expect("answer"),
        _ => "whole".into_response(),
    })
    .await;
    let response = client(&["127.0.0.1"]).send(get(url)).await.expect("third time");
    assert_eq!((response.body.as_slice(), count.load(Ordering::SeqCst)), (b"whole".as_slice(), 3));

    let (url, count) = serve(|_, _, _| ServerStatus::SERVICE_UNAVAILABLE.into_response()).await;
    let unavailable = |code: &str| Err(Error::Unavailable { system: "hubspot", code: code.to_owned() });
    let answer = client(&["127.0.0.1"]).send(get(url.clone())).await.map(|response| response.status);
    assert_eq!((answer, count.load(Ordering::SeqCst)), (unavailable("HTTP 503"), 5));

    let once = Request { retry: None, ..get("http://127.0.0.1:1/".parse().expect("url")) };
    let answer = client(&["127.0.0.1"]).send(once).await.map(|response| response.status);
    assert_eq!(answer, unavailable("no connection"));
    let nowhere = Request { retry: None, ..get("https://no-such-host.invalid/".parse().expect("url")) };
    let answer = client(&[]).send(nowhere).await.map(|response| response.status);
    assert_eq!(answer, unavailable("name not resolved"));
}

#[tokio::test]
async fn slow_answers_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("address")).parse().expect("url");
    let settings = HttpSettings { request_timeout: Duration::from_millis(50), ..settings(&["127.0.0.1"]) };
    let client = HttpClient::new(settings).expect("settings");
    let answer = client.send(Request { retry: None, ..get(url) }).await.map(|response| response.status);
    assert_eq!(answer, Err(Error::Unavailable { system: "hubspot", code: "timeout".to_owned() }));
    drop(listener);
}

/// A server that, once asked, sends this beginning and then this text again and again, until nobody listens; gives how
/// much it got rid of.
fn flood(beginning: &'static str, text: &'static str, pause: Duration) -> (Url, std::sync::mpsc::Receiver<usize>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("address")).parse().expect("url");
    let (sent, sum) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let _request = socket.read(&mut [0; 4_096]).expect("a request");
        socket.write_all(beginning.as_bytes()).expect("a beginning");
        let mut written = 0;
        while socket.write_all(text.as_bytes()).is_ok() {
            written += text.len();
            std::thread::sleep(pause);
        }
        sent.send(written)
    });
    (url, sum)
}

#[tokio::test]
async fn an_answer_that_trickles_and_headers_without_end_are_given_up() {
    let settings = HttpSettings { request_timeout: Duration::from_millis(200), ..settings(&["127.0.0.1"]) };
    let impatient = HttpClient::new(settings).expect("settings");
    let (url, _) = flood("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n", "x", Duration::from_millis(5));
    let answer = impatient.send(Request { retry: None, ..get(url) }).await.map(|response| response.status);
    assert_eq!(answer, Err(Error::Unavailable { system: "hubspot", code: "timeout".to_owned() }));

    let (url, sent) =
        flood("HTTP/1.1 200 OK\r\n", "x-more: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", Duration::ZERO);
    let answer = client(&["127.0.0.1"]).send(Request { retry: None, ..get(url) }).await.map(|response| response.status);
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    let sent = sent.recv_timeout(Duration::from_secs(10)).expect("the client has hung up");
    assert!(sent < 8 << 20, "{sent} bytes, what the sockets hold included");
}

#[tokio::test]
async fn a_url_without_end_is_a_page_that_cannot_be_read_and_no_outage() {
    let url: Url = format!("https://crm.example/?after={}", "7".repeat(100_000)).parse().expect("url");
    let answer = client(&[]).send(get(url)).await.map(|response| response.status);
    assert!(matches!(answer, Err(Error::UnreadablePage { .. })), "{answer:?}");
}

#[tokio::test]
async fn answers_are_bounded_after_decompression() {
    let (url, count) = serve(|_, uri, headers| {
        assert_eq!(headers["accept-encoding"], "gzip");
        if uri.path() == "/bomb" {
            ([("content-encoding", "gzip")], GZIPPED_2000_ZEROS).into_response()
        } else {
            vec![0_u8; 1_001].into_response()
        }
    })
    .await;
    for path in ["", "bomb"] {
        let answer = client(&["127.0.0.1"]).send(get(url.join(path).expect("url"))).await;
        assert!(matches!(answer, Err(Error::UnreadablePage { .. })), "{answer:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 2, "not tried again");
}

#[test]
fn retry_after_is_seconds_or_a_date_by_the_servers_own_clock() {
    let with = |pairs: &[(&'static str, &str)]| {
        let headers = pairs.iter().map(|(name, value)| {
            (reqwest::header::HeaderName::from_static(name), value.parse().expect("header value"))
        });
        Response { status: StatusCode::TOO_MANY_REQUESTS, headers: headers.collect(), body: Vec::new() }.retry_after()
    };
    let date = ("date", "Mon, 23 Nov 2026 01:00:00 GMT");
    assert_eq!(with(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
    assert_eq!(with(&[("retry-after", "Mon, 23 Nov 2026 01:01:30 GMT"), date]), Some(Duration::from_secs(90)));
    assert_eq!(with(&[("retry-after", "Mon, 23 Nov 2026 00:59:00 GMT"), date]), Some(Duration::ZERO));
    assert_eq!((with(&[date]), with(&[("retry-after", "soon")])), (None, None));
    assert_eq!(with(&[("retry-after", "18446744073709551615")]), Some(Duration::from_secs(86_400)));
}

#[test]
fn a_ca_file_without_certificates_is_refused_and_secrets_are_not_shown() {
    let with_ca = |pem: &[u8]| HttpClient::new(HttpSettings { extra_ca_pem: Some(pem.to_vec()), ..settings(&[]) });
    assert!(matches!(with_ca(b"not pem"), Err(SettingsError::CaFile)));
    assert_eq!(format!("{:?}", Secret::new("canary")), "Secret(..)");
    let form = [("client_secret", "canary")];
    let shown = format!("{:?}", Request { body: Body::Form(&form), ..get("https://x.example/".parse().expect("url")) });
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn clients_do_not_come_back_in_step() {
    let waits: Vec<_> = (0..100).map(|_| jittered(Duration::from_secs(2))).collect();
    assert!(waits.iter().all(|wait| (Duration::from_secs(1)..=Duration::from_secs(2)).contains(wait)));
    assert!(waits.iter().collect::<std::collections::HashSet<_>>().len() > 50, "spread");
}

/// Answers one TLS connection with `204` under a certificate for `localhost`; gives the CA's PEM and the port.
fn serve_tls_once() -> (String, u16) {
    use std::io::{Read as _, Write as _};
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().expect("key");
    let ca_pem = authority.self_signed(&authority_key).expect("certificate").pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("key");
    let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("name");
    let leaf = leaf.signed_by(&key, &issuer).expect("certificate");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().expect("key"))
        .expect("certificate and key");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let mut connection = rustls::ServerConnection::new(Arc::new(config)).expect("connection");
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        // A client that does not trust us ends here: that is its answer.
        if stream.read(&mut [0; 4_096]).is_ok() {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
        }
    });
    (ca_pem, port)
}

#[tokio::test]
async fn an_extra_ca_is_trusted_and_without_it_the_server_is_not() {
    for trusted in [true, false] {
        let (ca_pem, port) = serve_tls_once();
        let extra_ca_pem = trusted.then(|| ca_pem.into_bytes());
        let client = HttpClient::new(HttpSettings { extra_ca_pem, ..settings(&["localhost"]) }).expect("settings");
        let url = format!("https://localhost:{port}/").parse().expect("url");
        let answer = client.send(Request { retry: None, ..get(url) }).await.map(|response| response.status.as_u16());
        let refused = Err(Error::Unavailable { system: "hubspot", code: "TLS refused".to_owned() });
        assert_eq!(answer, if trusted { Ok(204) } else { refused });
    }
}
