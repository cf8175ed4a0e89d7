//! Canonical CBOR into a guest's parameters.
//!
//! The bytes were checked against the function's signature before; everything that memory safety or the guest's view
//! depends on is checked again here, where it is used, so that no mistake elsewhere can reach the guest as an ill-typed
//! value.

use wasmtime::ValRaw;
use wasmtime::component::__internal::wasmtime_environ::component::VariantInfo;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, ComponentTypes, InterfaceType, LowerContext,
};
use wasmtime::component::Lower as _;

use super::order::Orders;
use super::raw;
use crate::value::cbor::Reader;

/// The arguments of one call: canonical CBOR, a map by parameter name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Args<'a> {
    /// The map.
    pub cbor: &'a [u8],
    /// For each entry of the map, in its order, which parameter it is.
    pub order: &'a [usize],
}

/// The most values a function takes directly; more go through memory. Fixed by the canonical ABI.
pub(super) const MAX_FLAT: usize = 16;

type Result<T> = wasmtime::Result<T>;

/// Writes all parameters: into `slots` if they are few, otherwise into the guest's memory and their address into `slots`.
pub(super) fn params<T>(
    args: &Args<'_>,
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    slots: &mut [ValRaw; MAX_FLAT],
) -> Result<()> {
    let InterfaceType::Tuple(tuple) = ty else {
        return Err(mismatch("parameters that are a tuple"));
    };
    let types = cx.types;
    let params = &types[tuple].types;
    let mut lower = Lowering { reader: Reader::new(args.cbor), orders: Orders::default() };
    if lower.reader.read_map()? != params.len() || args.order.len() != params.len() {
        return Err(mismatch("one entry for each parameter"));
    }
    let abi = &types[tuple].abi;
    let flat = abi.flat_count(MAX_FLAT).is_some();
    let base = if flat { 0 } else { cx.realloc(0, 0, abi.align32, abi.size32 as usize)? };
    if !flat {
        slots[0] = ValRaw::u32(u32::try_from(base)?);
    }
    let places = places(params.iter().map(|ty| types.canonical_abi(ty)));
    for index in args.order {
        lower.reader.read_text()?;
        let (offset, slot) = *places.get(*index).ok_or_else(|| mismatch("a known parameter"))?;
        match flat {
            true => lower.flat(cx, params[*index], &mut slots[slot..])?,
            false => lower.store(cx, params[*index], base + offset)?,
        }
    }
    Ok(())
}

/// For each of a row of values: its distance from the start in memory, and among flattened values.
fn places<'a>(abis: impl Iterator<Item = &'a CanonicalAbiInfo>) -> Vec<(usize, usize)> {
    let (mut offset, mut flat) = (0, 0);
    abis.map(|abi| {
        let place = (abi.next_field32_size(&mut offset), flat);
        flat += abi.flat_count(usize::MAX).unwrap_or(usize::MAX / 2);
        place
    })
    .collect()
}

struct Lowering<'a> {
    reader: Reader<'a>,
    orders: Orders,
}

/// A number in both its forms: as a core value, and as the low bytes of one in memory.
struct Scalar {
    flat: ValRaw,
    bits: u64,
    width: usize,
}

/// A variant about to be written: which case, and whether a payload follows in the reader.
struct Chosen {
    discriminant: u32,
    payload: Option<InterfaceType>,
    /// Whether the payload stands in an array of one, as a present option inside an option does.
    wrapped: bool,
}

impl Lowering<'_> {
    /// Reads a number, truth value or character; `None` if the type is none of these.
    fn scalar(&mut self, ty: InterfaceType) -> Result<Option<Scalar>> {
        macro_rules! integer {
            ($int:ty, $wide:ty, $make:path, $width:literal) => {{
                let value = <$int>::try_from(self.reader.read_int()?)?;
                Scalar {
                    flat: $make(<$wide>::from(value)),
                    bits: i128::from(value) as u64,
                    width: $width,
                }
            }};
        }
        Ok(Some(match ty {
            InterfaceType::Bool => {
                let value = self.reader.read_bool()?;
                Scalar { flat: ValRaw::u32(value.into()), bits: value.into(), width: 1 }
            }
            InterfaceType::U8 => integer!(u8, u32, ValRaw::u32, 1),
            InterfaceType::U16 => integer!(u16, u32, ValRaw::u32, 2),
            InterfaceType::U32 => integer!(u32, u32, ValRaw::u32, 4),
            InterfaceType::U64 => integer!(u64, u64, ValRaw::u64, 8),
            InterfaceType::S8 => integer!(i8, i32, ValRaw::i32, 1),
            InterfaceType::S16 => integer!(i16, i32, ValRaw::i32, 2),
            InterfaceType::S32 => integer!(i32, i32, ValRaw::i32, 4),
            InterfaceType::S64 => integer!(i64, i64, ValRaw::i64, 8),
            InterfaceType::Float32 => {
                let value = self.reader.read_float()?;
                let bits = if value.is_nan() { raw::NAN32 } else { (value as f32).to_bits() };
                Scalar { flat: ValRaw::f32(bits), bits: bits.into(), width: 4 }
            }
            InterfaceType::Float64 => {
                let value = self.reader.read_float()?;
                let bits = if value.is_nan() { raw::NAN64 } else { value.to_bits() };
                Scalar { flat: ValRaw::f64(bits), bits, width: 8 }
            }
            InterfaceType::Char => {
                let mut text = self.reader.read_text()?.chars();
                let (Some(value), None) = (text.next(), text.next()) else {
                    return Err(mismatch("one character"));
                };
                let value = u32::from(value);
                Scalar { flat: ValRaw::u32(value), bits: value.into(), width: 4 }
            }
            _ => return Ok(None),
        }))
    }

    /// Writes the next value as core values.
    fn flat<T>(
        &mut self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut [ValRaw],
    ) -> Result<()> {
        if let Some(scalar) = self.scalar(ty)? {
            dst[0] = scalar.flat;
            return Ok(());
        }
        let types = cx.types;
        match ty {
            InterfaceType::String => {
                (dst[0], dst[1]) = raw::lower_string(self.reader.read_text()?, cx)?;
            }
            InterfaceType::List(index) => {
                let (address, length) = self.list(cx, types[index].element)?;
                (dst[0], dst[1]) =
                    (ValRaw::u32(u32::try_from(address)?), ValRaw::u32(u32::try_from(length)?));
            }
            InterfaceType::Record(index) => {
                let order = self.orders.of(types, index);
                self.entries(order.len())?;
                for place in order.iter() {
                    let field = &types[index].fields[place.field];
                    self.key(&field.name)?;
                    self.flat(cx, field.ty, &mut dst[place.flat..])?;
                }
            }
            InterfaceType::Tuple(index) => {
                let elements = &types[index].types;
                self.elements(elements.len())?;
                let mut at = 0;
                for element in elements {
                    self.flat(cx, *element, &mut dst[at..])?;
                    at += types.canonical_abi(element).flat_count(usize::MAX).unwrap_or(0);
                }
            }
            InterfaceType::Flags(index) => {
                let words = self.flags(types[index].names.iter().map(String::as_str))?;
                for (slot, word) in dst.iter_mut().zip(words) {
                    *slot = ValRaw::u32(word);
                }
            }
            _ => {
                let (chosen, _) = self.choose(types, ty)?;
                let width = types.canonical_abi(&ty).flat_count(usize::MAX).unwrap_or(0);
                let dst = &mut dst[..width];
                // What the payload does not fill must be zero, since another case may be wider.
                dst.fill(ValRaw::u64(0));
                dst[0] = ValRaw::u32(chosen.discriminant);
                self.payload(&chosen, |lower, payload| lower.flat(cx, payload, &mut dst[1..]))?;
            }
        }
        Ok(())
    }

    /// Writes the next value into memory at `offset`, which is aligned and has room.
    fn store<T>(
        &mut self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> Result<()> {
        if let Some(scalar) = self.scalar(ty)? {
            cx.as_slice_mut()[offset..][..scalar.width]
                .copy_from_slice(&scalar.bits.to_le_bytes()[..scalar.width]);
            return Ok(());
        }
        let types = cx.types;
        match ty {
            InterfaceType::String => {
                self.reader.read_text()?.linear_lower_to_memory(cx, ty, offset)?;
            }
            InterfaceType::List(index) => {
                let (address, length) = self.list(cx, types[index].element)?;
                *cx.get(offset) = u32::try_from(address)?.to_le_bytes();
                *cx.get(offset + 4) = u32::try_from(length)?.to_le_bytes();
            }
            InterfaceType::Record(index) => {
                let order = self.orders.of(types, index);
                self.entries(order.len())?;
                for place in order.iter() {
                    let field = &types[index].fields[place.field];
                    self.key(&field.name)?;
                    self.store(cx, field.ty, offset + place.offset)?;
                }
            }
            InterfaceType::Tuple(index) => {
                let elements = &types[index].types;
                self.elements(elements.len())?;
                let mut end = offset;
                for element in elements {
                    let at = types.canonical_abi(element).next_field32_size(&mut end);
                    self.store(cx, *element, at)?;
                }
            }
            InterfaceType::Flags(index) => {
                let names = &types[index].names;
                let words = self.flags(names.iter().map(String::as_str))?;
                let width = types[index].abi.size32 as usize;
                let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).take(width).collect();
                cx.as_slice_mut()[offset..][..width].copy_from_slice(&bytes);
            }
            _ => {
                let (chosen, info) = self.choose(types, ty)?;
                let width = info.size.byte_size() as usize;
                cx.as_slice_mut()[offset..][..width]
                    .copy_from_slice(&chosen.discriminant.to_le_bytes()[..width]);
                let at = offset + info.payload_offset32 as usize;
                self.payload(&chosen, |lower, payload| lower.store(cx, payload, at))?;
            }
        }
        Ok(())
    }

    /// Writes a list into fresh memory of the guest; gives its address and its number of elements.
    fn list<T>(
        &mut self,
        cx: &mut LowerContext<'_, T>,
        element: InterfaceType,
    ) -> Result<(usize, usize)> {
        if element == InterfaceType::U8 {
            let bytes = self.reader.read_bytes()?;
            let address = cx.realloc(0, 0, 1, bytes.len())?;
            cx.as_slice_mut()[address..][..bytes.len()].copy_from_slice(bytes);
            return Ok((address, bytes.len()));
        }
        let length = self.reader.read_array()?;
        let abi = cx.types.canonical_abi(&element);
        let (size, align) = (abi.size32 as usize, abi.align32);
        let bytes =
            length.checked_mul(size).ok_or_else(|| mismatch("a list that fits into memory"))?;
        let address = cx.realloc(0, 0, align, bytes)?;
        for index in 0..length {
            self.store(cx, element, address + index * size)?;
        }
        Ok((address, length))
    }

    /// Reads which case of a variant-like type comes next.
    fn choose<'t>(
        &mut self,
        types: &'t ComponentTypes,
        ty: InterfaceType,
    ) -> Result<(Chosen, &'t VariantInfo)> {
        Ok(match ty {
            InterfaceType::Option(index) => {
                let inner = types[index].ty;
                let chosen = match self.null()? {
                    true => Chosen { discriminant: 0, payload: None, wrapped: false },
                    false => {
                        let wrapped = matches!(inner, InterfaceType::Option(_));
                        Chosen { discriminant: 1, payload: Some(inner), wrapped }
                    }
                };
                (chosen, &types[index].info)
            }
            InterfaceType::Result(index) => {
                let result = &types[index];
                self.entries(1)?;
                let (discriminant, payload) = match self.reader.read_text()? {
                    "ok" => (0, result.ok),
                    "err" => (1, result.err),
                    _ => return Err(mismatch("`ok` or `err`")),
                };
                if payload.is_none() && !self.null()? {
                    return Err(mismatch("null"));
                }
                (Chosen { discriminant, payload, wrapped: false }, &result.info)
            }
            InterfaceType::Variant(index) => {
                let variant = &types[index];
                let carries = self.at_map();
                if carries {
                    self.entries(1)?;
                }
                let label = self.reader.read_text()?;
                let found = variant.cases.get_full(label);
                let (case, _, payload) = found.ok_or_else(|| mismatch("a case of the variant"))?;
                if payload.is_some() != carries {
                    return Err(mismatch("a payload exactly where the case has one"));
                }
                (
                    Chosen {
                        discriminant: u32::try_from(case)?,
                        payload: *payload,
                        wrapped: false,
                    },
                    &variant.info,
                )
            }
            InterfaceType::Enum(index) => {
                let label = self.reader.read_text()?;
                let found = types[index].names.get_index_of(label);
                let case = found.ok_or_else(|| mismatch("a label of the enum"))?;
                (
                    Chosen { discriminant: u32::try_from(case)?, payload: None, wrapped: false },
                    &types[index].info,
                )
            }
            _ => return Err(mismatch("a value type")),
        })
    }

    fn payload(
        &mut self,
        chosen: &Chosen,
        write: impl FnOnce(&mut Self, InterfaceType) -> Result<()>,
    ) -> Result<()> {
        let Some(payload) = chosen.payload else { return Ok(()) };
        if chosen.wrapped {
            self.elements(1)?;
        }
        write(self, payload)
    }

    /// Reads the labels that are set, as the bits of 32-bit words.
    fn flags<'n>(
        &mut self,
        names: impl ExactSizeIterator<Item = &'n str> + Clone,
    ) -> Result<impl Iterator<Item = u32>> {
        let mut words = vec![0_u32; names.len().div_ceil(32)];
        for _ in 0..self.reader.read_array()? {
            let label = self.reader.read_text()?;
            let bit = names
                .clone()
                .position(|name| name == label)
                .ok_or_else(|| mismatch("a known flag"))?;
            words[bit / 32] |= 1 << (bit % 32);
        }
        Ok(words.into_iter())
    }

    /// Whether a map comes next.
    fn at_map(&self) -> bool {
        self.reader.peek().is_some_and(|byte| byte >> 5 == 5)
    }

    /// Reads a null if one comes next.
    fn null(&mut self) -> Result<bool> {
        let null = self.reader.at_null();
        if null {
            self.reader.read_null()?;
        }
        Ok(null)
    }

    fn entries(&mut self, count: usize) -> Result<()> {
        if self.reader.read_map()? == count { Ok(()) } else { Err(mismatch("every field once")) }
    }

    fn elements(&mut self, count: usize) -> Result<()> {
        if self.reader.read_array()? == count {
            Ok(())
        } else {
            Err(mismatch("an array of its length"))
        }
    }

    fn key(&mut self, name: &str) -> Result<()> {
        if self.reader.read_text()? == name {
            Ok(())
        } else {
            Err(mismatch("fields in canonical order"))
        }
    }
}

/// The bytes are not what was checked: a mistake of the host, never of the guest.
fn mismatch(expected: &str) -> wasmtime::Error {
    crate::limit::Stop::new(
        omniq_model::Kind::Host,
        format!("the checked arguments are not canonical: expected {expected}"),
    )
    .into()
}
