//! The engine: which WebAssembly features exist, how instances get their memory, and the clock that interrupts guests.
//!
//! Two profiles, since most advisories of recent engines are reachable only through their newest features. Compiled code
//! belongs to one profile and one exact engine version; see [`compatibility`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy};
use wasmtime::{OptLevel, PoolingAllocationConfig};

use crate::error::Error;
pub use crate::inspect::Profile;

/// How often guests that compute are interrupted to look at their limits, and to let others run.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The exact engine this crate was built with. Compiled code and fuel figures belong to it.
pub const ENGINE_VERSION: &str = "48.0.8";

/// Bytes of a slot's memory and stack that stay with it between instances instead of being returned to the system.
///
/// The default pool gives every page back, and the calls for that take a process-wide lock: two threads are then slower
/// than one. Kept pages are cleared by `memset`, which scales.
const KEEP_MEMORY: usize = 2 << 20;
const KEEP_TABLE: usize = 64 << 10;
const KEEP_STACK: usize = 64 << 10;

/// Elements that the tables of a guest in a pool may have; each is a part of a slot that is set aside beforehand.
pub(crate) const POOLED_TABLE_ELEMENTS: usize = 200_000;
/// More than any module has.
const MANY: u32 = 10_000;

/// Where instances get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Slots that are set up once and used again: what a worker wants.
    Pooled {
        /// How many instances may exist at once.
        instances: u32,
    },
    /// Fresh memory for each instance: starts at once, and is what a single call wants.
    OnDemand,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub profile: Profile,
    pub allocation: Allocation,
    pub stack: usize,
}

fn config(settings: &Settings) -> Config {
    let full = settings.profile == Profile::Full;
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(settings.stack)
        // A fiber needs room for the host functions the guest calls at its deepest point.
        .async_stack_size(settings.stack.saturating_add(1 << 20))
        .native_unwind_info(false)
        .wasm_component_model_async(full)
        .concurrency_support(full)
        .wasm_function_references(full)
        .wasm_gc(full)
        .gc_support(full)
        .wasm_exceptions(full)
        .wasm_memory64(full)
        .wasm_threads(false)
        .shared_memory(false)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true);
    config
}

/// What guests are made of, by number: what a pool has in all, or what one component needs of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub core_instances: u32,
    pub memories: u32,
    pub tables: u32,
}

impl Parts {
    /// What a pool for so many instances of components has.
    pub fn of_pool(instances: u32) -> Self {
        Self {
            // A component of a real toolchain is four core instances: the program, its adapter, and two shims.
            core_instances: instances.saturating_mul(4).max(400),
            memories: instances.saturating_mul(2).max(16),
            tables: instances.saturating_mul(3).max(400),
        }
    }

    /// How many of a pool's slots these parts stand for: the guests whose slots are counted so never need more together
    /// than the pool has, whatever they are made of.
    pub fn slots(self, instances: u32) -> u32 {
        let all = Self::of_pool(instances);
        let share =
            |part: u32, all: u32| (u64::from(part) * u64::from(instances)).div_ceil(u64::from(all));
        let slots = share(self.core_instances, all.core_instances)
            .max(share(self.memories, all.memories))
            .max(share(self.tables, all.tables));
        u32::try_from(slots).unwrap_or(u32::MAX).min(instances).max(1)
    }
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let all = Parts::of_pool(instances);
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(all.core_instances)
        .total_memories(all.memories)
        .total_tables(all.tables)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        // How many of them one component may have is up to the limits of each call.
        .max_tables_per_module(MANY)
        .max_memories_per_module(MANY)
        .table_elements(POOLED_TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_MEMORY)
        .table_keep_resident(KEEP_TABLE)
        .async_stack_keep_resident(KEEP_STACK)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Makes the engine. A pool that this machine has no room for falls back to memory on demand; the second value tells.
pub(crate) fn open(settings: &Settings) -> Result<(Engine, Allocation), Error> {
    let mut config = config(settings);
    config
        .module_version(ModuleVersionStrategy::Custom(format!("omniq {ENGINE_VERSION}")))
        .map_err(Error::engine)?;
    if let Allocation::Pooled { instances } = settings.allocation {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
        if let Ok(engine) = Engine::new(&config) {
            return Ok((engine, settings.allocation));
        }
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    }
    let engine = Engine::new(&config).map_err(Error::engine)?;
    Ok((engine, Allocation::OnDemand))
}

/// A hash over everything that compiled code depends on besides the component: two engines with the same hash may run
/// each other's code, no others.
pub(crate) fn compatibility(engine: &Engine, profile: Profile) -> [u8; 32] {
    use std::hash::{Hash, Hasher};

    /// Feeds what is hashed into BLAKE3 instead of a 64-bit hash, which could collide.
    struct Collect(blake3::Hasher);
    impl Hasher for Collect {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }

    let mut collect = Collect(blake3::Hasher::new());
    // The engine's own hash covers its settings and the target's features, and its version only by major number.
    engine.precompile_compatibility_hash().hash(&mut collect);
    collect.write(ENGINE_VERSION.as_bytes());
    collect.write(&[profile as u8]);
    collect.write(&cpu_features());
    *collect.0.finalize().as_bytes()
}

/// The instruction sets this processor has, since code compiled for more of them stops on fewer.
fn cpu_features() -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detect {
            ($($name:tt)*) => { vec![$(u8::from(std::is_x86_feature_detected!($name))),*] };
        }
        detect!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2" "lzcnt"
            "avx512f" "avx512dq" "avx512vl" "avx512bitalg" "avx512vbmi" "cmpxchg16b")
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// The thread that advances an engine's epoch every [`TICK`]. It ends when it is dropped, or when the engine is gone.
#[derive(Debug)]
pub(crate) struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub fn start(engine: &Engine) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, engine) = (Arc::clone(&stop), engine.weak());
        let thread = thread::Builder::new()
            .name("omniq-epoch".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    thread::park_timeout(TICK);
                    match engine.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })
            .map_err(|source| {
                Error::host("could not start the thread that interrupts guests", source)
            })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread cannot panic; if it did, there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("wasmtime = {{ version = \"={ENGINE_VERSION}\"")));
    }

    #[test]
    fn guests_that_fill_the_slots_never_need_more_than_the_pool_has() {
        for instances in [1, 2, 8, 32, 100, 133, 200, 1000] {
            let all = Parts::of_pool(instances);
            let sizes = [(1, 1, 1), (4, 1, 2), (4, 2, 3), (5, 3, 4), (20, 1, 2), (200, 16, 100)];
            for (core_instances, memories, tables) in sizes {
                let parts = Parts { core_instances, memories, tables };
                let slots = parts.slots(instances);
                assert!((1..=instances).contains(&slots), "{parts:?} of {instances}: {slots}");
                let guests = instances / slots;
                let fits = guests * core_instances <= all.core_instances
                    && guests * memories <= all.memories
                    && guests * tables <= all.tables;
                assert!(fits, "{guests} times {parts:?} of {instances}");
            }
            // What a real toolchain makes is one.
            let usual = Parts { core_instances: 4, memories: 1, tables: 2 };
            assert_eq!(usual.slots(instances), 1);
        }
    }

    #[test]
    fn code_of_one_profile_is_not_that_of_the_other() {
        let hash = |profile, allocation| {
            let settings = Settings { profile, allocation, stack: 512 << 10 };
            compatibility(&open(&settings).unwrap().0, profile)
        };
        let strict = hash(Profile::Strict, Allocation::OnDemand);
        assert_ne!(strict, hash(Profile::Full, Allocation::OnDemand));
        // Where memory comes from is no part of the code.
        assert_eq!(strict, hash(Profile::Strict, Allocation::Pooled { instances: 2 }));
    }
}
