//! From a [`Filter`] to SQL.

use omniq_model::{State, Task, TaskId};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite};

use super::pack;
use crate::Filter;

/// One value for a statement.
#[derive(Debug, Clone)]
pub(super) enum Arg {
    Int(i64),
    Text(String),
}

/// A statement under construction. Text comes from constants only; what callers gave is in the arguments.
#[derive(Debug, Default)]
pub(super) struct Sql {
    text: String,
    args: Vec<Arg>,
}

impl Sql {
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub(super) fn arg(&mut self, arg: Arg) -> &mut Self {
        self.args.push(arg);
        self.text.push_str(&format!("?{}", self.args.len()));
        self
    }

    pub(super) fn int(&mut self, value: impl TryInto<i64>) -> &mut Self {
        self.arg(Arg::Int(value.try_into().unwrap_or(i64::MAX)))
    }

    /// So many rows at most.
    ///
    /// The plus is for SQLite: a bare parameter is looked at when a statement is prepared, which is then prepared anew at every
    /// call, for longer than it takes to run.
    pub(super) fn limit(&mut self, max: impl TryInto<i64>) -> &mut Self {
        self.push(" limit +").int(max)
    }

    pub(super) fn text(&mut self, value: impl Into<String>) -> &mut Self {
        self.arg(Arg::Text(value.into()))
    }

    /// That the row `x` is of one of these tasks. Ids are in the bodies.
    pub(super) fn ids(&mut self, ids: &[TaskId]) -> &mut Self {
        self.push("x.seq in (select b.seq from json_each(").text(pack::ids(ids));
        self.push(") j cross join omniq_body b on b.id = unhex(j.value))")
    }

    pub(super) fn into_query(self) -> Query<'static, Sqlite, SqliteArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.args.into_iter().fold(query, |query, arg| match arg {
            Arg::Int(value) => query.bind(value),
            Arg::Text(value) => query.bind(value),
        })
    }
}

impl Filter {
    /// Whether tasks in one of these states may fit.
    pub(super) fn wants(&self, states: &[State]) -> bool {
        self.states.is_empty() || states.iter().any(|state| self.states.contains(state))
    }

    /// Whether it asks for nothing but lanes and states.
    pub(super) fn is_of_lanes_only(&self) -> bool {
        let rest = Self { states: Vec::new(), tenant: None, queue: None, ..self.clone() };
        rest == Self::default()
    }

    /// Adds what the filter asks for of the rows `x`, labels excepted: they are in the body.
    pub(super) fn conditions(&self, sql: &mut Sql) {
        if !self.ids.is_empty() {
            sql.push(" and ").ids(&self.ids);
        }
        if !self.states.is_empty() {
            let numbers: Vec<_> = self.states.iter().map(|s| s.number().to_string()).collect();
            sql.push(" and x.state in (").push(&numbers.join(", ")).push(")");
        }
        if self.tenant.is_some() || self.queue.is_some() {
            sql.push(" and x.lane in (select id from omniq_lane where true");
            self.lane_conditions(sql);
            sql.push(")");
        }
        if self.module.is_some() || self.function.is_some() {
            sql.push(" and x.code in (select id from omniq_code where true");
            if let Some(module) = &self.module {
                sql.push(" and name = ").text(module.as_str());
            }
            if let Some(function) = &self.function {
                sql.push(" and function = ").text(function);
            }
            sql.push(")");
        }
        if let Some(from) = self.created_from {
            sql.push(" and x.created >= ").int(from.as_millis());
        }
        if let Some(to) = self.created_to {
            sql.push(" and x.created < ").int(to.as_millis());
        }
    }

    pub(super) fn lane_conditions(&self, sql: &mut Sql) {
        if let Some(tenant) = &self.tenant {
            sql.push(" and tenant = ").text(tenant.as_str());
        }
        if let Some(queue) = &self.queue {
            sql.push(" and queue = ").text(queue.as_str());
        }
    }

    /// Whether a task has the labels the filter asks for. One that cannot be read has none.
    pub(super) fn fits_labels(&self, bytes: &[u8]) -> bool {
        self.labels.is_empty()
            || Task::decode(bytes).is_ok_and(|task| {
                self.labels.iter().all(|(name, value)| task.labels.get(name) == Some(value))
            })
    }
}
