//! The part that promises the engine something: every `unsafe` of the direct calls stands here.
#![expect(
    unsafe_code,
    reason = "the engine's traits for typed calls are unsafe to implement; see each SAFETY comment"
)]

use std::mem::MaybeUninit;

use wasmtime::ValRaw;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentNamedList, ComponentType, Func, Lift, Lower, TypedFunc};

use super::lift;
use super::lower::{self, Args, MAX_FLAT};

/// The bits the canonical ABI gives to every NaN.
pub(super) const NAN32: u32 = 0x7fc0_0000;
pub(super) const NAN64: u64 = 0x7ff8_0000_0000_0000;

/// The result of a function as canonical CBOR; `SLOTS` is how many core values it is handed back in.
pub(super) struct Lifted<const SLOTS: usize>(pub Vec<u8>);

/// A function that takes [`Args`] and gives [`Lifted`], whatever its component types are.
pub(super) fn typed<'a, const SLOTS: usize>(func: Func) -> TypedFunc<Args<'a>, Lifted<SLOTS>> {
    // SAFETY: the check that is skipped compares the function's types with fixed Rust types. `Args` and `Lifted` have no
    // fixed type: they are directed by the function's own types, which the engine passes to them at each call.
    unsafe { TypedFunc::new_unchecked(func) }
}

/// The engine asks for a size only where values go through memory; [`lower::params`] and [`lift::result`] do that
/// themselves, with the size of the type at hand, so this one is never used for an access.
const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR1;

// SAFETY: `Lower` is an array of `ValRaw`. Its length is the most a function takes directly, and all of it is written
// before the call, so the engine reads only initialised values, as many as the function has.
unsafe impl ComponentType for Args<'_> {
    type Lower = [ValRaw; MAX_FLAT];
    const ABI: CanonicalAbiInfo = ABI;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> wasmtime::Result<()> {
        Ok(())
    }
}

// SAFETY: as for `ComponentType`; the parameters are directed by the function's own types.
unsafe impl ComponentNamedList for Args<'_> {}

// SAFETY: `linear_lower_to_flat` initialises all of `dst`, and every write to memory is checked by the slice it goes
// through. The engine stores parameters in memory itself only where there are more than `MAX_FLAT` slots, never here.
unsafe impl Lower for Args<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        let slots = dst.write([ValRaw::u64(0); MAX_FLAT]);
        lower::params(self, cx, ty, slots)
    }

    fn linear_lower_to_memory<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: usize,
    ) -> wasmtime::Result<()> {
        Err(wasmtime::format_err!("parameters are not stored as one value"))
    }
}

// SAFETY: `Lower` is an array of `ValRaw` of the length the function hands back.
unsafe impl<const SLOTS: usize> ComponentType for Lifted<SLOTS> {
    type Lower = [ValRaw; SLOTS];
    const ABI: CanonicalAbiInfo = ABI;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> wasmtime::Result<()> {
        Ok(())
    }
}

// SAFETY: as for `ComponentType`; the result is directed by the function's own types.
unsafe impl<const SLOTS: usize> ComponentNamedList for Lifted<SLOTS> {}

// SAFETY: reads only the slots it is given, and memory only through checked slices.
unsafe impl<const SLOTS: usize> Lift for Lifted<SLOTS> {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &Self::Lower,
    ) -> wasmtime::Result<Self> {
        lift::result(cx, ty, src).map(Self)
    }

    // Where an async function hands its result back as a sync one does, and it is more than one value.
    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> wasmtime::Result<Self> {
        lift::result_in_memory(cx, ty, bytes).map(Self)
    }
}

/// Writes a string into fresh memory of the guest, in the guest's own encoding; gives its address and length.
pub(super) fn lower_string<T>(
    text: &str,
    cx: &mut LowerContext<'_, T>,
) -> wasmtime::Result<(ValRaw, ValRaw)> {
    let mut pair = MaybeUninit::new([ValRaw::u64(0); 2]);
    text.linear_lower_to_flat(cx, InterfaceType::String, &mut pair)?;
    // SAFETY: it was initialised when it was made, and only ever written to.
    let [address, length] = unsafe { pair.assume_init() };
    Ok((address, length))
}
