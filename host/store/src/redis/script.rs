//! The scripts: each is known by the hash of its text, so that every version of OmniQ calls its own.

use std::sync::LazyLock;

/// One script.
#[derive(Debug)]
pub(super) struct Script {
    pub name: &'static str,
    pub text: String,
    pub hash: String,
}

/// Scripts that only look.
const LOOKS: [&str; 8] =
    ["due_schedules", "cancels", "ready_lanes", "get", "ended", "scan", "holders", "now"];

impl Script {
    /// Whether it may change something.
    pub(super) fn changes(&self) -> bool {
        !LOOKS.contains(&self.name)
    }

    fn new(name: &'static str, parts: &[&str]) -> Self {
        let text = parts.concat();
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { name, text, hash }
    }
}

macro_rules! part {
    ($file:literal) => {
        include_str!(concat!("lua/", $file, ".lua"))
    };
}

/// Scripts of the task store, each with the parts it needs beside `clock` and `lib`.
macro_rules! scripts {
    ($($name:ident = $file:literal [$($part:literal)*];)+) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new($file, &[part!("clock"), part!("lib"), $(part!($part),)* part!($file)])
        });)+

        /// All scripts of the task store.
        pub(super) fn all() -> Vec<&'static Script> {
            vec![$(&*$name),+]
        }
    };
}

scripts! {
    ENQUEUE = "enqueue" ["arrive"];
    FIRE = "fire" ["arrive" "schedules"];
    PUT_SCHEDULES = "put_schedules" ["schedules"];
    REMOVE_SCHEDULES = "remove_schedules" ["schedules"];
    DUE_SCHEDULES = "due_schedules" [];
    CLAIM = "claim" [];
    FINISH = "finish" [];
    OPEN_SESSION = "open_session" ["sessions"];
    CLOSE_SESSION = "close_session" ["sessions"];
    HEARTBEAT = "heartbeat" ["sessions"];
    CANCELS = "cancels" [];
    PUT_BACK = "put_back" [];
    RECLAIM = "reclaim" ["sessions"];
    PROMOTE = "promote" [];
    EXPIRE = "expire" [];
    SETTLE = "settle" [];
    CANCEL = "cancel" [];
    RETRY = "retry" [];
    REMOVE = "remove" ["forget"];
    PURGE = "purge" ["forget"];
    PAUSE = "pause" [];
    READY_LANES = "ready_lanes" [];
    GET = "get" [];
    ENDED = "ended" [];
    SCAN = "scan" [];
    IMPORT = "import" ["arrive"];
    RAISE = "raise" [];
    HOLDERS = "holders" [];
    VOID_SESSION = "void_session" ["sessions"];
    NOW = "now" [];
}

/// Scripts that stand for themselves, of results and modules, each with the parts it needs.
macro_rules! alone {
    ($($name:ident = $file:literal [$($part:literal)*];)+) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($file, &[$(part!($part),)* part!($file)]));)+
    };
}

alone! {
    MIGRATE = "migrate" [];
    PUT_RESULTS = "put_results" ["clock"];
    REMOVE_RESULTS = "remove_results" [];
    PURGE_RESULTS = "purge_results" [];
    PUSH_MODULE = "push_module" [];
    REMOVE_MODULE = "remove_module" [];
}

/// The keys of a task store, in the order in which `lib.lua` names them.
pub(super) fn task_keys(tag: &str) -> Vec<Vec<u8>> {
    const NAMES: [&str; 19] = [
        "meta", "body", "head", "large", "ready", "due", "expiry", "ended", "kept", "lease",
        "cancel", "session", "edge", "unique", "tally", "paused", "owed", "schedule", "firing",
    ];
    const STATES: [&str; 8] = [
        "blocked",
        "scheduled",
        "waiting",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "expired",
    ];
    NAMES.iter().chain(&STATES).map(|name| key(tag, name)).collect()
}

/// One key of a store: all have the same hash tag, so that in a cluster they are in one slot.
pub(super) fn key(tag: &str, name: &str) -> Vec<u8> {
    format!("{{{tag}}}:{name}").into_bytes()
}
