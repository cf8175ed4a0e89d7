//! `omniq storage check`: every store, opened and asked.

use omniq::config::Config;
use omniq_model::Kind;
use omniq_store::{Layout, Report};
use serde_json::{Value, json};

use super::look::{Answers, Place, Seen, level, look, places, rank};
use crate::command::push::{AnswerArgs, Format};
use crate::output::problem::{Problem, write_stdout};
use crate::output::report;
use crate::output::table::table;
use crate::queue;
use crate::settings::{Life, SettingArgs};

/// A place, what was found there, and what of it is weaker than asked for.
struct Row {
    place: Place,
    seen: Seen,
    weaker: Vec<(String, String)>,
    /// Less is promised than the settings ask for.
    is_broken: bool,
}

pub fn run(args: &AnswerArgs, settings: &SettingArgs) -> crate::command::Result {
    let config = settings.open(&args.store, Life::Command)?.config;
    let rows = queue::block_on(async {
        let mut rows = Vec::new();
        for place in places(&config) {
            let seen = look(&place, &config).await;
            rows.push(Row::of(place, seen, &config));
        }
        Ok(rows)
    })?;
    let text = match args.format {
        Format::Text => text(&rows),
        Format::Json => {
            format!("{}\n", json!({ "stores": rows.iter().map(json_of).collect::<Vec<_>>() }))
        }
    };
    write_stdout(text.as_bytes())?;
    let failed = rows.iter().filter(|row| matches!(row.seen, Seen::Failed { .. })).count();
    if failed > 0 {
        let what = if failed == 1 { "a store cannot be used" } else { "stores cannot be used" };
        return Err(Problem::new(Kind::Unavailable, what));
    }
    if rows.iter().any(|row| row.is_broken) {
        let text = format!("a store promises less than `{}`", config.storage.durability);
        return Err(Problem::new(Kind::Host, text)
            .hint("set the server up as said, or ask for less with `storage.durability`"));
    }
    Ok(())
}

impl Row {
    fn of(place: Place, seen: Seen, config: &Config) -> Self {
        let mut row = Self { place, seen, weaker: Vec::new(), is_broken: false };
        let Seen::Answers(answers) = &row.seen else { return row };
        let Some(report) = &answers.report else { return row };
        let asked = config.storage.durability.into();
        // What is in memory was asked for by its name.
        let memory = answers.backend == "memory";
        row.is_broken = rank(report.durability) < rank(asked) && !memory;
        let weaker = report.weaker.iter();
        row.weaker =
            weaker.map(|weakness| (weakness.what.clone(), weakness.next.clone())).collect();
        row
    }

    fn state(&self) -> &'static str {
        match &self.seen {
            Seen::Absent => "absent",
            Seen::Failed { .. } => "failed",
            Seen::Answers(_) if self.is_broken => "weaker",
            Seen::Answers(_) if !self.weaker.is_empty() => "warning",
            Seen::Answers(_) => "ok",
        }
    }
}

fn text(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        let [promises, version, layout, guard, took] = match &row.seen {
            Seen::Answers(answers) => facts(answers),
            Seen::Absent => [
                String::new(),
                String::new(),
                "made when it is needed".into(),
                String::new(),
                String::new(),
            ],
            Seen::Failed { .. } => Default::default(),
        };
        let (role, url) = (row.place.role.to_owned(), row.place.url.to_string());
        [role, row.state().to_owned(), url, promises, version, layout, guard, took]
    });
    let mut text = table(
        ["STORE", "STATE", "WHERE", "PROMISES", "VERSION", "LAYOUT", "GUARD", "ANSWERED IN"],
        cells,
    );
    for row in rows {
        if let Seen::Failed { why, fix } = &row.seen {
            text += &format!("{}: {why}; {fix}\n", row.place.role);
        }
        for (what, next) in &row.weaker {
            text += &format!("{}: {what}; {next}\n", row.place.role);
        }
    }
    text
}

fn facts(answers: &Answers) -> [String; 5] {
    let report = answers.report.as_ref();
    let of = |get: fn(&Report) -> String| report.map(get).unwrap_or_default();
    [
        of(|report| level(report.durability).to_owned()),
        report.map_or_else(|| answers.backend.to_owned(), |report| report.version.clone()),
        of(|report| report.layout.as_ref().map(layout).unwrap_or_default()),
        answers.guard.as_ref().map(|state| state.condition.name().to_owned()).unwrap_or_default(),
        report::span(answers.took),
    ]
}

fn layout(layout: &Layout) -> String {
    let Layout { schema, min_writer, oldest, newest, .. } = layout;
    format!("{schema}, written by {min_writer} or newer; this omniq: {oldest} to {newest}")
}

fn json_of(row: &Row) -> Value {
    let weaker: Vec<_> =
        row.weaker.iter().map(|(what, next)| json!({ "what": what, "fix": next })).collect();
    let mut object = json!({
        "store": row.place.role,
        "state": row.state(),
        "url": row.place.url.to_string(),
        "type": row.place.kind.to_string(),
        "weaker": weaker,
    });
    match &row.seen {
        Seen::Absent => {}
        Seen::Failed { why, fix } => object["error"] = json!({ "message": why, "fix": fix }),
        Seen::Answers(answers) => {
            object["backend"] = json!(answers.backend);
            object["answered_seconds"] = json!(answers.took.as_secs_f64());
            if let Some(state) = &answers.guard {
                object["guard"] = json!({
                    "state": state.condition.name(),
                    "since_seconds": state.since.as_secs_f64(),
                    "answered": state.answered,
                    "failed": state.failed,
                    "refused": state.refused,
                    "opened": state.opened,
                    "last_error": state.last_error,
                });
            }
            if let Some(report) = &answers.report {
                object["version"] = json!(report.version);
                object["durability"] = json!(level(report.durability));
                object["layout"] = report.layout.as_ref().map_or(Value::Null, layout_json);
            }
        }
    }
    object
}

/// A layout for programs.
pub fn layout_json(layout: &Layout) -> Value {
    json!({
        "schema": layout.schema,
        "min_writer": layout.min_writer,
        "oldest": layout.oldest,
        "newest": layout.newest,
        "incarnation": layout.incarnation,
    })
}
