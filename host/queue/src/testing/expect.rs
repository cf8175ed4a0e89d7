//! Questions about what was enqueued.

use omniq_model::Task;
use omniq_store::{Filter, Info};

use super::TestQueue;
use crate::error::Result;
use crate::queue::NewTask;

impl TestQueue {
    /// The tasks like `wanted` there are, the newest first, however they fare: of the same module and function, with the
    /// same arguments, tenant and queue. What else was said of it does not matter.
    ///
    /// # Errors
    /// What was said of `wanted` could not be enqueued.
    pub async fn enqueued<Q>(&self, wanted: NewTask<Q>) -> Result<Vec<Info>> {
        let wanted = self.queue.described(wanted).await?;
        Ok(self.all().await?.into_iter().filter(|info| is_like(info, &wanted)).collect())
    }

    /// Fails the test unless there is exactly one task like `wanted`; see [`Self::enqueued`]. Returns it.
    ///
    /// # Panics
    /// If there is none, or more than one; the message names what there is.
    pub async fn assert_enqueued<Q>(&self, wanted: NewTask<Q>) -> Info {
        let (name, mut found) = self.look(wanted).await;
        assert!(
            found.len() == 1,
            "{} tasks like {name} were enqueued\n{}",
            found.len(),
            self.report().await
        );
        found.remove(0)
    }

    /// Fails the test if there is a task like `unwanted`; see [`Self::enqueued`].
    ///
    /// # Panics
    /// If there is one; the message names what there is.
    pub async fn assert_not_enqueued<Q>(&self, unwanted: NewTask<Q>) {
        let (name, found) = self.look(unwanted).await;
        assert!(found.is_empty(), "a task like {name} was enqueued\n{}", self.report().await);
    }

    async fn look<Q>(&self, wanted: NewTask<Q>) -> (String, Vec<Info>) {
        let name = wanted.described();
        let found = self.enqueued(wanted).await;
        (name, found.unwrap_or_else(|error| panic!("nothing like that can be enqueued: {error}")))
    }

    async fn all(&self) -> Result<Vec<Info>> {
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let page = self.queue.list(&Filter::default(), before, 1000).await?;
            all.extend(page.items);
            before = page.next;
            if before.is_none() {
                return Ok(all);
            }
        }
    }

    /// What there is, a line each.
    async fn report(&self) -> String {
        const MOST: usize = 20;
        let all = self.all().await.unwrap_or_default();
        let line = |info: &Info| match &info.task {
            Ok(task) => format!(
                "  {} {} {} in {}: {}",
                task.module.name,
                task.function,
                args(task),
                task.lane.queue,
                info.head.state
            ),
            Err(error) => format!("  {}: {error}", info.id),
        };
        let lines: Vec<_> = all.iter().take(MOST).map(line).collect();
        let more = all.len().saturating_sub(MOST);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        format!("there are {} tasks\n{}{more}", all.len(), lines.join("\n"))
    }
}

fn is_like(info: &Info, wanted: &Task) -> bool {
    info.task.as_ref().is_ok_and(|task| {
        task.module.name == wanted.module.name
            && (&task.function, &task.args, &task.lane)
                == (&wanted.function, &wanted.args, &wanted.lane)
    })
}

/// The beginning of the arguments as they are stored.
fn args(task: &Task) -> String {
    const MOST: usize = 60;
    let text = format!("{:02x?}", &task.args.bytes[..task.args.bytes.len().min(MOST)]);
    text.replace(", ", " ")
}
