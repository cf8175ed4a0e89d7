//! What every process makes of the log: tasks, which results and modules there are, and what of it lies outside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use omniq_model::record::{decode, encode};
use omniq_model::{Digest, Module, Name, TaskId, Timestamp, Token};

use super::entry::{self, Answer, Entry, Image, Staged};
use super::values::Of;
use crate::core::{self, Core};
use crate::log::Command;
use crate::log::outside::Outside;
use crate::log::wire::{In, Out, Read, bad};
use crate::{Pushed, ResultKey};

/// How images of it are written. The first format did not say when the last message was stamped.
const FORMAT: u64 = 2;
/// What a message weighs beside its bytes: headers, index and the time it takes to apply it.
const MESSAGE: u64 = 200;
/// Images that are kept: should the newest be damaged, or newer than what a server that lost power still has of the log.
const IMAGES: usize = 2;

/// A message of the log, so that it is known again: what a server lost and what came to stand there afterwards have other
/// stamps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub seq: u64,
    /// When the server stamped it, in nanoseconds since 1970; 0 if that is not known.
    pub stamp: i64,
}

/// All there is.
#[derive(Debug)]
pub(super) struct State {
    pub core: Core,
    results: BTreeMap<ResultKey, (Outside, Timestamp)>,
    /// By when they are forgotten.
    results_until: BTreeSet<(Timestamp, ResultKey)>,
    /// The versions of each name in the order they were pushed.
    modules: BTreeMap<Name, Vec<Module>>,
    /// The objects that hold the bytes of modules.
    bytes: HashMap<Digest, String>,
    /// The last message that was applied.
    pub applied: Place,
    /// The instant of the latest command: time never goes back.
    pub now: Timestamp,
    /// For how long nobody had said anything before the message that is being applied.
    silence: Duration,
    /// The bytes of log so far.
    pub weight: u64,
    /// The images that are kept, the newest first.
    pub images: Vec<Image>,
    /// Messages that are in objects, by their place in the log; those that no kept image has.
    spilled: BTreeMap<u64, String>,
    /// Values that lost what they belonged to since this was last taken: names and sizes.
    dropped: Vec<(String, u64)>,
}

impl Default for State {
    fn default() -> Self {
        let mut core = Core::new();
        core.note_dropped();
        Self {
            core,
            results: BTreeMap::new(),
            results_until: BTreeSet::new(),
            modules: BTreeMap::new(),
            bytes: HashMap::new(),
            applied: Place::default(),
            now: Timestamp::from_millis(0),
            silence: Duration::ZERO,
            weight: 0,
            images: Vec::new(),
            spilled: BTreeMap::new(),
            dropped: Vec::new(),
        }
    }
}

impl State {
    /// Begins to apply a message of that instant.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.silence = at.since(self.now);
        self.now = self.now.max(at);
    }

    /// Applies one command, at [`Self::now`].
    pub(super) fn apply(&mut self, entry: Entry) -> Answer {
        match entry {
            // That a machine slept is its own affair while others report. Nobody has, and nobody could for all we know, in
            // a silence; and of several who tell of the same one the first ends it.
            Entry::Tasks(Command::Spare(leapt)) => {
                let leapt = leapt.min(std::mem::take(&mut self.silence));
                self.core.spare(self.now, leapt);
                Answer::Done
            }
            Entry::Tasks(command) => {
                let answer = command.apply(&mut self.core, self.now);
                for core::Dropped { task, value } in self.core.take_dropped() {
                    if let Ok(Some(outside)) = Outside::of(&value) {
                        for of in [Of::Arguments(task), Of::Outcome(task)] {
                            self.dropped.push((of.name(&outside.digest), outside.size));
                        }
                    }
                }
                Answer::Tasks(answer)
            }
            Entry::PutResults(results) => {
                results.into_iter().for_each(|staged| self.put_result(staged));
                Answer::Done
            }
            Entry::RemoveResults(tasks) => {
                for key in tasks.iter().flat_map(|task| self.results_of(*task)).collect::<Vec<_>>()
                {
                    self.forget_result(key);
                }
                Answer::Done
            }
            Entry::PurgeResults(max) => {
                let over = self.results_until.iter().take_while(|(until, _)| *until <= self.now);
                let over: Vec<ResultKey> = over.take(max).map(|(_, key)| *key).collect();
                over.iter().for_each(|key| self.forget_result(*key));
                Answer::Count(over.len())
            }
            Entry::PushModule(module, object) => self.push_module(*module, object),
            Entry::RemoveModule(name, version) => self.remove_module(&name, &version),
            Entry::Took(image) => {
                self.take_in(image);
                Answer::Done
            }
        }
    }

    /// Notes that a message was applied, and how much of the log that is; `object` holds the rest where it was too large.
    pub(super) fn advance(&mut self, place: Place, bytes: usize, object: Option<String>) {
        self.applied = place;
        self.weight += bytes as u64 + MESSAGE;
        if let Some(object) = object {
            self.spilled.insert(place.seq, object);
        }
    }

    /// How many times the log has grown by `every` bytes, or half an image if that is more, since the newest image. What is
    /// in objects counts beside [`Self::weight`], which older versions, for which it does not, compare with those of images.
    pub(super) fn overdue(&self, every: u64) -> u64 {
        let newest = self.images.first();
        let every = every.max(newest.map_or(0, |image| image.size / 2)).max(1);
        let log = self.weight - newest.map_or(0, |image| image.weight).min(self.weight);
        let since = newest.map_or(0, |image| image.seq + 1);
        let objects = self.spilled.range(since..).map(|(_, object)| entry::size_of(object));
        objects.fold(log, u64::saturating_add) / every
    }

    fn take_in(&mut self, image: Image) {
        if self.images.iter().any(|known| known.seq >= image.seq) {
            return; // a slower process had begun it earlier
        }
        self.images.insert(0, image);
        self.images.truncate(IMAGES);
        let needed = self.needed();
        self.spilled.retain(|seq, _| *seq >= needed);
    }

    /// The first message of the log that somebody who starts may need.
    pub(super) fn needed(&self) -> u64 {
        if self.images.len() < IMAGES {
            1
        } else {
            self.images.last().map_or(1, |image| image.seq + 1)
        }
    }

    /// Values that lost what they belonged to since the last call of this.
    pub(super) fn take_dropped(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.dropped)
    }

    // Results

    fn put_result(&mut self, staged: Staged) {
        let Staged { key, value, ttl } = staged;
        if let std::collections::btree_map::Entry::Vacant(place) = self.results.entry(key) {
            let until = self.now + ttl;
            place.insert((value, until));
            self.results_until.insert((until, key));
        }
    }

    fn results_of(&self, task: TaskId) -> impl Iterator<Item = ResultKey> + '_ {
        let key = |bound| ResultKey { task, token: Token { fence: bound, nonce: bound } };
        self.results.range(key(0)..=key(u64::MAX)).map(|(key, _)| *key)
    }

    fn forget_result(&mut self, key: ResultKey) {
        let Some((value, until)) = self.results.remove(&key) else { return };
        self.results_until.remove(&(until, key));
        // Another claim of the task may have given the same value.
        let same = |other: ResultKey| self.results[&other].0.digest == value.digest;
        let needed = self.results_of(key.task).any(same);
        if !needed {
            self.dropped.push((Of::Staged(key.task).name(&value.digest), value.size));
        }
    }

    /// The value of that key.
    pub(super) fn result(&self, key: &ResultKey) -> Option<Outside> {
        self.results.get(key).map(|(value, _)| *value)
    }

    /// Whether purging results would do anything at `now`.
    pub(super) fn may_purge_results(&self, now: Timestamp) -> bool {
        self.results_until.first().is_some_and(|(until, _)| *until <= now)
    }

    // Modules

    fn push_module(&mut self, module: Module, object: String) -> Answer {
        if let Some(there) = self.module(&module.name, Some(&module.version)) {
            let same = there.digest == module.digest;
            let pushed = if same { Pushed::Unchanged } else { Pushed::Conflict(there.digest) };
            // The very same push may have come before.
            let kept = same && self.bytes.get(&module.digest) == Some(&object);
            return Answer::Pushed(pushed, kept);
        }
        let kept = self.bytes.entry(module.digest).or_insert_with(|| object.clone()) == &object;
        self.modules.entry(module.name.clone()).or_default().push(module);
        Answer::Pushed(Pushed::Created, kept)
    }

    fn remove_module(&mut self, name: &Name, version: &Name) -> Answer {
        let missing = Answer::Removed(false, None);
        let Some(versions) = self.modules.get_mut(name) else { return missing };
        let Some(index) = versions.iter().position(|module| module.version == *version) else {
            return missing;
        };
        let digest = versions.remove(index).digest;
        if versions.is_empty() {
            self.modules.remove(name);
        }
        let last = !self.modules.values().flatten().any(|module| module.digest == digest);
        Answer::Removed(true, if last { self.bytes.remove(&digest) } else { None })
    }

    /// The module of that name.
    pub(super) fn module(&self, name: &Name, version: Option<&Name>) -> Option<&Module> {
        let versions = self.modules.get(name)?;
        match version {
            Some(version) => versions.iter().find(|module| module.version == *version),
            None => versions.last(),
        }
    }

    /// All modules, by name, the version pushed last first.
    pub(super) fn modules(&self) -> Vec<Module> {
        self.modules.values().flat_map(|versions| versions.iter().rev()).cloned().collect()
    }

    /// The object that holds the bytes of that digest.
    pub(super) fn module_bytes(&self, digest: &Digest) -> Option<String> {
        self.bytes.get(digest).cloned()
    }

    /// Whether something that is kept outside under this name belongs to anything.
    pub(super) fn keeps(&self, name: &str) -> bool {
        let Some((of, digest)) = Of::parse(name) else { return self.keeps_object(name) };
        let stands_for = |payload: &omniq_model::Payload| {
            Outside::of(payload).is_ok_and(|outside| outside.is_some_and(|it| it.digest == digest))
        };
        match of {
            Of::Staged(task) => {
                self.results_of(task).any(|key| self.results[&key].0.digest == digest)
            }
            Of::Arguments(task) | Of::Outcome(task) => {
                let info = self.core.get(&[task]).pop().flatten();
                info.is_some_and(|info| {
                    let result = info.head.result.and_then(|result| result.value);
                    let inline = match &result {
                        Some(omniq_model::Value::Inline(payload)) => stands_for(payload),
                        _ => false,
                    };
                    inline || info.task.is_ok_and(|task| stands_for(&task.args))
                })
            }
        }
    }

    fn keeps_object(&self, name: &str) -> bool {
        match name.split_once('.') {
            Some(("module", _)) => self.bytes.values().any(|object| object == name),
            Some(("message", _)) => self.spilled.values().any(|object| object == name),
            _ => true, // a newer version's, or somebody else's
        }
    }

    // Images

    /// What an image is written from; short enough to be taken while others wait.
    pub(super) fn image(&self) -> Snapshot {
        Snapshot {
            applied: self.applied,
            now: self.now,
            weight: self.weight,
            core: self.core.image(),
            results: self
                .results
                .iter()
                .map(|(key, (value, until))| (*key, *value, *until))
                .collect(),
            modules: self.modules.values().flatten().cloned().collect(),
            bytes: self.bytes.iter().map(|(digest, object)| (*digest, object.clone())).collect(),
            images: self.images.clone(),
            spilled: self.spilled.clone(),
        }
    }

    /// The state of that image.
    pub(super) fn restore(bytes: &[u8]) -> Read<Self> {
        let mut input = In::new(bytes);
        let format = input.number()?;
        if !(1..=FORMAT).contains(&format) {
            return Err(bad(format!("this version knows no image {format} of a store")));
        }
        let seq = input.number()?;
        let stamp = if format == 1 { 0 } else { input.fixed()?.cast_signed() };
        let mut state = Self {
            applied: Place { seq, stamp },
            now: input.instant()?,
            weight: input.number()?,
            ..Self::default()
        };
        let results = input.list(|input| {
            let key = ResultKey { task: input.id()?, token: input.token()? };
            Ok((key, Outside::read(input)?, input.instant()?))
        })?;
        for (key, value, until) in results {
            state.results.insert(key, (value, until));
            state.results_until.insert((until, key));
        }
        let module = |input: &mut In<'_>| decode::<Module>("module", input.bytes()?);
        for module in input.list(module)? {
            state.modules.entry(module.name.clone()).or_default().push(module);
        }
        let bytes = input.list(|input| {
            let digest = decode::<Digest>("digest", input.bytes()?)?;
            Ok((digest, input.text()?.to_owned()))
        })?;
        state.bytes = bytes.into_iter().collect();
        state.images = input.list(Image::read)?;
        let spilled = input.list(|input| Ok((input.number()?, input.text()?.to_owned())))?;
        state.spilled = spilled.into_iter().collect();
        state.core = Core::restore(&mut input)?;
        state.core.note_dropped();
        input.end()?;
        Ok(state)
    }
}

/// Everything at one instant, to be written down.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub applied: Place,
    now: Timestamp,
    pub weight: u64,
    core: core::Image,
    results: Vec<(ResultKey, Outside, Timestamp)>,
    modules: Vec<Module>,
    bytes: Vec<(Digest, String)>,
    images: Vec<Image>,
    spilled: BTreeMap<u64, String>,
}

impl Snapshot {
    pub(super) fn write(mut self) -> Vec<u8> {
        let mut out = Out::with_capacity(1024 + 256 * self.core.tasks());
        out.number(FORMAT);
        out.number(self.applied.seq);
        out.fixed(self.applied.stamp.cast_unsigned());
        out.instant(self.now);
        out.number(self.weight);
        out.count(self.results.len());
        for (key, value, until) in &self.results {
            out.id(key.task);
            out.token(key.token);
            value.write(&mut out);
            out.instant(*until);
        }
        out.count(self.modules.len());
        self.modules.iter().for_each(|module| out.bytes(&encode(module)));
        self.bytes.sort_unstable();
        out.count(self.bytes.len());
        for (digest, object) in &self.bytes {
            out.bytes(&encode(digest));
            out.text(object);
        }
        out.count(self.images.len());
        self.images.iter().for_each(|image| image.write(&mut out));
        out.count(self.spilled.len());
        for (seq, object) in &self.spilled {
            out.number(*seq);
            out.text(object);
        }
        self.core.write(&mut out);
        out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::entry::Sender;

    /// Few bytes of the log may stand for many of which who starts has to read each.
    #[test]
    fn a_message_in_an_object_counts_with_all_its_bytes_until_an_image_has_it() {
        let place = |seq| Place { seq, stamp: 1 };
        let mut state = State::default();
        let object = entry::object_of(Sender { process: 7, number: 1 }, 3 << 20);
        state.advance(place(1), 60, Some(object));
        assert_eq!(state.overdue(1 << 20), 3);
        // As versions before named them, without their size.
        state.advance(place(2), 60, Some("message.0000000000000007-2".into()));
        assert_eq!(state.overdue(1 << 20), 4);
        assert_eq!(state.weight, 2 * (60 + MESSAGE), "what older versions compare with images");
        let image = Image { seq: 1, weight: 60 + MESSAGE, size: 9 };
        state.apply(Entry::Took(image));
        assert_eq!(state.overdue(1 << 20), 1, "the image has the first");
        let restored = State::restore(&state.image().write()).expect("it reads");
        assert_eq!(restored.overdue(1 << 10), state.overdue(1 << 10), "all count alike");
    }
}
