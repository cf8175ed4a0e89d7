//! Tasks that are there if and only if the caller's own transaction commits.

use omniq_store::sqlite::SqliteTasks;
use sqlx::SqliteConnection;

use super::{NewTask, Queue, TaskHandle};
use crate::error::{Error, Result};

impl Queue {
    /// Enqueues tasks inside the caller's own transaction on the SQLite file that the queue's tasks live in: they are there
    /// if and only if it commits, together with whatever else it wrote.
    ///
    /// Begin the transaction with `BEGIN IMMEDIATE`. No event tells of these tasks before they start. A module that was
    /// pushed inside the same transaction is not seen.
    ///
    /// ```no_run
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
    /// live in SQLite. After an error roll back: some of the tasks may be in the transaction.
    pub async fn enqueue_in<Q>(
        &self,
        transaction: &mut SqliteConnection,
        tasks: impl IntoIterator<Item = NewTask<Q>>,
    ) -> Result<Vec<TaskHandle>> {
        let store = &*self.shared().stores.tasks;
        let Some(sqlite) = omniq_store::backend::<SqliteTasks>(store) else {
            let name = store.caps().name;
            return Err(Error::Unsupported(format!(
                "tasks cannot be enqueued inside a transaction of `{name}`; their store has to be a SQLite file"
            )));
        };
        let tasks = self.prepare_all(tasks).await?;
        let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
        let answers = sqlite.enqueue_in(transaction, tasks).await?;
        ids.into_iter().zip(answers).map(|(id, answer)| self.outcome(id, answer)).collect()
    }
}
