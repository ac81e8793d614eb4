//! Connections: the pool, and the limits that every transaction sets for itself (R19). Knows no tables.

use std::{future::Future, pin::Pin, sync::Arc};

use deadpool_postgres::{Connect, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Transaction};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};

use super::{
    fault::Fault,
    link::{CONNECT_TIMEOUT, Link},
};
use crate::{key_files::KeyFile, store::Error};

/// No more connections than activity slots (R37, R41).
const CONNECTIONS: usize = 10;

/// Set in every transaction and gone with it, so that a pooler between us and the server sees no session state.
const LIMITS: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '4min';
    SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// Begins a transaction with its limits.
pub(super) async fn begin(client: &mut deadpool_postgres::Client) -> Result<Transaction<'_>, Fault> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LIMITS).await?;
    Ok(transaction)
}

/// A pool of such connections; connects to nothing yet. One that was made before its credentials changed is used to the end
/// of its transaction and then closed.
pub(super) fn pool(link: KeyFile<Link>) -> Result<Pool, Error> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(Config::new(), Newest(link.clone()), recycling);
    Pool::builder(manager)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .pre_recycle(Hook::sync_fn(move |_, of| {
            if link.changed_since(of.created) { Err(HookError::message("former credentials")) } else { Ok(()) }
        }))
        .build()
        .map_err(|_| Error::Unavailable { attempted: "connect", code: "pool".to_owned() })
}

/// Connects with what key files hold at that moment.
struct Newest(KeyFile<Link>);

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

impl Connect for Newest {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        Box::pin(async move {
            loop {
                self.0.refresh().await;
                let link = self.0.current();
                let (client, connection) = link.config.connect(link.connector.clone()).await?;
                // Its end is noticed, and told, by whoever uses it; the driver's text may hold the server's (R18).
                let connection = tokio::spawn(async move { drop(connection.await) });
                if Arc::ptr_eq(&link, &self.0.current()) {
                    return Ok((client, connection));
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::link, *};
    use crate::{key_files::KeyFiles, settings::StoreSettings};

    async fn made(url: &str) -> Result<Pool, Error> {
        pool(link::load(&StoreSettings::of(url), url, &KeyFiles::default()).await?)
    }

    #[tokio::test]
    async fn every_mode_makes_a_pool_and_a_missing_root_certificate_is_told() {
        for mode in ["disable", "prefer", "require", "verify-full"] {
            assert!(made(&format!("postgres://host/db?sslmode={mode}")).await.is_ok(), "{mode}");
        }
        let missing = made("postgres://host/db?sslmode=verify-full&sslrootcert=/nonexistent").await;
        assert!(matches!(missing, Err(Error::Unavailable { code, .. }) if code.contains("/nonexistent")));
        assert!(matches!(made("postgres://host:no-port/db").await, Err(Error::Url)));
    }
}
