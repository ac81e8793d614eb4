//! The ceiling: the rows the product wrote, held in memory as COPY text, into a table of the same shape by the fastest SQL
//! there is, from one connection and nothing else: no source, no parsing, no resume point, no orchestration.

use std::{io::Cursor, pin::pin};

use anyhow::{Context as _, ensure};
use futures::{SinkExt as _, TryStreamExt as _};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::{Measure, database::Database, usage};

/// Rows of one transaction: as many as the product's largest commit.
const COMMIT_ROWS: usize = 50_000;
/// Bytes of one message.
const CHUNK_BYTES: usize = 256 << 10;

const TABLE: &str = "DROP SCHEMA IF EXISTS raw_bench CASCADE; CREATE SCHEMA raw_bench;
    CREATE TABLE raw_bench.contact (LIKE gtm.contact INCLUDING ALL)";

/// The rows, as COPY sends them.
pub(super) struct Rows {
    commits: Vec<Vec<u8>>,
    columns: Vec<String>,
    count: u64,
}

impl Rows {
    /// Reads what the product wrote.
    pub(super) async fn read(database: &Database) -> anyhow::Result<Self> {
        let client = database.connect().await?;
        let columns = client
            .query(
                "SELECT attname::text FROM pg_attribute
                 WHERE attrelid = 'gtm.contact'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                &[],
            )
            .await?;
        let columns = columns.iter().map(|row| row.get(0)).collect();
        let mut stream = pin!(client.copy_out("COPY gtm.contact TO STDOUT").await?);
        let mut rows = Self { commits: vec![], columns, count: 0 };
        let (mut commit, mut in_commit) = (Vec::new(), 0);
        // One message of the server is one row.
        while let Some(row) = stream.try_next().await? {
            commit.extend_from_slice(&row);
            in_commit += 1;
            rows.count += 1;
            if in_commit == COMMIT_ROWS {
                rows.commits.push(std::mem::take(&mut commit));
                in_commit = 0;
            }
        }
        rows.commits.extend((!commit.is_empty()).then_some(commit));
        ensure!(rows.count > 0, "the product left no rows to compare with");
        Ok(rows)
    }

    /// Writes them into an empty table, then the same rows once more.
    pub(super) async fn load(&self, database: &Database) -> anyhow::Result<[Measure; 2]> {
        database.clean(TABLE).await?;
        let first = self.pass(database, self.count).await.context("the first pass failed")?;
        database.clean("SELECT 1").await?;
        Ok([first, self.pass(database, 0).await.context("the second pass failed")?])
    }

    async fn pass(&self, database: &Database, expected: u64) -> anyhow::Result<Measure> {
        let mut client = database.connect().await?;
        let cpu = || [usage::of_ourselves(), usage::of_family(database.id())];
        let (start, before) = (Instant::now(), cpu());
        let mut written = 0;
        for commit in &self.commits {
            written += self.commit(&mut client, commit).await?;
        }
        let (wall, after) = (start.elapsed().as_secs_f64(), cpu());
        ensure!(written == expected, "{written} rows were written instead of {expected}");
        let [cpu, postgres_cpu] = std::array::from_fn(|it| (after[it].saturating_sub(before[it])).as_secs_f64());
        Ok(Measure { wall, cpu, postgres_cpu, temporal_cpu: 0.0, source_cpu: 0.0, peak_kib: 0 })
    }

    async fn commit(&self, client: &mut Client, rows: &[u8]) -> anyhow::Result<u64> {
        let transaction = client.transaction().await?;
        transaction.batch_execute("CREATE TEMPORARY TABLE incoming (LIKE raw_bench.contact) ON COMMIT DROP").await?;
        let mut sink = pin!(transaction.copy_in::<_, Cursor<Vec<u8>>>("COPY incoming FROM STDIN").await?);
        for chunk in rows.chunks(CHUNK_BYTES) {
            sink.send(Cursor::new(chunk.to_vec())).await?;
        }
        sink.close().await?;
        let written = transaction.execute(&self.merge(), &[]).await?;
        transaction.commit().await?;
        Ok(written)
    }

    fn merge(&self) -> String {
        let updates: Vec<_> = self.columns.iter().map(|it| format!("{it} = excluded.{it}")).collect();
        format!(
            "INSERT INTO raw_bench.contact AS t SELECT * FROM incoming
             ON CONFLICT (tenant_id, connector_id, source_id) DO UPDATE SET {} WHERE (t.*) IS DISTINCT FROM (excluded.*)",
            updates.join(", ")
        )
    }
}
