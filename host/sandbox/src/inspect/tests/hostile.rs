//! Bytes made to hurt: each ends in a named error, soon, and never in a panic.

use std::fmt::Write;

use super::*;

#[test]
fn a_component_cut_off_anywhere_is_refused_or_smaller() {
    let whole = binary(&[
        ADD,
        r#"(import "wasi:cli/environment@0.2.3" (instance
               (export "get-arguments" (func (result (list string))))))
           (type $point (record (field "x" s32) (field "tag" string))) (export "point" (type $point))
           (instance $adds (export "add" (func $add))) (export "acme:jobs/calc@1.0.0" (instance $adds))
           (@custom "omniq:task" "{\"version\":1,\"functions\":{\"add\":{\"docs\":\"Adds.\"}}}")"#,
    ]);
    let full = inspect(&whole, &Rules::default()).unwrap();
    for end in 0..whole.len() {
        match inspect(&whole[..end], &Rules::default()) {
            // Between two sections a cut leaves a valid component with less in it.
            Ok(less) => assert!(less.functions.len() <= full.functions.len() && less != full),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn every_flipped_byte_gives_an_answer() {
    let whole = binary(&[ADD, r#"(export "acme:jobs/calc@1.0.0" (func $add))"#]);
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            for profile in [Profile::Strict, Profile::Full] {
                let _ = inspect(&bytes, &Rules { profile, ..Rules::default() });
            }
        }
    }
}

#[test]
fn size_is_bounded_before_anything_is_read() {
    let bytes = binary(&[ADD, r#"(export "add" (func $add))"#]);
    let rules = Rules { max_bytes: bytes.len() - 1, ..Rules::default() };
    assert_eq!(
        inspect(&bytes, &rules),
        Err(Error::TooLarge { size: bytes.len() as u64, max: bytes.len() as u64 - 1 })
    );
    let bytes = vec![0; 100 << 20];
    assert!(matches!(inspect(&bytes, &Rules::default()), Err(Error::TooLarge { .. })));
}

#[test]
fn a_data_segment_of_100_mb_is_too_large_or_skipped() {
    let data = "a".repeat(100 << 20);
    let module = format!(r#"(core module (memory 1601) (data (i32.const 0) "{data}"))"#);
    let bytes = binary(&[&module, ADD, r#"(export "add" (func $add))"#]);
    let message = inspect(&bytes, &Rules::default()).unwrap_err().to_string();
    assert!(message.contains("more than the 33554432 allowed"), "{message}");
    let rules = Rules { max_bytes: usize::MAX, ..Rules::default() };
    assert_eq!(inspect(&bytes, &rules).unwrap().functions.len(), 1);
}

#[test]
fn ten_thousand_exports_are_too_many() {
    let mut exports = String::new();
    for index in 0..10_000 {
        write!(exports, r#"(export "f{index}" (func $add))"#).unwrap();
    }
    assert_eq!(
        refused(&[ADD, &exports]),
        "the component exports more than 1000 functions and other items; split it"
    );
    let rules = Rules { max_functions: 10_000, ..Rules::default() };
    let inspection = inspect(&binary(&[ADD, &exports]), &rules).unwrap();
    assert_eq!(inspection.functions.len(), 10_000);
}

#[test]
fn functions_that_cannot_be_called_count_as_well() {
    let mut body = r#"(export "b" (type $B (sub resource)))"#.to_owned();
    for index in 0..1001 {
        write!(body, r#"(export "f{index}" (func (param "b" (own $B))))"#).unwrap();
    }
    let result = exports(&interface("a:b/c", &body), &Rules::default());
    assert_eq!(result.err(), Some(Error::TooManyExports { max: 1000 }));
}

#[test]
fn exports_of_other_kinds_count_as_well() {
    let mut modules = String::new();
    for index in 0..900 {
        write!(modules, r#"(export "m{index}" (core module $m))"#).unwrap();
    }
    let instance = format!("(instance $i {modules})");
    let parts = [ADD, &instance, r#"(export "a" (instance $i)) (export "b" (instance $i))"#];
    assert_eq!(check(&parts), Err(Error::TooManyExports { max: 1000 }));
}

#[test]
fn imports_are_bounded() {
    let mut imports = String::new();
    for index in 0..1001 {
        write!(imports, r#"(import "t{index}" (type (eq $t)))"#).unwrap();
    }
    let parts = ["(type $t u8)", &imports, ADD, r#"(export "add" (func $add))"#];
    assert_eq!(check(&parts), Err(Error::TooManyImports { max: 1000 }));
}

/// An interface with one function whose parameter is `levels` lists around a `u8`.
fn deep(levels: usize) -> Vec<u8> {
    let mut body = "(type $t0 u8)".to_owned();
    for level in 1..=levels {
        write!(body, "(type $t{level} (list $t{}))", level - 1).unwrap();
    }
    write!(body, r#"(export "f" (func (param "x" $t{levels})))"#).unwrap();
    interface("deep", &body)
}

#[test]
fn a_type_that_nests_too_deep_is_refused() {
    assert!(exports(&deep(31), &Rules::default()).is_ok());
    assert_eq!(
        exports(&deep(32), &Rules::default()).err().map(|error| error.to_string()),
        Some("`deep#f` has a type that is more than 32 levels deep; flatten it".to_owned())
    );
    // Beyond a hundred levels the validator refuses it first.
    assert!(matches!(exports(&deep(200), &Rules::default()), Err(Error::Invalid { .. })));
}

/// An interface with one function whose parameter is a tree of `2^levels` numbers, in a few bytes.
fn doubling(levels: usize) -> Vec<u8> {
    let mut body = "(type $t0 (tuple u8 u8))".to_owned();
    for level in 1..levels {
        write!(body, "(type $t{level} (tuple $t{0} $t{0}))", level - 1).unwrap();
    }
    write!(body, r#"(export "f" (func (param "x" $t{})))"#, levels - 1).unwrap();
    interface("wide", &body)
}

#[test]
fn a_type_of_exponential_size_is_refused_before_it_is_written_out() {
    assert!(exports(&doubling(12), &Rules::default()).is_ok());
    assert_eq!(
        exports(&doubling(14), &Rules::default()).err().map(|error| error.to_string()),
        Some(
            "the types of `wide#f` have more than 10000 parts when written out; simplify them"
                .to_owned()
        )
    );
    assert!(exports(&doubling(60), &Rules::default()).is_err());
}

#[test]
fn all_signatures_together_are_bounded() {
    // Each function alone has 129 parts and is within its limit.
    let mut body = "(type $t0 (tuple u8 u8))".to_owned();
    for level in 1..6 {
        write!(body, "(type $t{level} (tuple $t{0} $t{0}))", level - 1).unwrap();
    }
    for index in 0..70 {
        write!(body, r#"(export "f{index}" (func (param "x" $t5)))"#).unwrap();
    }
    let read = |max_type_nodes| {
        let rules = Rules { max_type_nodes, ..Rules::default() };
        exports(&interface("many", &body), &rules).map(|exports| exports.functions.len())
    };
    assert_eq!(read(200), Ok(70));
    assert_eq!(
        read(150).unwrap_err().to_string(),
        "the types of all functions together have more than 7500 parts when written out; export fewer functions"
    );
    assert!(matches!(read(100), Err(Error::TypeSize { max: 100, .. })));
}

#[test]
fn long_names_count_as_size() {
    let label = "a".repeat(60_000);
    let body = format!(
        r#"(type $e (enum "{label}")) (export "e" (type $E (eq $e)))
           (export "f" (func (param "x" (tuple $E $E $E $E $E $E $E $E $E $E $E $E))))"#
    );
    let error = exports(&interface("names", &body), &Rules::default()).err().unwrap();
    assert!(matches!(error, Error::TypeSize { max: 10_000, .. }), "{error}");
}

#[test]
fn messages_stay_short_whatever_the_names_are() {
    let name = "a".repeat(90_000);
    let message = refused(&[&format!(r#"(import "{name}" (func))"#)]);
    assert!(message.len() < 1000, "{}", message.len());
    let inspection = accepted(&[ADD, &format!(r#"(export "{name}" (func $add))"#)]);
    let message = inspection.function(&"b".repeat(90_000)).unwrap_err().to_string();
    assert!(message.len() < 1000, "{}", message.len());
}

#[test]
fn a_long_chain_of_aliases_is_followed_only_so_far() {
    let mut body = r#"(type $e (enum "a")) (export "t0" (type $t0 (eq $e)))"#.to_owned();
    for level in 1..5000 {
        write!(body, r#"(export "t{level}" (type $t{level} (eq $t{})))"#, level - 1).unwrap();
    }
    body.push_str(r#"(export "f" (func (param "x" $t4999)))"#);
    let exports = exports(&interface("chain", &body), &Rules::default()).unwrap();
    assert_eq!(signatures(&exports), ["chain#f(x: t4999)"]);
}

/// Components inside each other, `levels` of them.
fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..levels {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        let mut size = bytes.len();
        while size >= 0x80 {
            outer.push(0x80 | (size & 0x7f) as u8);
            size >>= 7;
        }
        outer.push(size as u8);
        outer.extend_from_slice(&bytes);
        bytes = outer;
    }
    bytes
}

#[test]
fn components_in_components_are_bounded() {
    let error = |levels| inspect(&nested(levels), &Rules::default()).unwrap_err();
    assert_eq!(error(32), Error::NothingToRun(Vec::new()));
    assert_eq!(error(33), Error::Nesting { max: 32 });
    assert_eq!(error(3000), Error::Nesting { max: 32 });
}

#[test]
fn modules_in_components_are_bounded() {
    let modules = |count| "(core module)".repeat(count);
    assert!(check(&[&modules(999), ADD, r#"(export "add" (func $add))"#]).is_ok());
    let inner = format!("(component {})", modules(500));
    assert_eq!(check(&[&inner, &inner]), Err(Error::TooManyParts { max: 1000 }));
}

#[test]
fn documentation_is_bounded() {
    let docs = |count: usize, text: &str| {
        let mut entries: Vec<_> = (0..count).map(|index| format!("f{index}")).collect();
        entries.push("add".to_owned());
        for entry in &mut entries {
            *entry = format!(r#"\"{entry}\":{{\"docs\":\"{text}\"}}"#);
        }
        let entries = entries.join(",");
        format!(r#"(@custom "omniq:task" "{{\"version\":1,\"functions\":{{{entries}}}}}")"#)
    };
    let read = |custom: String| accepted(&[ADD, r#"(export "add" (func $add))"#, &custom]);

    let long = read(docs(0, &"é".repeat(20_000)));
    assert_eq!(long.functions[0].docs.as_ref().map(String::len), Some(16 << 10));

    let larger_than_all = read(docs(0, &"a".repeat(2 << 20)));
    assert_eq!(larger_than_all.functions[0].docs, None);

    assert!(read(docs(20_000, "x")).functions[0].docs.is_some());

    let broken = r#"(@custom "omniq:task" "?")"#.repeat(1000);
    assert_eq!(read(broken).notes.len(), 3);

    let deep = format!(r#"(@custom "omniq:task" "{}")"#, "[".repeat(100_000));
    assert_eq!(read(deep).notes.len(), 1);
}

/// Components in each other, each of which makes two instances of the one inside it, around a core instance.
fn instances_in_instances(levels: usize) -> Vec<u8> {
    let mut text = "(core module $m) (core instance (instantiate $m))".to_owned();
    for _ in 0..levels {
        text = format!(
            "(component $c {text}) (instance (instantiate $c)) (instance (instantiate $c))"
        );
    }
    binary(&[&text, ADD, r#"(export "add" (func $add))"#])
}

#[test]
fn instances_of_instances_are_counted_before_anything_is_compiled() {
    let bytes = instances_in_instances(23);
    assert!(bytes.len() < 2048, "{} bytes that stand for {} instances", bytes.len(), 1 << 24);
    let error = inspect(&bytes, &Rules::default()).unwrap_err();
    assert_eq!(error, Error::TooManyInstances { max: 1000 });
    // Two levels: 2 + 4 components, 4 core instances in them, and the one that adds.
    let rules = |max_instances| Rules { max_instances, ..Rules::default() };
    assert!(inspect(&instances_in_instances(2), &rules(11)).is_ok());
    assert_eq!(
        inspect(&instances_in_instances(2), &rules(10)),
        Err(Error::TooManyInstances { max: 10 })
    );
}

#[test]
fn what_a_thousand_instances_wire_up_is_counted_as_well() {
    let aliases = "(alias core export $i \"add\" (core func))".repeat(500);
    let inner = format!("(component $c {ADD} {aliases})");
    let parts =
        [&inner, &"(instance (instantiate $c))".repeat(450), ADD, r#"(export "add" (func $add))"#];
    assert_eq!(check(&parts), Err(Error::TooManyItems { max: 200_000 }));
}

#[test]
fn a_component_has_its_size_under_every_name() {
    let bomb = "(component $bomb (core module $m) (core instance (instantiate $m)))";
    let many = |name: &str| format!("(instance (instantiate {name}))").repeat(600);
    for use_it in [
        many("$bomb"),
        format!("(component $outer {}) (instance (instantiate $outer))", many("$bomb")),
        format!(r#"(export $again "again" (component $bomb)) {}"#, many("$again")),
    ] {
        let parts = [bomb, &use_it, ADD, r#"(export "add" (func $add))"#];
        assert_eq!(check(&parts), Err(Error::TooManyInstances { max: 1000 }), "{use_it:.80}");
    }
}

#[test]
fn a_component_that_could_be_any_is_not_instantiated() {
    for body in [
        r#"(component $outer (import "c" (component $c)) (instance (instantiate $c)))"#,
        r#"(component $inner (component $c) (export "c" (component $c)))
           (instance $i (instantiate $inner)) (alias export $i "c" (component $c)) (instance (instantiate $c))"#,
    ] {
        let message = refused(&[body, ADD, r#"(export "add" (func $add))"#]);
        assert!(message.contains("given or takes out of an instance"), "{message}");
    }
}

#[test]
fn what_instances_take_beside_their_memories_is_bounded() {
    let elements = "(ref.null func) ".repeat(10_000);
    let passive = format!("(core module $big (elem funcref {elements}))");
    let globals = format!("(core module $big {})", "(global i32 (i32.const 0))".repeat(10_000));
    let many =
        |name: &str, count: usize| format!("(core instance (instantiate {name}))").repeat(count);
    let end = [ADD, r#"(export "add" (func $add))"#].concat();
    for module in [&passive, &globals] {
        assert!(check(&[module, &many("$big", 20), &end]).is_ok());
        let given = format!(
            r#"(component $c (import "m" (core module $given)) {})
               {module} (instance (instantiate $c (with "m" (core module $big))))"#,
            many("$given", 200),
        );
        let outer = format!(
            "{module} (component $c (alias outer 1 $big (core module $again)) {}) (instance (instantiate $c))",
            many("$again", 200),
        );
        for parts in [format!("{module} {}", many("$big", 200)), given, outer] {
            assert_eq!(
                check(&[&parts, &end]),
                Err(Error::TooMuchState { max: 16 << 20 }),
                "{parts:.80}"
            );
        }
    }
}

#[test]
fn what_the_compiler_writes_out_element_by_element_is_bounded() {
    let segment = |count: usize| format!("(core module (elem func {}))", "0 ".repeat(count));
    let with_function = |count| segment(count).replace("(core module ", "(core module (func) ");
    let end = [ADD, r#"(export "add" (func $add))"#].concat();
    assert!(check(&[&with_function(400_000), &end]).is_ok());
    assert_eq!(
        check(&[&with_function(400_000), &with_function(100_001), &end]),
        Err(Error::TooManyValues { max: 500_000 })
    );
    // One initial value of a million instructions.
    let sum = "(i32.const 1) (i32.add) ".repeat(1_500_000);
    let global = format!("(core module (global i32 (i32.const 0) {sum}))");
    assert_eq!(check(&[&global, &end]), Err(Error::TooManyValues { max: 500_000 }));
}
