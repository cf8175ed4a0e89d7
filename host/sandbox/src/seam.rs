//! The one place every host call passes.
//!
//! Each interface a guest may import is linked with a getter that goes through [`Seam::enter`], under the interface's
//! name, before the host function runs; the engine's call hook closes the bracket. So calls are counted and limited in
//! one place, whatever they are, and what is to be done around every call (a journal, a trace) is added here once.

use std::sync::{Arc, Mutex, PoisonError};

use omniq_model::Kind;

use crate::limit::Stop;
use crate::outcome::Denial;

/// The bracket around the host calls of one attempt.
#[derive(Debug)]
pub(crate) struct Seam {
    limit: u64,
    calls: u64,
    /// The interface of the call that is running, or of the last one.
    interface: &'static str,
    denials: Denials,
}

/// The refusals of one attempt; clones share them, since some are noticed by host code that does not hold the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denials(Arc<Mutex<Vec<Denial>>>);

impl Denials {
    /// A guest that tries again and again must not fill the host's memory.
    const MOST: usize = 100;
    const LONGEST: usize = 500;

    /// Notes that `capability` was refused for `target`.
    pub fn note(&self, capability: &'static str, target: impl Into<String>) {
        let mut target: String = target.into();
        if target.len() > Self::LONGEST {
            target = target.chars().take(Self::LONGEST).collect::<String>() + "…";
        }
        let mut denials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |one: &&mut Denial| one.capability == capability && one.target == target;
        if let Some(denial) = denials.iter_mut().find(same) {
            denial.count += 1;
        } else if denials.len() < Self::MOST {
            denials.push(Denial { capability, target, count: 1 });
        }
    }

    /// All refusals so far, oldest first.
    pub fn all(&self) -> Vec<Denial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Seam {
    pub fn new(limit: u64) -> Self {
        Self { limit, calls: 0, interface: "", denials: Denials::default() }
    }

    /// A host function of `interface` is about to run.
    pub fn enter(&mut self, interface: &'static str) {
        self.calls += 1;
        self.interface = interface;
    }

    /// The host function has run. Called by the engine's hook, which can still stop the guest.
    pub fn leave(&self) -> Result<(), Stop> {
        if self.calls <= self.limit {
            return Ok(());
        }
        let Self { limit, interface, .. } = self;
        Err(Stop::new(
            Kind::HostCalls,
            format!(
                "the guest called the host more than {limit} times; the last call was to `{interface}`"
            ),
        ))
    }

    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The interface of the last host call, for messages; `None` before the first.
    pub fn last_interface(&self) -> Option<&'static str> {
        (!self.interface.is_empty()).then_some(self.interface)
    }

    pub fn denials(&self) -> &Denials {
        &self.denials
    }
}
