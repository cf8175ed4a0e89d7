//! The floor: the least that a queue in SQLite could do, written by hand over the same library.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

/// Rows of one insert.
const ROWS: usize = 128;

/// One table of tasks, and a connection.
#[derive(Debug)]
pub struct Raw {
    conn: SqliteConnection,
}

impl Raw {
    pub async fn open(path: &Path) -> Self {
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("it can be made");
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", path.display())); // of the run before
        }
        let mut conn = connect(path).await;
        let schema = "
            create table task(seq integer primary key, id blob not null unique, state integer not null,
                              prio integer not null, fence integer not null, body blob not null, result blob) strict;
            create index ready on task(prio, seq) where state = 0;";
        sqlx::raw_sql(schema).execute(&mut conn).await.expect("it is made");
        Self { conn }
    }

    /// Inserts so many tasks in one transaction.
    pub async fn insert(&mut self, count: usize) {
        self.run("begin immediate").await;
        let mut left = count;
        while left > 0 {
            let size = [ROWS, 16, 1].into_iter().find(|size| *size <= left).unwrap_or(1);
            left -= size;
            let rows = vec!["(?, 0, 0, 0, ?)"; size].join(",");
            let sql = format!("insert into task(id, state, prio, fence, body) values {rows}");
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for _ in 0..size {
                query = query.bind(id()).bind(vec![7_u8; super::BODY]);
            }
            query.execute(&mut self.conn).await.expect("they are inserted");
        }
        self.run("commit").await;
    }

    pub async fn fill(&mut self, count: usize) {
        for _ in 0..count.div_ceil(1000) {
            self.insert(count.min(1000)).await;
        }
    }

    /// Claims so many tasks in one transaction, and ends them in another.
    pub async fn live(&mut self, batch: usize) {
        const CLAIM: &str = "
            update task set state = 1, fence = fence + 1
             where seq in (select seq from task where state = 0 order by prio, seq limit ?1)
            returning seq, id, fence, body";
        const FINISH: &str = "
            update task set state = 2, result = ?2
             where state = 1 and seq in (select value from json_each(?1))";
        self.run("begin immediate").await;
        let limit = i64::try_from(batch).expect("it is small");
        let rows = sqlx::query(CLAIM).bind(limit).fetch_all(&mut self.conn).await.expect("leased");
        self.run("commit").await;
        assert_eq!(rows.len(), batch, "there are enough");
        let seqs: Vec<_> = rows.iter().map(|row| row.get::<i64, _>(0).to_string()).collect();
        self.run("begin immediate").await;
        sqlx::query(FINISH)
            .bind(format!("[{}]", seqs.join(",")))
            .bind(super::RESULT.to_vec())
            .execute(&mut self.conn)
            .await
            .expect("they end");
        self.run("commit").await;
    }

    async fn run(&mut self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.conn).await.expect("it runs");
    }
}

/// Puts so many ended tasks into a store's file, as the store itself would have left them.
pub async fn history(path: &Path, count: usize) {
    const STEP: usize = 100_000;
    const BODIES: &str = "
        with recursive n(i) as (select 1 union all select i + 1 from n where i < ?2)
        insert into omniq_body(seq, id, bytes)
        select ?1 + i, unhex(printf('%012x7%03x8%015x', 1700000000000 + (?1 + i) / 4, 1, ?1 + i)),
               (select bytes from omniq_body where seq = 1) from n";
    const DONE: &str = "
        insert into omniq_done(seq, id, lane, code, state, rank, attempt, crashes, fence, nonce, cancel, created,
               started, ttl, keep, flags, finished, forget, result)
        select b.seq, b.id, t.lane, t.code, 4, 0, 1, 0, 1, 7,
               0, t.created, t.created, null, t.keep, 0, ?2 + b.seq / 4, ?2 + t.keep + b.seq / 4, zeroblob(24)
          from omniq_body b cross join omniq_task t on t.seq = 1 where b.seq > ?1";
    let mut conn = connect(path).await;
    let mut made: i64 = sqlx::query("select max(seq) from omniq_body")
        .fetch_one(&mut conn)
        .await
        .expect("is there")
        .get(0);
    let last = made + i64::try_from(count).expect("it is small");
    while made < last {
        let step = i64::try_from(STEP).expect("it is small").min(last - made);
        let mut run = sqlx::query(BODIES).bind(made).bind(step);
        run.execute(&mut conn).await.expect("bodies are made");
        run = sqlx::query(DONE).bind(made).bind(super::now().as_millis());
        run.execute(&mut conn).await.expect("ends are made");
        made += step;
    }
    let tally = "insert into omniq_tally(lane, state, count) values(1, 4, ?1)
                 on conflict do update set count = count + excluded.count";
    sqlx::query(tally)
        .bind(i64::try_from(count).expect("small"))
        .execute(&mut conn)
        .await
        .expect("counted");
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(std::time::Duration::from_secs(60))
        .pragma("wal_autocheckpoint", "4000")
        .pragma("cache_size", "-65536")
        .connect()
        .await
        .expect("it opens")
}

fn id() -> Vec<u8> {
    let id = omniq_model::TaskId::new(super::now(), random());
    id.as_bytes().to_vec()
}

/// Bytes that differ each time.
pub fn random() -> [u8; 10] {
    // SplitMix64 (Steele, Lea, Flood 2014) over a counter.
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut word = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&(word ^ word >> 31).to_le_bytes());
    bytes
}
