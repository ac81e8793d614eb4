//! Databases of a test's own, and their URLs, also through a proxy.

use super::fresh;

/// Makes an empty database on the server of this URL and gives its URL.
pub async fn fresh_database(server_url: &str) -> String {
    let name = fresh("stack").replace('-', "_");
    let (client, connection) = tokio_postgres::connect(server_url, tokio_postgres::NoTls).await.expect("postgres");
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await.expect("created");
    drop(client);
    connection.await.expect("task").expect("closed");
    let mut url: url::Url = server_url.parse().expect("URL");
    url.set_path(&name);
    url.into()
}

/// The same URL, leading to another address of this machine: a proxy.
pub fn through(url: &str, address: std::net::SocketAddr) -> String {
    let mut url: url::Url = url.parse().expect("URL");
    url.set_host(Some(&address.ip().to_string())).expect("host");
    url.set_port(Some(address.port())).expect("port");
    url.into()
}

/// `host:port` of a URL.
pub fn address_of(url: &str) -> String {
    let url: url::Url = url.parse().expect("URL");
    format!("{}:{}", url.host_str().expect("host"), url.port().unwrap_or(5432))
}
