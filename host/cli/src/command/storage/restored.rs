//! `omniq storage restored`: says that the tasks were put back from a backup.

use omniq::{Restored, State};
use omniq_model::Kind;
use serde_json::{Value, json};

use crate::command::push::{AnswerArgs, Format};
use crate::output::console::confirm;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format as ErrorFormat;
use crate::queue::{self, Presence};
use crate::settings::SettingArgs;

/// Say that the tasks were put back from a backup: no lease of before counts any more
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub struct RestoredArgs {
    /// Do it without asking
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

const NOTES: &str = "Run it once after a backup of the tasks was put back, before workers start. What ran when the backup was
made is ready again at once, without an attempt being counted; whoever still works on it is refused when it ends. Fences rise
by a million, so that none is given out a second time, and the store has a new incarnation.

On a store that nobody put back it loses nothing: workers find their sessions dead and open new ones, and what they ran runs
again. It may be started again, and is to be when it failed.";

impl RestoredArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        self.answer.format.of_errors()
    }
}

pub fn run(args: &RestoredArgs, settings: &SettingArgs) -> crate::command::Result {
    let restored = queue::with(settings, &args.answer.store, Presence::Required, async |queue| {
        if !args.yes {
            ask(&queue).await?;
        }
        Ok(queue.restored().await?)
    })?;
    let text = match args.answer.format {
        Format::Text => text(&restored),
        Format::Json => format!("{}\n", json_of(&restored)),
    };
    write_stdout(text.as_bytes())
}

async fn ask(queue: &omniq::Queue) -> Result<(), Problem> {
    let running = queue.count(&omniq::Filter::default()).await?;
    let running = running.get(&State::Running).copied().unwrap_or(0);
    let what = match running {
        0 => "end every session".to_owned(),
        1 => "end every session and void the lease of 1 running task".to_owned(),
        count => format!("end every session and void the leases of {count} running tasks"),
    };
    let text = format!("this would {what}, and nobody is here to ask");
    let otherwise = Problem::new(Kind::Usage, text).hint("say `--yes` to do it");
    confirm(&what, otherwise)
}

/// How many were put back, and how many were cancelled instead.
fn counted(restored: &Restored) -> (usize, usize) {
    let cancelled = restored.moved.iter().filter(|moved| moved.to.is_terminal()).count();
    (restored.moved.len() - cancelled, cancelled)
}

fn text(restored: &Restored) -> String {
    let (ready, cancelled) = counted(restored);
    let mut text = match ready + cancelled {
        0 => "every session is over; no task was leased\n".to_owned(),
        1 => "every session is over, and 1 lease is void: ".to_owned(),
        leases => format!("every session is over, and {leases} leases are void: "),
    };
    if ready + cancelled > 0 {
        text += &format!("{ready} ready again");
        if cancelled > 0 {
            text += &format!(", {cancelled} cancelled as was asked for");
        }
        text += "\n";
    }
    text += &format!(
        "fences of tasks that were claimed before and have not ended are {} higher\n",
        omniq_store::FENCE_STEP
    );
    if let Some(incarnation) = &restored.incarnation {
        text += &format!("the store's incarnation is now {incarnation}\n");
    }
    text
}

fn json_of(restored: &Restored) -> Value {
    let (ready, cancelled) = counted(restored);
    json!({
        "incarnation": restored.incarnation,
        "void": ready + cancelled,
        "ready": ready,
        "cancelled": cancelled,
        "fences_raised_by": omniq_store::FENCE_STEP,
    })
}
