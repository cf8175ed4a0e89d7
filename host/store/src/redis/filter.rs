//! What a [`Filter`] asks for that is decided here and not by the server.

use omniq_model::Lane;

use crate::{Filter, Info};

/// Whether it asks for something that only the task itself tells.
pub(super) fn looks_into_tasks(filter: &Filter) -> bool {
    filter.module.is_some() || filter.function.is_some() || !filter.labels.is_empty()
}

/// Whether it asks for nothing but lanes and states.
pub(super) fn asks_for_lanes_only(filter: &Filter) -> bool {
    let rest = Filter { states: Vec::new(), tenant: None, queue: None, ..filter.clone() };
    rest == Filter::default()
}

/// Whether it means tasks of that lane.
pub(super) fn fits_lane(filter: &Filter, lane: &Lane) -> bool {
    filter.tenant.as_ref().is_none_or(|tenant| *tenant == lane.tenant)
        && filter.queue.as_ref().is_none_or(|queue| *queue == lane.queue)
}

/// Whether a task fits in all but its id. One that cannot be read has no module, function and labels.
pub(super) fn fits(filter: &Filter, info: &Info) -> bool {
    let into_task = || {
        info.task.as_ref().is_ok_and(|task| {
            filter.module.as_ref().is_none_or(|module| *module == task.module.name)
                && filter.function.as_ref().is_none_or(|function| *function == task.function)
                && filter.labels.iter().all(|(name, value)| task.labels.get(name) == Some(value))
        })
    };
    let created = info.head.created;
    (filter.states.is_empty() || filter.states.contains(&info.head.state))
        && fits_lane(filter, &info.lane)
        && filter.created_from.is_none_or(|from| from <= created)
        && filter.created_to.is_none_or(|to| created < to)
        && (!looks_into_tasks(filter) || into_task())
}
