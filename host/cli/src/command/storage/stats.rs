//! `omniq storage stats`: how much there is of what.

use omniq_model::{Kind, Lane, State, Timestamp};
use omniq_store::{Admin, Stats, TaskStore, open_tasks};
use serde_json::{Map, Value, json};

use super::look::places;
use crate::command::push::{AnswerArgs, Format};
use crate::output::problem::{Problem, write_stdout};
use crate::output::table::table;
use crate::output::tasks::{moment, now};
use crate::output::{console::tame, report};
use crate::queue::{self, Presence};
use crate::settings::{Life, SettingArgs};

pub fn run(args: &AnswerArgs, settings: &SettingArgs) -> crate::command::Result {
    let config = settings.open(&args.store, Life::Command)?.config;
    queue::check_presence(&config, Presence::Required)?;
    let url = places(&config)[0].url.clone();
    let stats = queue::block_on(async {
        let store = open_tasks(url.as_str(), &omniq::Stores::options(&config)).await?;
        let stats = admin(&*store)?.stats().await?;
        store.close().await?;
        Ok(stats)
    })?;
    let text = match args.format {
        Format::Text => format!("tasks in {url}\n{}", text(&stats, now())),
        Format::Json => format!("{}\n", json_of(&stats)),
    };
    write_stdout(text.as_bytes())
}

/// What an operator does to that store.
///
/// # Errors
/// The backend has nothing of the kind.
pub fn admin(store: &dyn TaskStore) -> Result<&dyn Admin, Problem> {
    store.admin().ok_or_else(|| {
        let name = store.caps().name;
        Problem::new(Kind::Host, format!("the backend `{name}` cannot be looked into yet"))
    })
}

fn text(stats: &Stats, now: Timestamp) -> String {
    let count = |state: State| stats.counts.get(&state).copied().unwrap_or(0);
    let row = |state: &State| [state.name().to_owned(), count(*state).to_string()];
    let mut text = table(["STATE", "TASKS"], State::ALL.iter().map(row));
    let mut line = |name: &str, value: String| text += &format!("{name:<14}{}\n", tame(&value));
    line(
        "oldest ready",
        stats.oldest_ready.map_or("none".into(), |at| {
            format!("{}, {} ago", moment(at), report::span(now.since(at)))
        }),
    );
    line(
        "history",
        stats.history.map_or("none".into(), |(first, last)| {
            format!("from {} to {}", moment(first), moment(last))
        }),
    );
    for worker in &stats.workers {
        let left = report::span(worker.until.since(now));
        let name =
            if worker.name.is_empty() { worker.session.to_string() } else { worker.name.clone() };
        line("worker", format!("{name} holds {}, alive for {left} more", worker.holds));
    }
    for lane in &stats.paused {
        line("paused", lane_name(lane));
    }
    for (what, bytes) in &stats.bytes {
        line("size", format!("{} {what}", report::bytes(*bytes)));
    }
    text
}

fn lane_name(lane: &Lane) -> String {
    format!("queue `{}` of the tenant `{}`", lane.queue, lane.tenant)
}

fn json_of(stats: &Stats) -> Value {
    let count = |state: &State| stats.counts.get(state).copied().unwrap_or(0);
    let tasks: Map<_, _> =
        State::ALL.iter().map(|state| (state.name().to_owned(), json!(count(state)))).collect();
    let bytes: Map<_, _> =
        stats.bytes.iter().map(|(what, bytes)| (what.replace(' ', "_"), json!(bytes))).collect();
    let workers: Vec<_> = stats
        .workers
        .iter()
        .map(|worker| json!({ "session": worker.session.to_string(), "name": worker.name, "holds": worker.holds, "until": moment(worker.until) }))
        .collect();
    let paused: Vec<_> = stats
        .paused
        .iter()
        .map(|lane| json!({ "tenant": lane.tenant.as_str(), "queue": lane.queue.as_str() }))
        .collect();
    json!({
        "tasks": tasks,
        "oldest_ready": stats.oldest_ready.map(moment),
        "history": stats.history.map(|(first, last)| json!({ "first": moment(first), "last": moment(last) })),
        "workers": workers,
        "paused": paused,
        "bytes": bytes,
    })
}
