//! What a backend hands to the suite: places to open stores at, and what it can do beyond the traits.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use omniq_model::TaskId;
use omniq_store::{EventStore, ManualClock, ModuleStore, ResultStore, TaskStore};

/// The stores a backend has. What it has not is a capability that cases may need.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Every backend has tasks.
    pub tasks: Arc<dyn TaskStore>,
    /// Where values of results live.
    pub results: Option<Arc<dyn ResultStore>>,
    /// Where events live.
    pub events: Option<Arc<dyn EventStore>>,
    /// Where modules live.
    pub modules: Option<Arc<dyn ModuleStore>>,
}

/// Where one case keeps its data: a folder, a schema, a key prefix. It goes away when it is dropped.
#[async_trait]
pub trait Place: fmt::Debug + Send + Sync + 'static {
    /// Opens the stores of this place. The first call finds it empty; a later one finds what is there, also while the
    /// stores of an earlier call are open, if the backend says that it is shared.
    async fn open(&self) -> Stores;

    /// Whether [`Place::damage`] can be done.
    fn can_damage(&self) -> bool {
        false
    }

    /// Makes the stored form of a task unreadable, behind the back of the open stores.
    async fn damage(&self, _task: TaskId) {
        unreachable!("only called where `can_damage` says yes")
    }
}

/// Makes a fresh place for each case.
#[async_trait]
pub trait Factory: Send + Sync {
    /// The backend's name, as in [`Caps`](omniq_store::Caps): which list of expected skips applies.
    fn name(&self) -> &'static str;

    /// An empty place whose stores read the time from `clock`.
    async fn place(&self, clock: ManualClock) -> Arc<dyn Place>;
}

/// What a case needs beyond the trait of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// What was acknowledged is there after the store was opened anew.
    Durable,
    /// Two open stores at one place, as two processes have them.
    Shared,
    /// A store of results.
    Results,
    /// A store of events.
    Events,
    /// A store of modules.
    Modules,
    /// What an operator does to a store as a whole.
    Admin,
    /// A way to damage a record.
    Damage,
}

impl Need {
    /// Whether `place`, opened as `stores`, can give it.
    pub fn is_met(self, place: &dyn Place, stores: &Stores) -> bool {
        match self {
            Self::Durable => stores.tasks.caps().durable,
            Self::Shared => stores.tasks.caps().shared,
            Self::Results => stores.results.is_some(),
            Self::Events => stores.events.is_some(),
            Self::Modules => stores.modules.is_some(),
            Self::Admin => stores.tasks.admin().is_some(),
            Self::Damage => place.can_damage(),
        }
    }
}
