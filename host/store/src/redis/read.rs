//! Looking, without changing anything: by id, or page by page.

use std::collections::HashMap;

use omniq_model::{Lane, State, TaskId, Timestamp};
use redis::Value;

use super::admin::PAGE_BYTES;
use super::fault::Result;
use super::filter;
use super::schedule::number;
use super::server::Store;
use super::wire::{self, Bytes, Raw};
use super::{reply, script};
use crate::{Counts, Filter, Info, Page};

/// Tasks that one script looks at, and those whose stored forms it answers.
const LOOKED_AT: usize = 500;
const ANSWERED: usize = 100;

/// Number of the key of bytes that are kept apart, and of counts by lane and state.
const LARGE: usize = 3;
const TALLY: usize = 14;

/// A task that a walk met.
#[derive(Debug)]
pub(super) struct Met {
    pub id: TaskId,
    pub state: State,
    /// Its unique key is free, or its own.
    pub key_is_free: bool,
    pub cancel_requested: bool,
    /// What there is to know about it, if that was wanted.
    pub raw: Option<Raw>,
}

/// A walk over the tasks that fit, in the order of arrival or the reverse.
#[derive(Debug)]
pub(super) struct Walk {
    filter: Filter,
    states: Vec<u8>,
    newest_first: bool,
    with_raw: bool,
    /// The place it came to; `None`: it is over.
    at: Option<Vec<u8>>,
}

impl Walk {
    /// A walk over tasks in these states that fit, before the place `before`.
    pub(super) fn new(filter: &Filter, states: &[State], newest_first: bool) -> Self {
        let wanted = |state: &&State| filter.states.is_empty() || filter.states.contains(state);
        let states: Vec<u8> = states.iter().filter(wanted).map(|state| state.number()).collect();
        let at = (!states.is_empty()).then(Vec::new);
        let with_raw = filter::looks_into_tasks(filter);
        Self { filter: filter.clone(), states, newest_first, with_raw, at }
    }

    pub(super) fn before(mut self, place: Option<u64>) -> Self {
        if let (Some(at), Some(place)) = (&mut self.at, place) {
            *at = wire::seven(place);
        }
        self
    }

    /// Whether it is not over.
    pub(super) fn goes_on(&self) -> bool {
        self.at.is_some()
    }

    /// Asks for all there is to know about tasks.
    pub(super) fn whole(mut self) -> Self {
        self.with_raw = true;
        self
    }
}

impl Store {
    /// Goes on with a walk; answers what it met that fits, which may be nothing before it is over.
    pub(super) async fn walk(&self, walk: &mut Walk, most: usize) -> Result<Vec<Met>> {
        let Some(at) = &walk.at else { return Ok(Vec::new()) };
        let (begins, ends) = wire::lane_parts(&walk.filter);
        let bound = if walk.with_raw { ANSWERED } else { LOOKED_AT };
        // Where most of what it meets fits, no more than is wanted; else larger steps.
        let most = most.clamp(20, bound).to_string();
        let instant = |at: Option<Timestamp>, or: u64| at.map_or(or, wire::instant).to_string();
        let from = instant(walk.filter.created_from, 0);
        let till = instant(walk.filter.created_to, wire::NEVER);
        let digit = |yes: bool| -> &[u8] { if yes { b"1" } else { b"0" } };
        let args: [&[u8]; 9] = [
            &walk.states,
            at,
            digit(walk.newest_first),
            most.as_bytes(),
            &begins,
            &ends,
            from.as_bytes(),
            till.as_bytes(),
            digit(walk.with_raw),
        ];
        let mut values = reply::list(self.look(&script::SCAN, &args).await?)?.into_iter();
        let place = reply::bytes(values.next().unwrap_or(Value::Nil))?;
        let mut met = Vec::new();
        while let Some(told) = values.next() {
            let told = reply::bytes(told)?;
            let mut bytes = Bytes(&told);
            let (id, state) = (bytes.id()?, bytes.state()?);
            let (free, cancel) = (bytes.byte()? != 0, bytes.byte()? != 0);
            let mut next = || reply::bytes(values.next().unwrap_or(Value::Nil));
            let raw = if walk.with_raw { Some(Raw::new(id, next()?, next()?)) } else { None };
            met.push(Met { id, state, key_is_free: free, cancel_requested: cancel, raw });
        }
        walk.at = (!place.is_empty()).then_some(place);
        self.look_into(&walk.filter, &mut met).await?;
        Ok(met)
    }

    /// Leaves those whose tasks fit.
    async fn look_into(&self, filter: &Filter, met: &mut Vec<Met>) -> Result<()> {
        if filter::looks_into_tasks(filter) {
            self.fetch_apart(met.iter_mut().filter_map(|met| met.raw.as_mut())).await?;
            let mut kept = Vec::with_capacity(met.len());
            for one in met.drain(..) {
                if let Some(raw) = &one.raw
                    && filter::fits(filter, &raw.info()?)
                {
                    kept.push(one);
                }
            }
            *met = kept;
        }
        Ok(())
    }

    /// Fetches what of these tasks is kept apart and not here yet.
    pub(super) async fn fetch_apart(&self, raws: impl Iterator<Item = &mut Raw>) -> Result<()> {
        for raw in raws {
            let (body, tail) = raw.apart()?;
            if body && raw.large_body.is_none() {
                raw.large_body = self.large(raw.id, b'b').await?;
            }
            if tail && raw.large_tail.is_none() {
                raw.large_tail = self.large(raw.id, b'r').await?;
            }
        }
        Ok(())
    }

    async fn large(&self, id: TaskId, part: u8) -> Result<Option<Vec<u8>>> {
        let mut command = redis::cmd("HGET");
        command.arg(&self.keys[LARGE]).arg([&id.as_bytes()[..], &[part]].concat());
        reply::maybe_bytes(self.link.query(&command).await?)
    }

    /// Tasks by their ids, those that exist.
    pub(super) async fn raws(&self, ids: &[TaskId]) -> Result<HashMap<TaskId, Raw>> {
        let mut found = HashMap::with_capacity(ids.len());
        for part in ids.chunks(ANSWERED) {
            let args: Vec<&[u8]> = part.iter().map(|id| &id.as_bytes()[..]).collect();
            let mut values = reply::list(self.look(&script::GET, &args).await?)?.into_iter();
            for id in part {
                let mut next = || reply::bytes(values.next().unwrap_or(Value::Nil));
                let raw = Raw::new(*id, next()?, next()?);
                if !raw.stored.is_empty() {
                    found.insert(*id, raw);
                }
            }
        }
        self.fetch_apart(found.values_mut()).await?;
        Ok(found)
    }

    /// See [`TaskStore::get`](crate::TaskStore::get).
    pub(super) async fn get(&self, ids: Vec<TaskId>) -> Result<Vec<Option<Info>>> {
        let found = self.raws(&ids).await?;
        ids.iter().map(|id| found.get(id).map(Raw::info).transpose()).collect()
    }

    /// Tasks that the filter names and that fit, the oldest first.
    pub(super) async fn named(&self, filter: &Filter) -> Result<Vec<Info>> {
        let found = self.raws(&filter.ids).await?;
        let mut named = found.values().map(Raw::info).collect::<Result<Vec<_>>>()?;
        named.retain(|info| filter::fits(filter, info));
        named.sort_unstable_by_key(|info| info.head.seq);
        Ok(named)
    }

    /// See [`TaskStore::list`](crate::TaskStore::list).
    pub(super) async fn list(
        &self,
        filter: Filter,
        before: Option<u64>,
        max: usize,
    ) -> Result<Page> {
        let more = max.saturating_add(1);
        let mut items: Vec<Info> = Vec::new();
        if filter.ids.is_empty() {
            let mut walk = Walk::new(&filter, State::ALL, true).before(before).whole();
            while walk.at.is_some() && items.len() < more {
                let mut met = self.walk(&mut walk, more - items.len()).await?;
                self.fetch_apart(met.iter_mut().filter_map(|met| met.raw.as_mut())).await?;
                for met in met {
                    items.extend(met.raw.map(|raw| raw.info()).transpose()?);
                }
            }
        } else {
            items = self.named(&filter).await?;
            items.retain(|info| before.is_none_or(|before| info.head.seq < before));
            items.reverse();
        }
        let next = items.get(max).and(items.get(max.wrapping_sub(1)).map(|info| info.head.seq));
        items.truncate(max);
        Ok(Page { items, next })
    }

    /// See [`TaskStore::count`](crate::TaskStore::count).
    pub(super) async fn count(&self, filter: Filter) -> Result<Counts> {
        let mut counts = Counts::new();
        if !filter.ids.is_empty() {
            for info in self.named(&filter).await? {
                *counts.entry(info.head.state).or_default() += 1;
            }
        } else if filter::asks_for_lanes_only(&filter) {
            self.tally(&filter, &mut counts).await?;
        } else {
            let mut walk = Walk::new(&filter, State::ALL, false);
            while walk.at.is_some() {
                for met in self.walk(&mut walk, usize::MAX).await? {
                    *counts.entry(met.state).or_default() += 1;
                }
            }
        }
        Ok(counts)
    }

    /// What lanes count, which is kept up with every move. All at once: counts of different moments do not fit together.
    async fn tally(&self, filter: &Filter, counts: &mut Counts) -> Result<()> {
        let mut command = redis::cmd("HGETALL");
        command.arg(&self.keys[TALLY]);
        let fields = match self.link.query(&command).await? {
            Value::Map(pairs) => {
                pairs.into_iter().flat_map(|(field, count)| [field, count]).collect()
            }
            other => reply::list(other)?,
        };
        let mut fields = fields.into_iter();
        while let (Some(field), Some(count)) = (fields.next(), fields.next()) {
            let field = reply::bytes(field)?;
            let Some((state, lane)) = field.split_last() else { continue };
            let state = State::from_number(*state);
            let wanted = filter.states.is_empty() || filter.states.contains(&state);
            let count = number(&count)?;
            if wanted && count > 0 && filter::fits_lane(filter, &wire::read_lane(lane)?) {
                *counts.entry(state).or_default() += count;
            }
        }
        Ok(())
    }

    /// See [`TaskStore::ended`](crate::TaskStore::ended).
    pub(super) async fn ended(&self, after: (Timestamp, TaskId), max: usize) -> Result<Vec<Info>> {
        let mut after = [&wire::seven(wire::instant(after.0))[..], after.1.as_bytes()].concat();
        let (mut all, mut bytes) = (Vec::new(), 0);
        while all.len() < max && bytes < PAGE_BYTES {
            let most = (max - all.len()).min(ANSWERED);
            let bound = most.to_string();
            let args: [&[u8]; 2] = [&after, bound.as_bytes()];
            let mut values = reply::all_bytes(self.look(&script::ENDED, &args).await?)?.into_iter();
            let mut raws = Vec::new();
            while let (Some(id), Some(head), Some(stored)) =
                (values.next(), values.next(), values.next())
            {
                raws.push(Raw::new(Bytes(&id).id()?, head, stored));
            }
            let found = raws.len();
            for mut raw in raws {
                if bytes >= PAGE_BYTES {
                    return Ok(all);
                }
                // One at a time: what is kept apart is large, and not all of it may be wanted.
                self.fetch_apart(std::iter::once(&mut raw)).await?;
                bytes += raw.size();
                let info = raw.info()?;
                let at = wire::instant(info.head.finished.unwrap_or_default());
                after = [&wire::seven(at)[..], info.id.as_bytes()].concat();
                all.push(info);
            }
            if found < most {
                break;
            }
        }
        Ok(all)
    }

    /// See [`TaskStore::ready_lanes`](crate::TaskStore::ready_lanes).
    pub(super) async fn ready_lanes(&self, after: Option<Lane>, max: usize) -> Result<Vec<Lane>> {
        let mut after = after.as_ref().map(wire::lane).unwrap_or_default();
        let mut lanes = Vec::new();
        while lanes.len() < max {
            let most = (max - lanes.len()).min(LOOKED_AT).to_string();
            let args: [&[u8]; 2] = [&after, most.as_bytes()];
            let [place, found] = reply::parts(self.look(&script::READY_LANES, &args).await?)?;
            for lane in reply::all_bytes(found)? {
                lanes.push(wire::read_lane(&lane)?);
            }
            after = reply::bytes(place)?;
            if after.is_empty() {
                break;
            }
        }
        Ok(lanes)
    }
}
