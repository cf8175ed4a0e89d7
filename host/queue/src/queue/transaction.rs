//! Tasks that are there if and only if the caller's own transaction commits.

use async_trait::async_trait;
use omniq_model::Task;
use omniq_store::{Enqueued, TaskStore};

use super::{NewTask, Queue, TaskHandle};
use crate::error::{Error, Result};

/// A transaction of the caller's in which tasks can be enqueued: of SQLite where tasks live in a file of it, of PostgreSQL where
/// they live there; an `sqlx::Transaction`, or the connection on which one is open.
#[async_trait]
pub trait Transaction: private::Sealed + Send {
    /// Enqueues tasks where that store's tasks are, if this is a connection to the same kind of database.
    #[doc(hidden)]
    async fn enqueue(
        &mut self,
        store: &dyn TaskStore,
        tasks: Vec<Task>,
    ) -> Option<omniq_store::Result<Vec<Enqueued>>>;

    /// What the tasks' store has to be, for people.
    #[doc(hidden)]
    fn wants(&self) -> &'static str;
}

mod private {
    pub trait Sealed {}
    #[cfg(feature = "sqlite")]
    impl Sealed for sqlx::SqliteConnection {}
    #[cfg(feature = "postgres")]
    impl Sealed for sqlx::PgConnection {}
}

#[cfg(feature = "sqlite")]
#[async_trait]
impl Transaction for sqlx::SqliteConnection {
    async fn enqueue(
        &mut self,
        store: &dyn TaskStore,
        tasks: Vec<Task>,
    ) -> Option<omniq_store::Result<Vec<Enqueued>>> {
        let sqlite = omniq_store::backend::<omniq_store::sqlite::SqliteTasks>(store)?;
        Some(sqlite.enqueue_in(self, tasks).await)
    }

    fn wants(&self) -> &'static str {
        "a SQLite file"
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Transaction for sqlx::PgConnection {
    async fn enqueue(
        &mut self,
        store: &dyn TaskStore,
        tasks: Vec<Task>,
    ) -> Option<omniq_store::Result<Vec<Enqueued>>> {
        let postgres = omniq_store::backend::<omniq_store::postgres::PostgresTasks>(store)?;
        Some(postgres.enqueue_in(self, tasks).await)
    }

    fn wants(&self) -> &'static str {
        "PostgreSQL"
    }
}

#[cfg(feature = "sqlite")]
impl private::Sealed for sqlx::Transaction<'_, sqlx::Sqlite> {}

#[cfg(feature = "sqlite")]
#[async_trait]
impl Transaction for sqlx::Transaction<'_, sqlx::Sqlite> {
    async fn enqueue(
        &mut self,
        store: &dyn TaskStore,
        tasks: Vec<Task>,
    ) -> Option<omniq_store::Result<Vec<Enqueued>>> {
        Transaction::enqueue(&mut **self, store, tasks).await
    }

    fn wants(&self) -> &'static str {
        Transaction::wants(&**self)
    }
}

#[cfg(feature = "postgres")]
impl private::Sealed for sqlx::Transaction<'_, sqlx::Postgres> {}

#[cfg(feature = "postgres")]
#[async_trait]
impl Transaction for sqlx::Transaction<'_, sqlx::Postgres> {
    async fn enqueue(
        &mut self,
        store: &dyn TaskStore,
        tasks: Vec<Task>,
    ) -> Option<omniq_store::Result<Vec<Enqueued>>> {
        Transaction::enqueue(&mut **self, store, tasks).await
    }

    fn wants(&self) -> &'static str {
        Transaction::wants(&**self)
    }
}

impl Queue {
    /// Enqueues tasks inside the caller's own transaction on the SQLite file or the PostgreSQL database that the queue's tasks
    /// live in: they are there if and only if it commits, together with whatever else it wrote.
    ///
    /// Begin a transaction of SQLite with `BEGIN IMMEDIATE`; one of PostgreSQL is `READ COMMITTED`, as it is unless told
    /// otherwise. No event tells of these tasks before they start. A module that was pushed inside the same transaction is
    /// not seen.
    ///
    /// ```no_run
    /// # #[cfg(feature = "sqlite")]
    /// # async fn order(queue: omniq::Queue) -> Result<(), Box<dyn std::error::Error>> {
    /// use omniq::NewTask;
    /// use omniq::sqlx::{self, Connection};
    ///
    /// let mut connection = sqlx::SqliteConnection::connect("sqlite:app.db").await?;
    /// let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    /// sqlx::query("INSERT INTO orders (id) VALUES (7)").execute(&mut *transaction).await?;
    /// queue.enqueue_in(&mut transaction, [NewTask::new("mail", "confirm").args((7,))]).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`NewTask::enqueue`], for the first task that is refused; [`Unsupported`](Error::Unsupported) where tasks do not
    /// live in a database of the connection's kind. After an error roll back: some of the tasks may be in the transaction.
    pub async fn enqueue_in<Q>(
        &self,
        transaction: &mut impl Transaction,
        tasks: impl IntoIterator<Item = NewTask<Q>>,
    ) -> Result<Vec<TaskHandle>> {
        let store = &*self.shared().stores.tasks;
        let wants = transaction.wants();
        let tasks = self.prepare_all(tasks).await?;
        let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
        let Some(answers) = transaction.enqueue(store, tasks).await else {
            let name = store.caps().name;
            return Err(Error::Unsupported(format!(
                "tasks cannot be enqueued inside this transaction, since they live in `{name}`; their store has to be {wants}"
            )));
        };
        ids.into_iter().zip(answers?).map(|(id, answer)| self.outcome(id, answer)).collect()
    }
}
