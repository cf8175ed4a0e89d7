//! Laws of the mapping, on random types and values.

use std::borrow::Cow;

use ciborium::Value;
use omniq_model::wit::{Case, Field, Signature, Type};
use proptest::collection::vec;
use proptest::prelude::*;

use super::arbitrary::{encoded, entries, signature, typed, value};
use super::cbor::{Head, Major, Writer, canonicalize};
use super::{Bounds, args, json, wave};

const BOUNDS: Bounds = Bounds { depth: 64, items: 100_000, bytes: 1 << 20 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn canonical_cbor_is_what_ciborium_writes_and_stays_as_it_is((ty, _, canonical) in typed()) {
        prop_assert_eq!(canonicalize(&ty, &canonical, &BOUNDS).unwrap(), canonical);
    }

    #[test]
    fn every_encoding_of_a_value_has_one_canonical_form(
        (ty, value, canonical) in typed(),
        noise in vec(any::<u8>(), 1..64),
    ) {
        let mut noisy = Noisy { out: Writer::default(), noise: &noise, at: 0 };
        noisy.value(&ty, &value);
        let noisy = noisy.out.into_bytes();
        prop_assert_eq!(canonicalize(&ty, &noisy, &BOUNDS).unwrap(), canonical);
    }

    #[test]
    fn json_keeps_every_value((ty, _, canonical) in typed()) {
        let text = json::write(&ty, &canonical).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        prop_assert_eq!(json::read(&ty, text.as_bytes(), &BOUNDS).unwrap(), canonical, "{}", text);
    }

    #[test]
    fn wave_keeps_every_value((ty, _, canonical) in typed()) {
        let text = wave::write(&ty, &canonical).unwrap();
        prop_assert_eq!(wave::read(&ty, &text, &BOUNDS).unwrap(), canonical, "{}", text);
    }

    #[test]
    fn wasm_wave_reads_and_writes_the_same_values((ty, _, canonical) in typed()) {
        let text = wave::write(&ty, &canonical).unwrap();
        let theirs: wasm_wave::value::Value = wasm_wave::from_str(&foreign(&ty), &text).unwrap();
        let text = wasm_wave::to_string(&theirs).unwrap();
        prop_assert_eq!(wave::read(&ty, &text, &BOUNDS).unwrap(), canonical, "{}", text);
    }

    #[test]
    fn a_value_cut_short_is_refused((ty, _, canonical) in typed()) {
        for end in 0..canonical.len() {
            prop_assert!(canonicalize(&ty, &canonical[..end], &BOUNDS).is_err());
            prop_assert!(json::write(&ty, &canonical[..end]).is_err());
            prop_assert!(wave::write(&ty, &canonical[..end]).is_err());
        }
    }

    #[test]
    fn damaged_input_is_refused_or_is_another_value(
        (ty, _, mut canonical) in typed(),
        (at, to) in (any::<prop::sample::Index>(), any::<u8>()),
    ) {
        let at = at.index(canonical.len());
        canonical[at] = to;
        let printed = (json::write(&ty, &canonical), wave::write(&ty, &canonical));
        if let Ok(again) = canonicalize(&ty, &canonical, &BOUNDS) {
            prop_assert_eq!(canonicalize(&ty, &again, &BOUNDS).unwrap(), again.clone());
            let text = json::write(&ty, &again).unwrap();
            prop_assert_eq!(json::read(&ty, text.as_bytes(), &BOUNDS).unwrap(), again);
        }
        drop(printed);
    }

    #[test]
    fn bounds_of_what_a_value_needs_suffice_and_one_less_does_not((ty, _, canonical) in typed()) {
        let bounds = |bytes| Bounds { bytes, ..BOUNDS };
        let text = json::write(&ty, &canonical).unwrap();
        prop_assert!(json::read(&ty, text.as_bytes(), &bounds(canonical.len())).is_ok());
        let error = json::read(&ty, text.as_bytes(), &bounds(canonical.len() - 1)).unwrap_err();
        prop_assert!(error.is_too_large(), "{}", error);
        let error = canonicalize(&ty, &canonical, &bounds(canonical.len() - 1)).unwrap_err();
        prop_assert!(error.is_too_large(), "{}", error);
    }

    #[test]
    fn canonical_arguments_are_recognised_and_nothing_else_is(
        (ty, _, canonical) in typed(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let params = vec![Field { name: "x".to_owned(), ty }];
        let signature = Signature { params, result: None, is_async: false };
        let bounds = Bounds::default();
        let mut input = [b"\xa1\x61x", &canonical[..]].concat();
        let whole = args::check_cbor(&signature, &input, &bounds).unwrap();
        prop_assert!(matches!(whole, Cow::Borrowed(_)));
        // What passes as canonical is what would be made of it.
        let at = at.index(input.len());
        input[at] = byte;
        if let Ok(Cow::Borrowed(same)) = args::check_cbor(&signature, &input, &bounds) {
            prop_assert_eq!(args::from_cbor(&signature, same, &bounds).unwrap(), same);
        }
    }

    #[test]
    fn arguments_are_the_same_by_position_and_by_name(
        (signature, map) in signature().prop_flat_map(|signature| {
            let values = entries(&signature.params);
            (Just(signature), values)
        }),
    ) {
        let canonical = encoded(&map);
        let array = Value::Array(
            signature.params.iter().map(|param| entry(&map, &param.name).clone()).collect(),
        );
        prop_assert_eq!(args::from_cbor(&signature, &canonical, &BOUNDS).unwrap(), canonical.clone());
        prop_assert_eq!(args::from_cbor(&signature, &encoded(&array), &BOUNDS).unwrap(), canonical.clone());

        let text = args::to_json(&signature, &canonical).unwrap();
        prop_assert_eq!(args::from_json(&signature, text.as_bytes(), &BOUNDS).unwrap(), canonical.clone());
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(object.as_object().unwrap().len(), signature.params.len());

        let words: Vec<String> = signature
            .params
            .iter()
            .map(|Field { name, ty }| format!("{name}={}", wave::write(ty, &encoded(entry(&map, name))).unwrap()))
            .collect();
        let read = args::from_words(&signature, &words, &mut |_| unreachable!("no word names a file"), &BOUNDS);
        prop_assert_eq!(read.unwrap(), canonical);
    }

    #[test]
    fn a_value_of_another_type_is_refused_or_kept(
        (_, _, canonical) in typed(),
        ty in super::arbitrary::ty(),
    ) {
        if let Ok(kept) = canonicalize(&ty, &canonical, &BOUNDS) {
            let text = json::write(&ty, &kept).unwrap();
            prop_assert_eq!(json::read(&ty, text.as_bytes(), &BOUNDS).unwrap(), kept);
        }
    }

    #[test]
    fn text_of_any_kind_is_refused_or_kept(ty in super::arbitrary::ty(), text in "[\\[\\]{}(),:\"'a-c0-9%. enusom-]{0,40}") {
        for canonical in [json::read(&ty, text.as_bytes(), &BOUNDS), wave::read(&ty, &text, &BOUNDS)].into_iter().flatten() {
            prop_assert_eq!(canonicalize(&ty, &canonical, &BOUNDS).unwrap(), canonical);
        }
    }

    #[test]
    fn f32_and_f64_take_the_fewest_bytes_that_are_exact(bits in any::<u32>(), wide in any::<u64>()) {
        let (single, double) = (f32::from_bits(bits), f64::from_bits(wide));
        for float in [f64::from(single), double] {
            let mut ours = Writer::default();
            ours.f64(float);
            let float = if float.is_nan() { f64::NAN } else { float };
            prop_assert_eq!(ours.into_bytes(), encoded(&Value::Float(float)));
        }
    }
}

#[test]
fn every_half_float_is_read_and_written_exactly() {
    for bits in 0..=u16::MAX {
        let mut item = vec![0xf9];
        item.extend(bits.to_be_bytes());
        let kept = canonicalize(&Type::F32, &item, &BOUNDS).unwrap();
        let is_nan = bits & 0x7c00 == 0x7c00 && bits & 0x03ff != 0;
        assert_eq!(kept, if is_nan { vec![0xf9, 0x7e, 0x00] } else { item });
    }
}

#[test]
fn the_generator_makes_values_of_its_types() {
    let ty = Type::Option(Type::Option(Type::Bool.into()).into());
    proptest!(|(value in value(&ty))| {
        prop_assert!(matches!(value, Value::Null | Value::Array(_)));
    });
}

fn entry<'v>(map: &'v Value, name: &str) -> &'v Value {
    let entries = map.as_map().unwrap();
    &entries.iter().find(|(key, _)| key.as_text() == Some(name)).unwrap().1
}

/// Writes a value in one of the many ways that mean the same; `noise` decides.
struct Noisy<'n> {
    out: Writer,
    noise: &'n [u8],
    at: usize,
}

impl Noisy<'_> {
    fn choose(&mut self, ways: u8) -> u8 {
        self.at += 1;
        self.noise[self.at % self.noise.len()].wrapping_add((self.at / self.noise.len()) as u8)
            % ways
    }

    /// A head whose argument takes more bytes than it needs, or its shortest form.
    fn head(&mut self, major: Major, argument: u64) {
        let first = (major as u8) << 5;
        let choice = self.choose(8);
        let out = self.out.buffer();
        match choice {
            0 => {
                out.push(first | 27);
                out.extend(argument.to_be_bytes());
            }
            1 if argument <= u64::from(u32::MAX) => {
                out.push(first | 26);
                out.extend((argument as u32).to_be_bytes());
            }
            2 if argument <= 0xffff => {
                out.push(first | 25);
                out.extend((argument as u16).to_be_bytes());
            }
            _ => self.out.head(major, argument),
        }
    }

    fn indefinite(&mut self, major: Major) {
        self.out.buffer().push((major as u8) << 5 | Head::INDEFINITE);
    }

    fn stop(&mut self) {
        self.out.buffer().push(0xff);
    }

    fn text(&mut self, text: &str) {
        if self.choose(3) > 0 {
            self.head(Major::Text, text.len() as u64);
            self.out.buffer().extend_from_slice(text.as_bytes());
            return;
        }
        self.indefinite(Major::Text);
        for char in text.chars() {
            let mut bytes = [0; 4];
            let chunk = char.encode_utf8(&mut bytes).as_bytes();
            self.head(Major::Text, chunk.len() as u64);
            self.out.buffer().extend_from_slice(chunk);
        }
        self.stop();
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.choose(4) {
            0 => {
                self.indefinite(Major::Bytes);
                for chunk in bytes.chunks(3) {
                    self.head(Major::Bytes, chunk.len() as u64);
                    self.out.buffer().extend_from_slice(chunk);
                }
                self.stop();
            }
            1 => {
                let items: Vec<Value> =
                    bytes.iter().map(|&byte| Value::Integer(byte.into())).collect();
                self.array(items.len(), |noisy, at| noisy.value(&Type::U8, &items[at]));
            }
            _ => {
                self.head(Major::Bytes, bytes.len() as u64);
                self.out.buffer().extend_from_slice(bytes);
            }
        }
    }

    fn array(&mut self, length: usize, mut item: impl FnMut(&mut Self, usize)) {
        let indefinite = self.choose(3) == 0;
        if indefinite {
            self.indefinite(Major::Array)
        } else {
            self.head(Major::Array, length as u64)
        }
        for index in 0..length {
            item(self, index);
        }
        if indefinite {
            self.stop();
        }
    }

    fn float(&mut self, float: f64) {
        let is_integer = float.fract() == 0.0
            && float.abs() < 1e15
            && !(float == 0.0 && float.is_sign_negative());
        match self.choose(3) {
            0 if is_integer && float >= 0.0 => self.head(Major::Unsigned, float as u64),
            0 if is_integer => self.head(Major::Negative, (-1.0 - float) as u64),
            1 => {
                let bits = if float.is_nan() { 0xfff0_0000_dead_beef } else { float.to_bits() };
                self.out.buffer().push(0xfb);
                self.out.buffer().extend(bits.to_be_bytes());
            }
            _ => self.out.f64(float),
        }
    }

    fn value(&mut self, ty: &Type, value: &Value) {
        if self.choose(8) == 0 {
            self.head(Major::Tag, 55799);
        }
        match (ty, value) {
            (Type::Option(_), Value::Null) => self.out.null(),
            (Type::Option(inner), Value::Array(items)) if matches!(**inner, Type::Option(_)) => {
                self.array(1, |noisy, _| noisy.value(inner, &items[0]));
            }
            (Type::Option(inner), value) => self.value(inner, value),
            (Type::Record(record), Value::Map(entries)) => self.record(&record.fields, entries),
            (Type::Variant(variant), Value::Map(entries)) => {
                let (label, payload) = &entries[0];
                let Case { name, ty } =
                    variant.cases.iter().find(|case| label.as_text() == Some(&case.name)).unwrap();
                self.one_entry(name, |noisy| noisy.value(ty.as_ref().unwrap(), payload));
            }
            (Type::Result(result), Value::Map(entries)) => {
                let (label, payload) = &entries[0];
                let label = label.as_text().unwrap();
                let ty = if label == "ok" { &result.ok } else { &result.err };
                self.one_entry(label, |noisy| match ty {
                    Some(ty) => noisy.value(ty, payload),
                    None => noisy.out.null(),
                });
            }
            (Type::List(element), Value::Array(items)) => {
                self.array(items.len(), |noisy, at| noisy.value(element, &items[at]));
            }
            (Type::Tuple(types), Value::Array(items)) => {
                self.array(items.len(), |noisy, at| noisy.value(&types[at], &items[at]));
            }
            (Type::Flags(_), Value::Array(labels)) => {
                let last = labels.len().wrapping_sub(1);
                self.array(labels.len(), |noisy, at| {
                    noisy.text(labels[last - at].as_text().unwrap())
                });
            }
            (_, Value::Text(text)) => self.text(text),
            (_, Value::Bytes(bytes)) => self.bytes(bytes),
            (_, Value::Float(float)) => self.float(*float),
            (_, Value::Bool(bool)) => self.out.bool(*bool),
            (_, Value::Integer(int)) => match u64::try_from(*int) {
                Ok(int) => self.head(Major::Unsigned, int),
                Err(_) => self.head(Major::Negative, (-1 - i128::from(*int)) as u64),
            },
            (ty, value) => unreachable!("{value:?} is no {ty}"),
        }
    }

    /// Fields from the last to the first, absent options left out.
    fn record(&mut self, fields: &[Field], entries: &[(Value, Value)]) {
        let field =
            |key: &Value| fields.iter().find(|field| key.as_text() == Some(&field.name)).unwrap();
        let mut given: Vec<&(Value, Value)> = entries
            .iter()
            .filter(|(key, value)| {
                let absent = *value == Value::Null && matches!(field(key).ty, Type::Option(_));
                !absent || self.choose(2) == 0
            })
            .collect();
        let turn = usize::from(self.choose(8)) % given.len().max(1);
        given.rotate_left(turn);
        if self.choose(2) == 0 {
            given.reverse();
        }
        let indefinite = self.choose(3) == 0;
        if indefinite {
            self.indefinite(Major::Map)
        } else {
            self.head(Major::Map, given.len() as u64)
        }
        for (key, value) in given {
            self.text(key.as_text().unwrap());
            self.value(&field(key).ty, value);
        }
        if indefinite {
            self.stop();
        }
    }

    fn one_entry(&mut self, label: &str, payload: impl FnOnce(&mut Self)) {
        let indefinite = self.choose(3) == 0;
        if indefinite {
            self.indefinite(Major::Map)
        } else {
            self.head(Major::Map, 1)
        }
        self.text(label);
        payload(self);
        if indefinite {
            self.stop();
        }
    }
}

/// The type as `wasm-wave` has it.
fn foreign(ty: &Type) -> wasm_wave::value::Type {
    use wasm_wave::value::Type as Foreign;
    match ty {
        Type::Bool => Foreign::BOOL,
        Type::U8 => Foreign::U8,
        Type::U16 => Foreign::U16,
        Type::U32 => Foreign::U32,
        Type::U64 => Foreign::U64,
        Type::S8 => Foreign::S8,
        Type::S16 => Foreign::S16,
        Type::S32 => Foreign::S32,
        Type::S64 => Foreign::S64,
        Type::F32 => Foreign::F32,
        Type::F64 => Foreign::F64,
        Type::Char => Foreign::CHAR,
        Type::String => Foreign::STRING,
        Type::List(element) => Foreign::list(foreign(element)),
        Type::Tuple(types) => {
            Foreign::tuple(types.iter().map(foreign).collect::<Vec<_>>()).unwrap()
        }
        Type::Record(record) => {
            Foreign::record(record.fields.iter().map(|field| (&*field.name, foreign(&field.ty))))
                .unwrap()
        }
        Type::Variant(variant) => {
            let cases =
                variant.cases.iter().map(|case| (&*case.name, case.ty.as_ref().map(foreign)));
            Foreign::variant(cases).unwrap()
        }
        Type::Enum(labels) => Foreign::enum_ty(labels.labels.iter().map(|label| &**label)).unwrap(),
        Type::Flags(labels) => Foreign::flags(labels.labels.iter().map(|label| &**label)).unwrap(),
        Type::Option(inner) => Foreign::option(foreign(inner)),
        Type::Result(result) => {
            Foreign::result(result.ok.as_ref().map(foreign), result.err.as_ref().map(foreign))
        }
    }
}
