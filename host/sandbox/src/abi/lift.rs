//! A guest's result into canonical CBOR.
//!
//! Nothing the guest hands over is trusted: addresses, lengths, discriminants, characters and text are all checked, and
//! what is copied is paid for before it is copied.

use std::sync::Arc;

use omniq_model::Kind;
use omniq_model::wit::Type;
use wasmtime::ValRaw;
use wasmtime::component::__internal::wasmtime_environ::component::VariantInfo;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, ComponentTypes, InterfaceType, LiftContext,
};
use wasmtime::component::Lift as _;
use wasmtime::format_err;

use super::lower::MAX_FLAT;
use super::order::Orders;
use crate::limit::Stop;
use crate::value::cbor::Writer;

type Result<T> = wasmtime::Result<T>;

/// Reads the result of a function: directly from `src` if it fits there, otherwise from where `src` points.
pub(super) fn result(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    src: &[ValRaw],
) -> Result<Vec<u8>> {
    let slots = src.len();
    lift(cx, ty, |lifting, cx, types, ty, abi| match abi.flat_count(slots) {
        Some(_) => lifting.flat(cx, types, ty, src),
        None => lifting.load_checked(cx, types, ty, src[0].get_u32() as usize),
    })
}

/// Reads a result that the engine found in memory by itself; `bytes` begins where it lies.
pub(super) fn result_in_memory(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    bytes: &[u8],
) -> Result<Vec<u8>> {
    // The slice is one of memory, so this is its distance from the start.
    let address = (bytes.as_ptr() as usize).wrapping_sub(cx.memory().as_ptr() as usize);
    lift(cx, ty, |lifting, cx, types, ty, _| lifting.load_checked(cx, types, ty, address))
}

fn lift(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    read: impl FnOnce(
        &mut Lifting,
        &mut LiftContext<'_>,
        &ComponentTypes,
        InterfaceType,
        &CanonicalAbiInfo,
    ) -> Result<()>,
) -> Result<Vec<u8>> {
    let InterfaceType::Tuple(tuple) = ty else {
        return Err(format_err!("results are not a tuple"));
    };
    let types = Arc::clone(cx.types);
    let mut lifting = Lifting { out: Writer::default(), orders: Orders::default(), paid: 0 };
    let results = &types[tuple];
    let Some(ty) = results.types.first().copied() else {
        lifting.out.null();
        return Ok(lifting.out.into_bytes());
    };
    read(&mut lifting, cx, &types, ty, &results.abi)?;
    lifting.pay(cx)?;
    Ok(lifting.out.into_bytes())
}

struct Lifting {
    out: Writer,
    orders: Orders,
    /// How many bytes of `out` are paid for.
    paid: usize,
}

impl Lifting {
    /// Charges what was written since the last time against what may be copied out of the guest.
    fn pay(&mut self, cx: &mut LiftContext<'_>) -> Result<()> {
        let written = self.out.len();
        let due = written.saturating_sub(self.paid);
        self.paid = self.paid.max(written);
        afford(cx, due)
    }

    /// Reads a value from memory at an address that the guest gave.
    fn load_checked(
        &mut self,
        cx: &mut LiftContext<'_>,
        types: &ComponentTypes,
        ty: InterfaceType,
        address: usize,
    ) -> Result<()> {
        let abi = types.canonical_abi(&ty);
        check(cx, address, abi.size32 as usize, abi.align32)?;
        self.load(cx, types, ty, address)
    }

    /// Writes text whose bytes the engine has charged for.
    fn text(&mut self, text: &str) {
        self.out.text(text);
        self.paid += text.len();
    }

    /// Writes a value made of one core value, given by its bits; false if the type is no such type.
    fn scalar(&mut self, ty: InterfaceType, bits: u64) -> Result<bool> {
        let out = &mut self.out;
        match ty {
            InterfaceType::Bool => out.bool(bits as u32 != 0),
            InterfaceType::U8 => out.uint(u64::from(bits as u8)),
            InterfaceType::U16 => out.uint(u64::from(bits as u16)),
            InterfaceType::U32 => out.uint(u64::from(bits as u32)),
            InterfaceType::U64 => out.uint(bits),
            InterfaceType::S8 => out.sint(i64::from(bits as i8)),
            InterfaceType::S16 => out.sint(i64::from(bits as i16)),
            InterfaceType::S32 => out.sint(i64::from(bits as i32)),
            InterfaceType::S64 => out.sint(bits as i64),
            InterfaceType::Float32 => out.f32(f32::from_bits(bits as u32)),
            InterfaceType::Float64 => out.f64(f64::from_bits(bits)),
            InterfaceType::Char => {
                let scalar = bits as u32;
                let value = char::from_u32(scalar)
                    .ok_or_else(|| format_err!("{scalar:#x} is not a character"))?;
                out.text(value.encode_utf8(&mut [0; 4]));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads a value from core values.
    fn flat(
        &mut self,
        cx: &mut LiftContext<'_>,
        types: &ComponentTypes,
        ty: InterfaceType,
        src: &[ValRaw],
    ) -> Result<()> {
        if let Some(first) = src.first()
            && self.scalar(ty, first.get_u64())?
        {
            return Ok(());
        }
        match ty {
            InterfaceType::String => {
                let text = String::linear_lift_from_flat(cx, ty, &[src[0], src[1]])?;
                self.text(&text);
            }
            InterfaceType::List(index) => {
                let (address, length) = (src[0].get_u32() as usize, src[1].get_u32() as usize);
                self.list(cx, types, types[index].element, address, length)?;
            }
            InterfaceType::Record(index) => {
                let order = self.orders.of(types, index);
                self.out.map(order.len());
                for place in order.iter() {
                    let field = &types[index].fields[place.field];
                    self.out.text(&field.name);
                    self.flat(cx, types, field.ty, &src[place.flat..])?;
                }
            }
            InterfaceType::Tuple(index) => {
                let elements = &types[index].types;
                self.out.array(elements.len());
                let mut at = 0;
                for element in elements {
                    self.flat(cx, types, *element, &src[at..])?;
                    at += types.canonical_abi(element).flat_count(usize::MAX).unwrap_or(0);
                }
            }
            InterfaceType::Flags(index) => {
                let names = &types[index].names;
                let words: Vec<u32> =
                    src.iter().take(names.len().div_ceil(32)).map(ValRaw::get_u32).collect();
                self.flags(names.iter().map(String::as_str), &words);
            }
            _ => {
                if let Some(payload) = self.choose(types, ty, src[0].get_u32())? {
                    self.flat(cx, types, payload, &src[1..])?;
                }
            }
        }
        Ok(())
    }

    /// Reads a value from memory at `offset`, which is known to have room for it.
    fn load(
        &mut self,
        cx: &mut LiftContext<'_>,
        types: &ComponentTypes,
        ty: InterfaceType,
        offset: usize,
    ) -> Result<()> {
        let memory = cx.memory();
        let abi = types.canonical_abi(&ty);
        let size = abi.size32 as usize;
        let bytes = &memory[offset..][..size];
        let mut bits = [0; 8];
        bits[..size.min(8)].copy_from_slice(&bytes[..size.min(8)]);
        if self.scalar(ty, u64::from_le_bytes(bits))? {
            return Ok(());
        }
        match ty {
            InterfaceType::String => {
                let text = String::linear_lift_from_memory(cx, ty, bytes)?;
                self.text(&text);
            }
            InterfaceType::List(index) => {
                let (address, length) = (word(memory, offset), word(memory, offset + 4));
                self.list(cx, types, types[index].element, address as usize, length as usize)?;
            }
            InterfaceType::Record(index) => {
                let order = self.orders.of(types, index);
                self.out.map(order.len());
                for place in order.iter() {
                    let field = &types[index].fields[place.field];
                    self.out.text(&field.name);
                    self.load(cx, types, field.ty, offset + place.offset)?;
                }
            }
            InterfaceType::Tuple(index) => {
                let elements = &types[index].types;
                self.out.array(elements.len());
                let mut end = offset;
                for element in elements {
                    let at = types.canonical_abi(element).next_field32_size(&mut end);
                    self.load(cx, types, *element, at)?;
                }
            }
            InterfaceType::Flags(index) => {
                let names = &types[index].names;
                let words: Vec<u32> = bytes.chunks(4).map(little_endian).collect();
                self.flags(names.iter().map(String::as_str), &words);
            }
            _ => {
                let info = variant_info(types, ty)?;
                let discriminant = little_endian(&bytes[..info.size.byte_size() as usize]);
                if let Some(payload) = self.choose(types, ty, discriminant)? {
                    self.load(cx, types, payload, offset + info.payload_offset32 as usize)?;
                }
            }
        }
        Ok(())
    }

    fn list(
        &mut self,
        cx: &mut LiftContext<'_>,
        types: &ComponentTypes,
        element: InterfaceType,
        address: usize,
        length: usize,
    ) -> Result<()> {
        let abi = types.canonical_abi(&element);
        let size = abi.size32 as usize;
        let bytes =
            length.checked_mul(size).ok_or_else(|| format_err!("a list is longer than memory"))?;
        check(cx, address, bytes, abi.align32)?;
        if element == InterfaceType::U8 {
            afford(cx, bytes)?;
            self.out.buffer().reserve_exact(bytes + 9);
            self.out.bytes(&cx.memory()[address..][..bytes]);
            self.paid += bytes;
            return Ok(());
        }
        // Elements of no size would otherwise cost nothing and be as many as the guest likes.
        afford(cx, length)?;
        self.paid += length;
        self.out.array(length);
        for index in 0..length {
            self.load(cx, types, element, address + index * size)?;
            // After each one: what an element comes to has little to do with the memory it takes.
            self.pay(cx)?;
        }
        Ok(())
    }

    /// Writes which case a variant-like type has; gives the type of the payload that is to follow.
    fn choose(
        &mut self,
        types: &ComponentTypes,
        ty: InterfaceType,
        discriminant: u32,
    ) -> Result<Option<InterfaceType>> {
        let out = &mut self.out;
        let case = discriminant as usize;
        let unknown = || format_err!("{discriminant} is not the number of a case");
        match ty {
            InterfaceType::Option(index) => match discriminant {
                0 => {
                    out.null();
                    Ok(None)
                }
                1 => {
                    let inner = types[index].ty;
                    if matches!(inner, InterfaceType::Option(_)) {
                        out.array(1);
                    }
                    Ok(Some(inner))
                }
                _ => Err(unknown()),
            },
            InterfaceType::Result(index) => {
                let (label, payload) = match discriminant {
                    0 => ("ok", types[index].ok),
                    1 => ("err", types[index].err),
                    _ => return Err(unknown()),
                };
                out.map(1);
                out.text(label);
                if payload.is_none() {
                    out.null();
                }
                Ok(payload)
            }
            InterfaceType::Variant(index) => {
                let (label, payload) = types[index].cases.iter().nth(case).ok_or_else(unknown)?;
                if payload.is_some() {
                    out.map(1);
                }
                out.text(label);
                Ok(*payload)
            }
            InterfaceType::Enum(index) => {
                let label = types[index].names.iter().nth(case).ok_or_else(unknown)?;
                out.text(label);
                Ok(None)
            }
            _ => Err(format_err!("the result has a type that is no value type")),
        }
    }

    /// Writes the labels whose bits are set, in declaration order. Bits beyond the last label mean nothing.
    fn flags<'n>(&mut self, names: impl Iterator<Item = &'n str>, words: &[u32]) {
        let set = |bit: usize| words.get(bit / 32).is_some_and(|word| word >> (bit % 32) & 1 == 1);
        let labels: Vec<&str> =
            names.enumerate().filter(|(bit, _)| set(*bit)).map(|(_, name)| name).collect();
        self.out.array(labels.len());
        for label in labels {
            self.out.text(label);
        }
    }
}

fn variant_info(types: &ComponentTypes, ty: InterfaceType) -> Result<&VariantInfo> {
    Ok(match ty {
        InterfaceType::Option(index) => &types[index].info,
        InterfaceType::Result(index) => &types[index].info,
        InterfaceType::Variant(index) => &types[index].info,
        InterfaceType::Enum(index) => &types[index].info,
        _ => return Err(format_err!("the result has a type that is no value type")),
    })
}

/// Takes `bytes` from what the guest may still hand over.
fn afford(cx: &mut LiftContext<'_>, bytes: usize) -> Result<()> {
    let spent = || Stop::new(Kind::OutputTooLarge, "the result is larger than its limit");
    cx.consume_fuel(bytes).map_err(|_| spent().into())
}

/// Whether `size` bytes at `address` lie in memory and are aligned.
fn check(cx: &LiftContext<'_>, address: usize, size: usize, align: u32) -> Result<()> {
    if !address.is_multiple_of(align as usize) {
        return Err(format_err!("address {address:#x} is not aligned to {align}"));
    }
    match address.checked_add(size) {
        Some(end) if end <= cx.memory().len() => Ok(()),
        _ => Err(format_err!("{size} bytes at {address:#x} lie outside of memory")),
    }
}

fn word(memory: &[u8], offset: usize) -> u32 {
    little_endian(&memory[offset..][..4])
}

/// A number of at most four bytes.
fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// How many core values a function of this result hands back at once.
///
/// The engine wants to know at compile time, so there is one instance of [`raw::Lifted`] for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    /// A function that is not async: one value, or the address of what is more.
    Sync,
    /// An async function: its values, if there are at most 16, or the address of what is more.
    Async(usize),
}

impl Arity {
    /// The arity of an async function that returns `result`.
    pub fn of_async(result: Option<&Type>) -> Self {
        match result.map_or(0, core_values) {
            many if many > MAX_FLAT => Self::Async(1),
            few => Self::Async(few),
        }
    }
}

/// How many core values a value of the type is made of (the canonical ABI's `flatten_type`).
fn core_values(ty: &Type) -> usize {
    let sum = |types: &mut dyn Iterator<Item = &Type>| {
        types.map(core_values).fold(0, usize::saturating_add)
    };
    let widest =
        |types: &mut dyn Iterator<Item = &Type>| 1 + types.map(core_values).max().unwrap_or(0);
    match ty {
        Type::String | Type::List(_) => 2,
        Type::Tuple(types) => sum(&mut types.iter()),
        Type::Record(record) => sum(&mut record.fields.iter().map(|field| &field.ty)),
        Type::Variant(_) | Type::Option(_) | Type::Result(_) => {
            widest(&mut ty.children().into_iter())
        }
        Type::Flags(labels) => labels.labels.len().div_ceil(32),
        _ => 1,
    }
}
