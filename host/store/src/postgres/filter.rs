//! From a [`Filter`] to SQL.

use omniq_model::{State, Task};

use super::live::number;
use super::sql::Sql;
use crate::Filter;

/// States of tasks that have not ended.
pub(super) const LIVE: [State; 4] =
    [State::Blocked, State::Scheduled, State::Ready, State::Running];
/// States of tasks in the history.
pub(super) const ENDED: [State; 4] =
    [State::Succeeded, State::Failed, State::Cancelled, State::Expired];

/// The table of a state that has not ended.
pub(super) fn table(state: State) -> &'static str {
    match state {
        State::Blocked => "blocked",
        State::Scheduled => "scheduled",
        State::Ready => "ready",
        _ => "lease",
    }
}

/// Those of these states in which tasks may fit.
pub(super) fn of_states(filter: &Filter, states: &[State]) -> Vec<State> {
    let wanted = |state: &State| filter.states.is_empty() || filter.states.contains(state);
    states.iter().copied().filter(wanted).collect()
}

/// Whether it asks for nothing but lanes and states.
pub(super) fn is_of_lanes_only(filter: &Filter) -> bool {
    let rest = Filter { states: Vec::new(), tenant: None, queue: None, ..filter.clone() };
    rest == Filter::default()
}

/// Whether it asks for nothing that stands with the task itself, labels excepted.
fn is_of_rows_only(filter: &Filter) -> bool {
    let Filter { module, function, created_from, created_to, .. } = filter;
    module.is_none() && function.is_none() && created_from.is_none() && created_to.is_none()
}

/// Adds what the filter asks for of the rows `t` of tasks, states and labels excepted: labels are in the body.
pub(super) fn conditions(filter: &Filter, sql: &mut Sql) {
    if !filter.ids.is_empty() {
        sql.push(" and t.id = any(").ids(&filter.ids).push(")");
    }
    if filter.tenant.is_some() || filter.queue.is_some() {
        sql.push(" and t.lane in (select l.id from $S.lane l where true");
        lane_conditions(filter, sql);
        sql.push(")");
    }
    if filter.module.is_some() || filter.function.is_some() {
        sql.push(" and t.code in (select c.id from $S.code c where true");
        if let Some(module) = &filter.module {
            sql.push(" and c.name = ").text(module.as_str());
        }
        if let Some(function) = &filter.function {
            sql.push(" and c.function = ").bytes(function.as_bytes());
        }
        sql.push(")");
    }
    if let Some(from) = filter.created_from {
        sql.push(" and t.created >= ").int(from.as_millis());
    }
    if let Some(to) = filter.created_to {
        sql.push(" and t.created < ").int(to.as_millis());
    }
}

pub(super) fn lane_conditions(filter: &Filter, sql: &mut Sql) {
    if let Some(tenant) = &filter.tenant {
        sql.push(" and l.tenant = ").text(tenant.as_str());
    }
    if let Some(queue) = &filter.queue {
        sql.push(" and l.queue = ").text(queue.as_str());
    }
}

/// Whether a task has the labels the filter asks for. One that cannot be read has none.
pub(super) fn fits_labels(filter: &Filter, bytes: &[u8]) -> bool {
    filter.labels.is_empty()
        || Task::decode(bytes).is_ok_and(|task| {
            filter.labels.iter().all(|(name, value)| task.labels.get(name) == Some(value))
        })
}

/// Which way a walk over tasks goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Oldest,
    Newest,
}

/// Places of tasks that fit, labels not looked at: `seq, id, state, body`, from `from` on (not included) in that order, at
/// most `max`. `can` restricts the rows `x` of states further.
///
/// Each state has a walk of its own over an index in that order, so that a few of them are found among very many others;
/// for all states there is one walk over the tasks.
pub(super) fn places(
    filter: &Filter,
    states: &[State],
    order: Order,
    from: i64,
    max: usize,
    can: &str,
) -> Sql {
    let mut sql = Sql::default();
    let labels = if filter.labels.is_empty() { "null::bytea" } else { "t.body" };
    let (sign, way) = if order == Order::Oldest { (">", "") } else { ("<", " desc") };
    sql.push("select * from (");
    let by_task = !filter.ids.is_empty() || filter.states.is_empty() && states.len() == 8;
    if by_task {
        let numbers = states.iter().copied().map(number).collect();
        sql.push("(select t.seq, t.id, x.state, ").push(labels).push(" as body from $S.task t");
        sql.push(" cross join lateral (select x.state, x.flags from $S.state x where x.seq = t.seq and x.id = t.id");
        sql.push(" and x.lane = t.lane and x.rank = t.rank offset 0) x");
        sql.push(" where t.seq ")
            .push(sign)
            .push(" ")
            .int(from)
            .push(" and x.state = any(")
            .numbers(numbers)
            .push(")");
        sql.push(can);
        conditions(filter, &mut sql);
        sql.push(" order by t.seq").push(way).push(" limit ").int(max).push(")");
    }
    for (index, state) in states.iter().filter(|_| !by_task).enumerate() {
        sql.push(if index == 0 { "(" } else { " union all (" });
        let number = number(*state).to_string();
        sql.push("select x.seq, x.id, ")
            .push(&number)
            .push("::smallint as state, ")
            .push(labels)
            .push(" as body from ");
        if *state == State::Ready {
            // Its index is by lane and rank: each of them is walked for itself.
            sql.push("$S.lane l cross join generate_series(0, 18) as g(rank) cross join lateral (select r.* from $S.ready r");
            sql.push(" where r.lane = l.id and r.rank = g.rank::smallint and r.seq ")
                .push(sign)
                .push(" ")
                .int(from);
            sql.push(" order by r.seq").push(way);
            if is_of_rows_only(filter) {
                sql.push(" limit ").int(max);
            }
            sql.push(") x");
        } else if state.is_terminal() {
            sql.push("$S.done x");
        } else {
            sql.push("$S.").push(table(*state)).push(" x");
        }
        sql.push(" cross join lateral (select * from $S.task t where t.seq = x.seq offset 0) t where x.seq ")
            .push(sign)
            .push(" ")
            .int(from)
            .push(can);
        if state.is_terminal() {
            sql.push(" and x.state = ").push(&number);
            if *state != State::Succeeded {
                sql.push(" and x.state <> 4"); // so that the index of few is used
            }
        }
        if *state == State::Ready {
            sql.push(" and l.ranks & (1 << g.rank) <> 0");
            lane_conditions(filter, &mut sql);
        }
        conditions(filter, &mut sql);
        sql.push(" order by x.seq").push(way).push(" limit ").int(max).push(")");
    }
    sql.push(") p order by p.seq").push(way).push(" limit ").int(max);
    sql
}
