//! Reads JSON: a type says what is next, and a visitor writes it to the output.

use std::fmt;

use omniq_model::wit::{Field, ResultType, Type, Variant};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::scalar::{base64, float, integer};
use crate::value::cbor::Major;
use crate::value::error::{Noun, quoted, shown};
use crate::value::names::nearest;
use crate::value::sink::{Record, Sink};
use crate::value::{Bounds, Error};

/// Reads JSON text as what `target` asks for.
pub(super) fn parse(text: &[u8], bounds: &Bounds, target: Target<'_>) -> Result<Vec<u8>, Error> {
    let text = std::str::from_utf8(text).map_err(|error| Error::malformed("JSON", error))?;
    let mut state = State { sink: Sink::new(bounds, text.len()), fault: None };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Seed { state: &mut state, target }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    match (parsed, state.fault) {
        (Ok(()), _) => state.sink.finish(),
        (Err(_), Some(fault)) => Err(fault),
        (Err(error), None) => Err(Error::malformed("JSON", error)),
    }
}

/// The output, and the error that made the parser stop: serde's own errors carry text only.
struct State<'t> {
    sink: Sink<'t>,
    fault: Option<Error>,
}

impl State<'_> {
    /// Keeps `fault` and gives the parser an error to stop with.
    #[cold]
    fn stop<E: serde::de::Error>(&mut self, fault: Error) -> E {
        self.fault = Some(fault);
        E::custom("stopped")
    }

    /// Passes on what a step of the output gave.
    #[inline]
    fn keep<T, E: serde::de::Error>(&mut self, result: Result<T, Error>) -> Result<T, E> {
        result.map_err(|fault| self.stop(fault))
    }

    /// Adds the place to an error on its way out.
    #[cold]
    fn trace(&mut self, place: impl FnOnce(Error) -> Error) {
        self.fault = self.fault.take().map(place);
    }
}

/// What is to be read next.
#[derive(Clone, Copy)]
pub(super) enum Target<'t> {
    Value(&'t Type),
    /// The option inside an option, in its array of one.
    Wrapped(&'t Type),
    Args(&'t [Field]),
}

struct Seed<'s, 't> {
    state: &'s mut State<'t>,
    target: Target<'t>,
}

impl<'s, 't> Seed<'s, 't> {
    fn value(state: &'s mut State<'t>, ty: &'t Type) -> Self {
        Self { state, target: Target::Value(ty) }
    }

    #[cold]
    fn mismatch<E: serde::de::Error>(self, got: impl Into<String>) -> E {
        let error = match self.target {
            Target::Value(ty) if ty.is_bytes() => {
                Error::expected(format!("{ty} (base64 text or an array of bytes)"), got)
            }
            Target::Value(ty) => Error::mismatch(ty, got),
            Target::Wrapped(ty) => {
                Error::expected(format!("null or an array of one {}", shown(&ty.to_string())), got)
            }
            Target::Args(_) => {
                Error::expected("an array of arguments or an object of them by name", got)
            }
        };
        self.state.stop(error)
    }

    /// Writes a number from its text, which is not rounded on the way.
    fn number<E: serde::de::Error>(self, ty: &Type, token: &str) -> Result<(), E> {
        if let Type::F32 | Type::F64 = ty {
            return match float(ty, token) {
                Some(value) => {
                    let written = self.state.sink.float(ty, value);
                    self.state.keep(written)
                }
                None => Err(self.mismatch(shown(token))),
            };
        }
        match integer(token, matches!(ty, Type::U64 | Type::S64)) {
            Some(value) => {
                let written = self.state.sink.int(ty, value);
                self.state.keep(written)
            }
            None => Err(self.mismatch(shown(token))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Target::Value(ty) = self.target else { return deserializer.deserialize_any(self) };
        let entered = self.state.sink.enter();
        self.state.keep(entered)?;
        match ty {
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::S8
            | Type::S16
            | Type::S32
            | Type::S64
            | Type::F32
            | Type::F64 => {
                let token = <&RawValue as serde::Deserialize>::deserialize(deserializer)?;
                Seed::value(self.state, ty).number(ty, token.get())?;
            }
            Type::Option(_) => deserializer.deserialize_option(Seed::value(self.state, ty))?,
            _ => deserializer.deserialize_any(Seed::value(self.state, ty))?,
        }
        self.state.sink.leave();
        Ok(())
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.target {
            Target::Value(Type::Bool) => {
                self.state.sink.out.bool(value);
                Ok(())
            }
            _ => Err(self.mismatch(value.to_string())),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        Err(self.mismatch(value.to_string()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        Err(self.mismatch(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        Err(self.mismatch(format!("{value:?}")))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.mismatch("null"))
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.state.sink.out.null();
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.target {
            Target::Value(Type::Option(inner)) if matches!(**inner, Type::Option(_)) => {
                Seed { state: self.state, target: Target::Wrapped(inner) }.deserialize(deserializer)
            }
            Target::Value(Type::Option(inner)) => {
                Seed::value(self.state, inner).deserialize(deserializer)
            }
            _ => Err(self.mismatch("an option")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let sink = &mut self.state.sink;
        let written = match self.target {
            Target::Value(Type::String) => sink.text(text),
            Target::Value(Type::Char) => sink.char(text),
            Target::Value(ty @ Type::Enum(labels)) => sink.label(ty, labels, text),
            Target::Value(ty @ Type::Variant(variant)) => {
                case(sink, ty, variant, text, false).map(|_| ())
            }
            Target::Value(ty) if ty.is_bytes() => match base64(sink, text) {
                Some(written) => written,
                None => return Err(self.mismatch(quoted(text))),
            },
            _ => return Err(self.mismatch(quoted(text))),
        };
        self.state.keep(written)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        match self.target {
            Target::Value(ty) if ty.is_bytes() => bytes(self.state, items),
            Target::Value(Type::List(element)) => list(self.state, element, items),
            Target::Value(ty @ Type::Tuple(types)) => tuple(self.state, ty, types, items),
            Target::Value(ty @ Type::Flags(_)) => flags(self.state, ty, items),
            Target::Wrapped(inner) => tuple(self.state, inner, std::slice::from_ref(inner), items),
            Target::Args(params) => positional(self.state, params, items),
            Target::Value(_) => Err(self.mismatch("an array")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<(), A::Error> {
        match self.target {
            Target::Value(Type::Record(fields)) => {
                record(self.state, &fields.fields, Noun::Field, entries)
            }
            Target::Args(params) => record(self.state, params, Noun::Argument, entries),
            Target::Value(ty @ Type::Variant(variant)) => {
                self::variant(self.state, ty, variant, entries)
            }
            Target::Value(ty @ Type::Result(sides)) => result(self.state, ty, sides, entries),
            Target::Value(_) | Target::Wrapped(_) => Err(self.mismatch("an object")),
        }
    }
}

fn list<'de, 't, A: SeqAccess<'de>>(
    state: &mut State<'t>,
    element: &'t Type,
    mut items: A,
) -> Result<(), A::Error> {
    let open = state.sink.open();
    let mut length = 0;
    while next(state, element, length, &mut items)? {
        length += 1;
    }
    state.sink.close(open, Major::Array, length);
    Ok(())
}

/// Reads element `index`, if there is one more.
fn next<'de, 't, A: SeqAccess<'de>>(
    state: &mut State<'t>,
    ty: &'t Type,
    index: usize,
    items: &mut A,
) -> Result<bool, A::Error> {
    let read = items.next_element_seed(Seed::value(state, ty));
    read.map(|read| read.is_some()).inspect_err(|_| state.trace(|fault| fault.at(index)))
}

fn tuple<'de, 't, A: SeqAccess<'de>>(
    state: &mut State<'t>,
    ty: &Type,
    types: &'t [Type],
    mut items: A,
) -> Result<(), A::Error> {
    state.sink.out.array(types.len());
    for (index, part) in types.iter().enumerate() {
        if !next(state, part, index, &mut items)? {
            return Err(state.stop(Error::mismatch(ty, format!("an array of {index}"))));
        }
    }
    match count(items)? {
        0 => Ok(()),
        more => Err(state.stop(Error::mismatch(ty, format!("an array of {}", types.len() + more)))),
    }
}

/// How many elements are left; they are read as any JSON.
fn count<'de, A: SeqAccess<'de>>(mut items: A) -> Result<usize, A::Error> {
    let mut count = 0;
    while items.next_element::<IgnoredAny>()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Reads an array of integers as bytes.
fn bytes<'de, A: SeqAccess<'de>>(state: &mut State<'_>, mut items: A) -> Result<(), A::Error> {
    let open = state.sink.open();
    let mut length = 0;
    while let Some(token) = items.next_element::<&RawValue>()? {
        let byte = integer(token.get(), false).and_then(|byte| u8::try_from(byte).ok());
        let byte = byte.ok_or_else(|| Error::mismatch(&Type::U8, shown(token.get())).at(length));
        let byte = state.keep(byte)?;
        let room = state.sink.room(1);
        state.keep(room)?;
        state.sink.out.buffer().push(byte);
        length += 1;
    }
    state.sink.close(open, Major::Bytes, length);
    Ok(())
}

fn flags<'de, 't, A: SeqAccess<'de>>(
    state: &mut State<'t>,
    ty: &'t Type,
    mut items: A,
) -> Result<(), A::Error> {
    let Type::Flags(labels) = ty else { return Err(A::Error::custom("flags")) };
    let mut chosen = Vec::new();
    loop {
        let index = chosen.len();
        let mut found = None;
        let take = |sink: &mut Sink<'t>, label: &str| {
            found = Some(sink.flag(ty, labels, label)?);
            Ok(())
        };
        let more = items.next_element_seed(Label { state, ty, take });
        let more = more.inspect_err(|_| state.trace(|fault| fault.at(index)))?;
        // One more than there are is enough to know that one came twice.
        if more.is_none() || index > labels.labels.len() {
            break;
        }
        chosen.extend(found);
    }
    let written = state.sink.flags(labels, &mut chosen);
    state.keep(written)
}

fn positional<'de, 't, A: SeqAccess<'de>>(
    state: &mut State<'t>,
    params: &'t [Field],
    mut items: A,
) -> Result<(), A::Error> {
    let mut record = state.sink.open_record(params, Noun::Argument);
    for (index, param) in params.iter().enumerate() {
        let argument = Argument { state, record: &mut record, index, ty: &param.ty };
        let read = items.next_element_seed(argument);
        if read.inspect_err(|_| state.trace(|fault| fault.within(&param.name)))?.is_none() {
            let closed = state.sink.close_args(&record, index);
            return state.keep(closed);
        }
    }
    let more = count(items)?;
    let closed = state.sink.close_args(&record, params.len() + more);
    state.keep(closed)
}

fn record<'de, 't, A: MapAccess<'de>>(
    state: &mut State<'t>,
    fields: &'t [Field],
    noun: Noun,
    mut entries: A,
) -> Result<(), A::Error> {
    let mut record = state.sink.open_record(fields, noun);
    while let Some(field) = entries.next_key_seed(Key { state, record: &mut record })? {
        let Field { name, ty } = &fields[field];
        let read = entries.next_value_seed(Seed::value(state, ty));
        read.inspect_err(|_| state.trace(|fault| fault.within(name)))?;
    }
    let closed = state.sink.close_record(&record);
    state.keep(closed)
}

fn variant<'de, 't, A: MapAccess<'de>>(
    state: &mut State<'t>,
    ty: &'t Type,
    variant: &'t Variant,
    mut entries: A,
) -> Result<(), A::Error> {
    let mut found = None;
    let take = |sink: &mut Sink<'t>, label: &str| {
        found = case(sink, ty, variant, label, true)?;
        Ok(())
    };
    entries.next_key_seed(Label { state, ty, take })?;
    let Some((name, payload)) = found else {
        return Err(state.stop(Error::mismatch(ty, "an empty object")));
    };
    let read = entries.next_value_seed(Seed::value(state, payload));
    read.inspect_err(|_| state.trace(|fault| fault.within(name)))?;
    only_one(state, ty, entries)
}

/// Writes the start of the case `label`: all of it where it has no payload, else its key; the payload must follow.
fn case<'t>(
    sink: &mut Sink<'t>,
    ty: &Type,
    variant: &'t Variant,
    label: &str,
    with_payload: bool,
) -> Result<Option<(&'t str, &'t Type)>, Error> {
    let Some(at) = sink.names.find(&variant.cases, label) else {
        return Err(Error::unknown_label(ty, label, nearest(&variant.cases, label)));
    };
    let name = &variant.cases[at].name;
    match &variant.cases[at].ty {
        None if with_payload => {
            Err(Error::expected(format!("{} without a payload", quoted(name)), "an object"))
        }
        Some(payload) if !with_payload => {
            let payload = shown(&payload.to_string());
            Err(Error::expected(format!("{{{}: {payload}}}", quoted(name)), quoted(name)))
        }
        payload => {
            if with_payload {
                sink.out.map(1);
            }
            sink.text(name)?;
            Ok(payload.as_ref().map(|payload| (&**name, payload)))
        }
    }
}

fn result<'de, 't, A: MapAccess<'de>>(
    state: &mut State<'t>,
    ty: &'t Type,
    sides: &'t ResultType,
    mut entries: A,
) -> Result<(), A::Error> {
    let mut found = None;
    let take = |sink: &mut Sink<'t>, label: &str| {
        found = match label {
            "ok" => Some(("ok", &sides.ok)),
            "err" => Some(("err", &sides.err)),
            _ => {
                return Err(Error::mismatch(
                    ty,
                    format!("an object with the key {}", quoted(label)),
                ));
            }
        };
        sink.out.map(1);
        sink.text(label)
    };
    entries.next_key_seed(Label { state, ty, take })?;
    let Some((label, payload)) = found else {
        return Err(state.stop(Error::mismatch(ty, "an empty object")));
    };
    match payload {
        Some(payload) => {
            let read = entries.next_value_seed(Seed::value(state, payload));
            read.inspect_err(|_| state.trace(|fault| fault.within(label)))?;
        }
        None => {
            let token = entries.next_value::<&RawValue>()?.get();
            if token != "null" {
                return Err(state
                    .stop(Error::expected("null, as it has no type", shown(token)).within(label)));
            }
            state.sink.out.null();
        }
    }
    only_one(state, ty, entries)
}

/// Checks that an object has no second entry.
fn only_one<'de, A: MapAccess<'de>>(
    state: &mut State<'_>,
    ty: &Type,
    mut entries: A,
) -> Result<(), A::Error> {
    match entries.next_key::<IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(state.stop(Error::mismatch(ty, "an object of more than one entry"))),
    }
}

/// An argument given by position.
struct Argument<'s, 't> {
    state: &'s mut State<'t>,
    record: &'s mut Record<'t>,
    index: usize,
    ty: &'t Type,
}

impl<'de> DeserializeSeed<'de> for Argument<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let key = self.state.sink.key(self.record, self.index);
        self.state.keep(key)?;
        Seed::value(self.state, self.ty).deserialize(deserializer)
    }
}

/// The key of a field.
struct Key<'s, 't> {
    state: &'s mut State<'t>,
    record: &'s mut Record<'t>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<usize, E> {
        let sink = &mut self.state.sink;
        let written = sink.find_field(self.record, key);
        let written = written.and_then(|field| sink.key(self.record, field).map(|()| field));
        self.state.keep(written)
    }
}

/// The name of a case or flag, given to `take`.
struct Label<'s, 't, F> {
    state: &'s mut State<'t>,
    ty: &'t Type,
    take: F,
}

impl<'de, 't, F: FnOnce(&mut Sink<'t>, &str) -> Result<(), Error>> DeserializeSeed<'de>
    for Label<'_, 't, F>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t, F: FnOnce(&mut Sink<'t>, &str) -> Result<(), Error>> Label<'_, 't, F> {
    fn mismatch<E: serde::de::Error>(self, got: impl Into<String>) -> E {
        self.state.stop(Error::mismatch(self.ty, got))
    }
}

impl<'de, 't, F: FnOnce(&mut Sink<'t>, &str) -> Result<(), Error>> Visitor<'de>
    for Label<'_, 't, F>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a label")
    }

    fn visit_str<E: serde::de::Error>(self, label: &str) -> Result<(), E> {
        let taken = (self.take)(&mut self.state.sink, label);
        self.state.keep(taken)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        Err(self.mismatch(value.to_string()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        Err(self.mismatch(value.to_string()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        Err(self.mismatch(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        Err(self.mismatch(format!("{value:?}")))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.mismatch("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.mismatch("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.mismatch("an object"))
    }
}
