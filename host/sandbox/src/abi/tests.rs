//! The direct calls against the engine's own dynamic ones: for random types and values, what one writes the other reads.

use std::fmt::Write as _;

use ciborium::Value;
use omniq_model::wit::Type;
use proptest::prelude::*;
use wasmtime::component::{Component, Func, Instance, Linker, Val};
use wasmtime::{Config, Engine, Store};

use super::{Args, Arity, call, call_async};
use crate::value::arbitrary::{encoded, typed};

/// Parameters beside the value, so that there are more than a function takes directly and all go through memory.
const PADDING: usize = 17;

/// Writes types in the component model's text form; named ones get a declaration, and an export as is their rule.
#[derive(Default)]
struct Text {
    declarations: String,
    count: usize,
}

impl Text {
    fn ty(&mut self, ty: &Type) -> String {
        match ty {
            Type::List(element) => format!("(list {})", self.ty(element)),
            Type::Option(inner) => format!("(option {})", self.ty(inner)),
            Type::Tuple(types) => {
                let types: Vec<_> = types.iter().map(|ty| self.ty(ty)).collect();
                format!("(tuple {})", types.join(" "))
            }
            Type::Result(sides) => {
                let ok = sides.ok.as_ref().map(|ty| self.ty(ty)).unwrap_or_default();
                let err = sides
                    .err
                    .as_ref()
                    .map(|ty| format!("(error {})", self.ty(ty)))
                    .unwrap_or_default();
                format!("(result {ok} {err})")
            }
            Type::Record(record) => {
                let mut text = String::from("(record");
                for field in &record.fields {
                    let ty = self.ty(&field.ty);
                    write!(text, " (field \"{}\" {ty})", field.name).unwrap();
                }
                self.declare(&(text + ")"))
            }
            Type::Variant(variant) => {
                let mut text = String::from("(variant");
                for case in &variant.cases {
                    let ty = case.ty.as_ref().map(|ty| self.ty(ty)).unwrap_or_default();
                    write!(text, " (case \"{}\" {ty})", case.name).unwrap();
                }
                self.declare(&(text + ")"))
            }
            Type::Enum(labels) => self.declare(&format!("(enum {})", quoted(&labels.labels))),
            Type::Flags(labels) => self.declare(&format!("(flags {})", quoted(&labels.labels))),
            plain => plain.to_string(),
        }
    }

    fn declare(&mut self, definition: &str) -> String {
        self.count += 1;
        let index = self.count;
        writeln!(
            self.declarations,
            "(type $d{index} {definition}) (export $t{index} \"t{index}\" (type $d{index}))"
        )
        .unwrap();
        format!("$t{index}")
    }
}

fn quoted(labels: &[String]) -> String {
    labels.iter().map(|label| format!("\"{label}\"")).collect::<Vec<_>>().join(" ")
}

/// The core types a value of the type is flattened to (the canonical ABI's `flatten_type`).
fn flatten(ty: &Type) -> Vec<&'static str> {
    let join = |cases: Vec<Vec<&'static str>>| {
        let mut joined = vec!["i32"];
        for case in cases {
            for (index, ty) in case.into_iter().enumerate() {
                match joined.get_mut(index + 1) {
                    None => joined.push(ty),
                    Some(slot) if *slot == ty => {}
                    Some(slot) if matches!((*slot, ty), ("i32", "f32") | ("f32", "i32")) => {
                        *slot = "i32"
                    }
                    Some(slot) => *slot = "i64",
                }
            }
        }
        joined
    };
    match ty {
        Type::U64 | Type::S64 => vec!["i64"],
        Type::F32 => vec!["f32"],
        Type::F64 => vec!["f64"],
        Type::String | Type::List(_) => vec!["i32", "i32"],
        Type::Tuple(_) | Type::Record(_) => ty.children().into_iter().flat_map(flatten).collect(),
        Type::Variant(_) | Type::Option(_) | Type::Result(_) => {
            join(ty.children().into_iter().map(flatten).collect())
        }
        _ => vec!["i32"],
    }
}

/// A component with an allocator that never reuses memory, and
/// - `set` and `get`: keeps the parameters where they were put, gives back the first of them with a zero;
/// - `flat`, if the value has few core values: gives back these as numbers, with an allocator of one address only, so
///   that they do not depend on the order of allocations;
/// - `pass`, if it has few: an async function that gives back what it got.
fn guest(ty: &Type) -> (Component, bool) {
    let mut text = Text::default();
    let value = text.ty(ty);
    let padding: String = (0..PADDING).map(|index| format!(" (param \"p{index}\" u8)")).collect();
    let flat = flatten(ty);
    let few = flat.len() <= 16;
    let mut small = String::new();
    if few {
        let params = flat.join(" ");
        let stores: String = flat
            .iter()
            .enumerate()
            .map(|(index, ty)| match *ty {
                "i32" => format!(
                    "(i64.store offset={} (i32.const 64) (i64.extend_i32_u (local.get {index})))",
                    8 * index
                ),
                ty => {
                    format!("({ty}.store offset={} (i32.const 64) (local.get {index}))", 8 * index)
                }
            })
            .collect();
        let gets: String = (0..flat.len()).map(|index| format!("(local.get {index})")).collect();
        write!(
            small,
            r#"(core module $flat (memory (export "memory") 64)
                 (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
                 (func (export "flat") (param {params}) (result i32) {stores}
                   (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {count})) (i32.const 0)))
               (core instance $flat (instantiate $flat))
               (func (export "flat") (param "x" {value}) (result (list u64)) (canon lift (core func $flat "flat")
                 (memory (core memory $flat "memory")) (realloc (core func $flat "realloc"))))
               (core func $return (canon task.return (result {value}) (memory (core memory $code "memory"))))
               (core module $pass
                 (import "" "return" (func $return (param {params})))
                 (func (export "pass") (param {params}) (result i32) {gets} (call $return) (i32.const 0))
                 (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
               (core instance $pass (instantiate $pass (with "" (instance (export "return" (func $return))))))
               (func (export "pass") async (param "x" {value}) (result {value})
                 (canon lift (core func $pass "pass") (memory (core memory $code "memory"))
                   (realloc (core func $code "realloc")) async (callback (core func $pass "callback"))))"#,
            count = flat.len(),
        )
        .unwrap();
    }
    let text = format!(
        r#"(component {declarations}
             (core module $code (memory (export "memory") 256)
               (global $next (mut i32) (i32.const 1024)) (global $kept (mut i32) (i32.const 0))
               (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                 (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
                 (global.set $next (i32.add (local.get $at) (local.get 3)))
                 (local.get $at))
               (func (export "set") (param i32) (global.set $kept (local.get 0)))
               (func (export "get") (result i32) (global.get $kept)))
             (core instance $code (instantiate $code))
             (func (export "set") (param "x" (tuple {value} u64)) {padding} (canon lift (core func $code "set")
               (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
             (func (export "get") (result (tuple {value} u64)) (canon lift (core func $code "get")
               (memory (core memory $code "memory"))))
             {small})"#,
        declarations = text.declarations,
    );
    let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    (
        Component::from_binary(engine(), &bytes)
            .unwrap_or_else(|error| panic!("{error:?}\n{text}")),
        few,
    )
}

fn engine() -> &'static Engine {
    static ENGINE: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        Engine::new(&config).unwrap()
    })
}

/// The value as the engine has it.
fn val(ty: &Type, value: &Value) -> Val {
    let text = || value.as_text().expect("text").to_owned();
    let int = || i128::from(value.as_integer().expect("an integer"));
    let entries = || value.as_map().expect("a map");
    let array = || value.as_array().expect("an array");
    match ty {
        Type::Bool => Val::Bool(value.as_bool().unwrap()),
        Type::U8 => Val::U8(int().try_into().unwrap()),
        Type::U16 => Val::U16(int().try_into().unwrap()),
        Type::U32 => Val::U32(int().try_into().unwrap()),
        Type::U64 => Val::U64(int().try_into().unwrap()),
        Type::S8 => Val::S8(int().try_into().unwrap()),
        Type::S16 => Val::S16(int().try_into().unwrap()),
        Type::S32 => Val::S32(int().try_into().unwrap()),
        Type::S64 => Val::S64(int().try_into().unwrap()),
        Type::F32 => Val::Float32(value.as_float().unwrap() as f32),
        Type::F64 => Val::Float64(value.as_float().unwrap()),
        Type::Char => Val::Char(text().chars().next().unwrap()),
        Type::String => Val::String(text()),
        Type::List(_) if ty.is_bytes() => {
            Val::List(value.as_bytes().unwrap().iter().copied().map(Val::U8).collect())
        }
        Type::List(element) => Val::List(array().iter().map(|item| val(element, item)).collect()),
        Type::Tuple(types) => {
            Val::Tuple(types.iter().zip(array()).map(|(ty, item)| val(ty, item)).collect())
        }
        Type::Record(record) => {
            let field = |name: &str| {
                &entries().iter().find(|(key, _)| key.as_text() == Some(name)).unwrap().1
            };
            let fields = record.fields.iter();
            Val::Record(
                fields.map(|one| (one.name.clone(), val(&one.ty, field(&one.name)))).collect(),
            )
        }
        Type::Variant(variant) => match value.as_text() {
            Some(label) => Val::Variant(label.to_owned(), None),
            None => {
                let (label, payload) = &entries()[0];
                let label = label.as_text().unwrap();
                let case = variant.cases.iter().find(|case| case.name == label).unwrap();
                Val::Variant(
                    label.to_owned(),
                    Some(Box::new(val(case.ty.as_ref().unwrap(), payload))),
                )
            }
        },
        Type::Enum(_) => Val::Enum(text()),
        Type::Flags(_) => {
            Val::Flags(array().iter().map(|label| label.as_text().unwrap().to_owned()).collect())
        }
        Type::Option(_) if value.is_null() => Val::Option(None),
        Type::Option(inner) => {
            let inside = if matches!(**inner, Type::Option(_)) { &array()[0] } else { value };
            Val::Option(Some(Box::new(val(inner, inside))))
        }
        Type::Result(sides) => {
            let (label, payload) = &entries()[0];
            let side = |ty: &Option<Type>| ty.as_ref().map(|ty| Box::new(val(ty, payload)));
            Val::Result(match label.as_text() {
                Some("ok") => Ok(side(&sides.ok)),
                _ => Err(side(&sides.err)),
            })
        }
    }
}

struct Guest {
    store: Store<()>,
    instance: Instance,
}

impl Guest {
    fn new(component: &Component) -> Self {
        let mut store = Store::new(engine(), ());
        let instance = Linker::new(engine()).instantiate(&mut store, component).unwrap();
        Self { store, instance }
    }

    fn func(&mut self, name: &str) -> Func {
        self.instance.get_func(&mut self.store, name).unwrap()
    }
}

/// Arguments named `x` and, with `padded`, `p0` to `p16`, in canonical order.
fn args(value: &Value, padded: bool) -> (Vec<u8>, Vec<usize>) {
    let mut names = vec![(String::from("x"), value.clone(), 0)];
    if padded {
        names.extend((0..PADDING).map(|index| (format!("p{index}"), Value::from(7), index + 1)));
    }
    names.sort_by(|a, b| crate::value::cbor::key_order(&a.0, &b.0));
    let order = names.iter().map(|(_, _, index)| *index).collect();
    let map = names.into_iter().map(|(name, value, _)| (Value::Text(name), value)).collect();
    (encoded(&Value::Map(map)), order)
}

fn agree(ty: &Type, value: &Value, canonical: &[u8]) {
    let (component, few) = guest(ty);
    let expected = val(ty, value);
    let pair = Value::Array(vec![value.clone(), Value::from(9)]);
    let pair_val = Val::Tuple(vec![expected.clone(), Val::U64(9)]);

    // Through memory: each writes, each reads.
    let (cbor, order) = args(&pair, true);
    for direct in [true, false] {
        let mut guest = Guest::new(&component);
        let (set, get) = (guest.func("set"), guest.func("get"));
        if direct {
            let null = call(set, &mut guest.store, Args { cbor: &cbor, order: &order }).unwrap();
            assert_eq!(null, [0xf6]);
        } else {
            let mut params = vec![pair_val.clone()];
            params.extend(vec![Val::U8(7); PADDING]);
            set.call(&mut guest.store, &params, &mut []).unwrap();
        }
        let mut read = [Val::Bool(false)];
        get.call(&mut guest.store, &[], &mut read).unwrap();
        assert_eq!(
            read[0],
            pair_val,
            "written {}",
            if direct { "directly" } else { "by the engine" }
        );
        let lifted = call(get, &mut guest.store, Args { cbor: b"\xa0", order: &[] }).unwrap();
        assert_eq!(lifted, encoded(&pair));
    }

    // As core values.
    if few {
        let (cbor, order) = args(value, false);
        let mut guest = Guest::new(&component);
        let flat = guest.func("flat");
        let mut theirs = [Val::Bool(false)];
        flat.call(&mut guest.store, std::slice::from_ref(&expected), &mut theirs).unwrap();
        let ours = call(flat, &mut guest.store, Args { cbor: &cbor, order: &order }).unwrap();
        let words: Vec<u64> = ciborium::from_reader(&ours[..]).unwrap();
        assert_eq!(Val::List(words.into_iter().map(Val::U64).collect()), theirs[0]);

        let pass = guest.func("pass");
        let arity = Arity::of_async(Some(ty));
        let passed = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(
            call_async(pass, &mut guest.store, Args { cbor: &cbor, order: &order }, arity),
        );
        assert_eq!(passed.unwrap(), canonical);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn direct_calls_agree_with_the_engine_s_own((ty, value, canonical) in typed()) {
        agree(&ty, &value, &canonical);
    }
}
