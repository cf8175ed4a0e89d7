//! What components ask for.

use super::*;

#[track_caller]
fn import(body: &str) -> Inspection {
    accepted(&[body, ADD, r#"(export "add" (func $add))"#])
}

#[track_caller]
fn unknown(body: &str) -> String {
    let message = refused(&[body, ADD, r#"(export "add" (func $add))"#]);
    let (_, rest) = message.split_once(" that nobody here serves: ").unwrap();
    let (names, hint) = rest.rsplit_once("; ").unwrap();
    assert!(hint.starts_with("build it without, or compose it"), "{hint}");
    names.to_owned()
}

#[test]
fn an_import_has_its_functions_and_its_capability() {
    let inspection = import(
        r#"(import "wasi:cli/environment@0.2.3" (instance
               (export "get-arguments" (func (result (list string))))
               (export "get-environment" (func (result (list (tuple string string)))))))
           (import "wasi:io/poll@0.2.0" (instance
               (export "pollable" (type $P (sub resource)))
               (export "[method]pollable.block" (func (param "self" (borrow $P))))))
           (import "omniq:task/log@0.1.0" (instance (export "emit" (func))))
           (import "wasi:clocks/monotonic-clock@0.2.99" (instance (export "now" (func (result u64)))))
           (import "wasi:config/store@0.2.0-rc.1" (instance (export "get" (func))))
           (import "wasi:logging/logging" (instance (export "log" (func))))"#,
    );
    let imports: Vec<_> = inspection
        .imports
        .iter()
        .map(|import| {
            format!("{} {} {}", import.name, import.capability, import.functions.join(" "))
        })
        .collect();
    assert_eq!(
        imports,
        [
            "wasi:cli/environment@0.2.3 environment get-arguments get-environment",
            "wasi:io/poll@0.2.0 none [method]pollable.block",
            "omniq:task/log@0.1.0 task emit",
            "wasi:clocks/monotonic-clock@0.2.99 clock now",
            "wasi:config/store@0.2.0-rc.1 config get",
            "wasi:logging/logging logging log",
        ]
    );
    assert_eq!(
        inspection.capabilities(),
        [
            Capability::Task,
            Capability::Clock,
            Capability::Environment,
            Capability::Config,
            Capability::Logging
        ]
    );
}

#[test]
fn types_alone_are_no_capability() {
    let inspection = import(
        r#"(import "wasi:filesystem/types@0.2.0" (instance (export "descriptor" (type (sub resource)))))
           (type $point (record (field "x" s32)))
           (import "acme:shapes/types@1.0.0" (instance (export "point" (type (eq $point)))))
           (import "point" (type (eq $point)))
           (import "wasi:cli/later@0.3.0" (instance))"#,
    );
    assert!(inspection.imports.iter().all(|import| import.capability == Capability::None));
    assert_eq!(inspection.imports.len(), 4);
    assert!(inspection.capabilities().is_empty());
}

#[test]
fn a_resource_of_a_served_interface_may_be_imported_again() {
    let inspection = import(
        r#"(import "wasi:io/streams@0.2.0" (instance $streams
               (export "input-stream" (type (sub resource)))))
           (alias export $streams "input-stream" (type $S))
           (import "input" (type (eq $S)))
           (import "acme:my/types@1.0.0" (instance (export "mine" (type (eq $S)))))"#,
    );
    assert_eq!(inspection.imports.len(), 3);
}

#[test]
fn what_nobody_serves_is_named_with_the_reason() {
    let func = r#"(instance (export "f" (func)))"#;
    for (body, expected) in [
        (format!(r#"(import "acme:db/sql@1.0.0" {func})"#), "`acme:db/sql@1.0.0` (unknown)"),
        (
            format!(r#"(import "wasi:cli/enviroment@0.2.0" {func})"#),
            "`wasi:cli/enviroment@0.2.0` (unknown; did you mean `wasi:cli/environment`?)",
        ),
        (
            format!(r#"(import "wasi:cli/stdout@0.3.0" {func})"#),
            "`wasi:cli/stdout@0.3.0` (WASI 0.3 is not served; build for WASI 0.2, such as `wasm32-wasip2`)",
        ),
        (
            format!(r#"(import "wasi:clocks/types@0.3.0-rc-2026-03-15" {func})"#),
            "`wasi:clocks/types@0.3.0-rc-2026-03-15` (WASI 0.3 is not served; build for WASI 0.2, such as `wasm32-wasip2`)",
        ),
        (
            format!(r#"(import "omniq:task/log@0.2.0" {func})"#),
            "`omniq:task/log@0.2.0` (served in 0.1 only)",
        ),
        (
            format!(r#"(import "wasi:logging/logging@1.0.0" {func})"#),
            "`wasi:logging/logging@1.0.0` (served in no version, 0.1.0-draft only)",
        ),
        (r#"(import "add" (func))"#.to_owned(), "`add` (a function outside of any interface)"),
        (r#"(import "code" (core module))"#.to_owned(), "`code` (a core module)"),
        (r#"(import "part" (component))"#.to_owned(), "`part` (a component)"),
        (r#"(import "blob" (type (sub resource)))"#.to_owned(), "`blob` (a resource)"),
        (
            r#"(import "acme:my/blobs" (instance (export "blob" (type (sub resource)))))"#
                .to_owned(),
            "`acme:my/blobs` (unknown)",
        ),
        (
            r#"(import "wasi:cli/exit@0.2.0" (instance (export "inner" (instance))))"#.to_owned(),
            "`wasi:cli/exit@0.2.0` (its `inner` is neither a function nor a type)",
        ),
        (
            format!(r#"(import "locked-dep=<acme:db/sql@1.0.0>" {func})"#),
            "`locked-dep=<acme:db/sql@1.0.0>` (unknown)",
        ),
        (
            format!(
                r#"(import "acme:db/sql" {func}) (import "wasi:io/poll@0.2.0" {func})
                   (import "acme:db/kv" {func})"#
            ),
            "`acme:db/sql` (unknown), `acme:db/kv` (unknown)",
        ),
    ] {
        assert_eq!(unknown(&body), expected);
    }
}

#[test]
fn a_long_list_of_unknown_imports_is_cut() {
    let imports: String = (0..30)
        .map(|index| format!(r#"(import "acme:db/sql{index}" (instance (export "f" (func))))"#))
        .collect();
    let message = unknown(&imports);
    assert!(message.ends_with("`acme:db/sql9` (unknown) and 20 more"), "{message}");
}
