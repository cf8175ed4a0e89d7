//! Arguments from CBOR straight into a guest's memory, results from its memory straight into CBOR.
//!
//! The engine's dynamic calls go through a tree of boxed values, 40 bytes for every `u8` of a list: a 64 KiB byte string
//! takes 2 ms that way and 10 µs this way. Its typed calls have no such tree but want the types at compile time. What
//! they really need is something that writes parameters and reads a result under the direction of the *component's own*
//! types, and [`Args`] and [`Lifted`] are exactly that for every type at once.
//!
//! This leans on the engine's hidden interfaces (`wasmtime::component::__internal`), which is why the engine is pinned to
//! one patch version; the property test in `tests.rs` holds the result against the engine's own dynamic path. The rules
//! are those of the canonical ABI (component-model, `CanonicalABI.md`) for 32-bit memories.

mod lift;
mod lower;
mod order;
mod raw;
#[cfg(test)]
mod tests;

use wasmtime::component::Func;
use wasmtime::{AsContextMut, Store};

pub(crate) use lift::Arity;
pub(crate) use lower::Args;

/// Calls a function on the current thread, with canonical CBOR in and out.
pub(crate) fn call<T: 'static>(
    func: Func,
    store: &mut Store<T>,
    args: Args<'_>,
) -> wasmtime::Result<Vec<u8>> {
    raw::typed::<1>(func).call(store.as_context_mut(), args).map(|lifted| lifted.0)
}

/// Calls a function on a fiber, with canonical CBOR in and out.
pub(crate) async fn call_async<T: Send + 'static>(
    func: Func,
    store: &mut Store<T>,
    args: Args<'_>,
    arity: Arity,
) -> wasmtime::Result<Vec<u8>> {
    macro_rules! dispatch {
        ($slots:ident; $($count:literal)*) => {
            match $slots {
                $($count => call_with::<$count, T>(func, store, args).await,)*
                _ => call_with::<1, T>(func, store, args).await,
            }
        };
    }
    match arity {
        Arity::Sync => call_with::<1, T>(func, store, args).await,
        Arity::Async(slots) => dispatch!(slots; 0 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
    }
}

async fn call_with<const SLOTS: usize, T: Send + 'static>(
    func: Func,
    store: &mut Store<T>,
    args: Args<'_>,
) -> wasmtime::Result<Vec<u8>> {
    raw::typed::<SLOTS>(func).call_async(store, args).await.map(|lifted| lifted.0)
}
