//! A client of a PostgreSQL server beside the queue: what other programs do to the same server.

use omniq_services::Server;
use sqlx::{Connection as _, PgConnection};
use tokio::runtime::Runtime;

/// One connection.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    connection: PgConnection,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn of(server: &Server) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime starts");
        let connection = runtime.block_on(PgConnection::connect(server.url()));
        let connection = connection.unwrap_or_else(|error| panic!("{}: {error}", server.url()));
        Self { runtime, connection }
    }

    /// Runs statements.
    ///
    /// # Errors
    /// What the server says.
    pub fn run(&mut self, statements: &'static str) -> Result<(), sqlx::Error> {
        let Self { runtime, connection } = self;
        runtime.block_on(sqlx::raw_sql(statements).execute(connection)).map(drop)
    }

    /// The number that a statement answers, given another one.
    pub fn number(&mut self, statement: &'static str, given: i32) -> i32 {
        let Self { runtime, connection } = self;
        let query = sqlx::query_scalar(statement).bind(given);
        runtime.block_on(query.fetch_one(connection)).expect("the server runs")
    }

    /// The process of the server that serves it.
    pub fn process(&mut self) -> i32 {
        let Self { runtime, connection } = self;
        let query = sqlx::query_scalar("select pg_backend_pid()");
        runtime.block_on(query.fetch_one(connection)).expect("the server runs")
    }
}
