//! What an operator does to the store as a whole.

use async_trait::async_trait;
use omniq_model::{Lane, SessionId, Timestamp};
use sqlx::{PgConnection, Row};

use super::command::Command;
use super::copy::{self, Landing};
use super::database::{Database, Use};
use super::fault::Result;
use super::sql::Schema;
use super::tasks::PostgresTasks;
use super::{migrate, names, read};
use crate::{
    Admin, CopyPage, Durability, Filter, Imported, Layout, Report, Restored, Stats, TaskCopy,
    TaskStore as _, Weakness, WorkerSeen,
};

#[async_trait]
impl Admin for PostgresTasks {
    async fn check(&self) -> crate::Result<Report> {
        let action = "look at the server";
        let (version, layout) = self
            .db
            .run(action, |db| async move {
                db.read(Use::Report, |conn, schema| {
                    Box::pin(async move { Ok((version(conn).await?, layout(conn, schema).await?)) })
                })
                .await
            })
            .await?;
        let mut weaker = weaknesses(self.db.config.durability);
        weaker.extend(self.held_snapshot().await?.map(|held| Weakness {
            what: format!(
                "a snapshot has been held for {} s by {}: what tasks leave behind cannot be cleaned up",
                held.age.as_secs(),
                held.holder()
            ),
            next: held.next(),
        }));
        let durability = self.db.config.durability;
        Ok(Report { version, durability, layout: Some(layout), weaker })
    }

    async fn finish_migration(&self) -> crate::Result<Layout> {
        let action = "finish its migration";
        self.db.run(action, |db| async move { finish_migration(&db).await }).await
    }

    async fn restored(&self) -> crate::Result<Restored> {
        self.db.ask(Command::Restored, "note that it was restored").await
    }

    async fn stats(&self) -> crate::Result<Stats> {
        let action = "count what is in it";
        let now = self.now().await?;
        self.db.run(action, move |db| async move { stats(&db, now).await }).await
    }

    async fn export(&self, after: Option<u64>, max: usize) -> crate::Result<CopyPage> {
        let action = "export tasks";
        let now = self.now().await?;
        self.db.run(action, move |db| async move { copy::export(&db, now, after, max).await }).await
    }

    async fn import(&self, tasks: Vec<TaskCopy>) -> crate::Result<Vec<Imported>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let landings = tasks.into_iter().map(Landing::of).collect();
        self.db.ask(Command::Import(landings), "import tasks").await
    }
}

async fn version(conn: &mut PgConnection) -> Result<String> {
    let row = sqlx::query("select current_setting('server_version')").persistent(false);
    let version: String = row.fetch_one(conn).await?.try_get(0)?;
    Ok(format!("PostgreSQL {version}"))
}

async fn layout(conn: &mut PgConnection, schema: &Schema) -> Result<Layout> {
    const META: &str = "select key, value from $S.meta";
    let mut layout = Layout { oldest: 1, newest: migrate::newest(), ..Layout::default() };
    for row in schema.query(META).fetch_all(conn).await? {
        let value: String = row.try_get(1)?;
        match row.try_get::<&str, _>(0)? {
            "schema" => layout.schema = value.parse().unwrap_or(0),
            "min_writer" => layout.min_writer = value.parse().unwrap_or(0),
            "incarnation" => layout.incarnation = value,
            _ => {}
        }
    }
    Ok(layout)
}

async fn finish_migration(db: &Database) -> Result<Layout> {
    const FINISH: &str = "
        update $S.meta set value = (select m.value from $S.meta m where m.key = 'schema')
         where key in ('min_reader', 'min_writer')";
    let mut conn = db.acquire().await?;
    db.bounded(&mut conn, async |conn| {
        db.apart(conn, async |conn| {
            db.schema.query(FINISH).execute(&mut *conn).await?;
            layout(conn, &db.schema).await
        })
        .await
    })
    .await
}

fn weaknesses(durability: Durability) -> Vec<Weakness> {
    let what = match durability {
        Durability::Disk => return Vec::new(),
        Durability::Os => "a loss of power may take the latest answers",
        Durability::None => "an answered write may be lost",
    };
    let next =
        "set `OMNIQ_DURABILITY=disk` where that matters, and leave `durability` out of the URL";
    vec![Weakness { what: what.into(), next: next.into() }]
}

async fn stats(db: &Database, now: Timestamp) -> Result<Stats> {
    let name = db.config.schema.clone();
    db.read(Use::Report, move |conn, schema| {
        let name = name.clone();
        Box::pin(async move {
            Ok(Stats {
                counts: read::count(conn, schema, &Filter::default()).await?,
                paused: paused(conn, schema).await?,
                workers: workers(conn, schema, now).await?,
                oldest_ready: oldest_ready(conn, schema).await?,
                history: history(conn, schema).await?,
                bytes: vec![("tables and indices", bytes(conn, name).await?)],
            })
        })
    })
    .await
}

async fn paused(conn: &mut PgConnection, schema: &Schema) -> Result<Vec<Lane>> {
    const PAUSED: &str = "
        select l.tenant, l.queue from $S.lane l where l.paused order by l.tenant, l.queue";
    let rows = schema.query(PAUSED).fetch_all(conn).await?;
    rows.iter().map(|row| names::lane(row.try_get(0)?, row.try_get(1)?)).collect()
}

async fn workers(
    conn: &mut PgConnection,
    schema: &Schema,
    now: Timestamp,
) -> Result<Vec<WorkerSeen>> {
    const WORKERS: &str = "
        select s.id, s.name, s.expires, (select count(*) from $S.lease l where l.session = s.id)
          from $S.session s where s.expires >= $1 order by s.name, s.id";
    let rows = schema.query(WORKERS).bind(now.as_millis()).fetch_all(conn).await?;
    let mut workers = Vec::with_capacity(rows.len());
    for row in &rows {
        workers.push(WorkerSeen {
            session: SessionId::new(row.try_get::<i64, _>(0)?.cast_unsigned()),
            name: row.try_get(1)?,
            until: Timestamp::from_millis(row.try_get(2)?),
            holds: row.try_get::<i64, _>(3)?.cast_unsigned(),
        });
    }
    Ok(workers)
}

async fn oldest_ready(conn: &mut PgConnection, schema: &Schema) -> Result<Option<Timestamp>> {
    const OLDEST: &str = "
        select t.created from $S.task t where t.seq = (select min(r.seq) from $S.ready r)";
    let row = schema.query(OLDEST).fetch_optional(conn).await?;
    let at: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(at.map(Timestamp::from_millis))
}

async fn history(
    conn: &mut PgConnection,
    schema: &Schema,
) -> Result<Option<(Timestamp, Timestamp)>> {
    const HISTORY: &str = "select min(d.finished), max(d.finished) from $S.done d";
    let row = schema.query(HISTORY).fetch_one(conn).await?;
    let (first, last): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(first.map(Timestamp::from_millis).zip(last.map(Timestamp::from_millis)))
}

async fn bytes(conn: &mut PgConnection, name: String) -> Result<u64> {
    const BYTES: &str = "
        select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relkind = 'r'";
    let row = sqlx::query(BYTES).persistent(false).bind(name).fetch_one(conn).await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
}
