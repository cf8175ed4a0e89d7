//! Functions, their types and names, and the exports with a meaning of their own.

use super::*;

#[test]
fn a_function_at_the_root_has_its_types_and_parameter_names() {
    let inspection = accepted(&[ADD, r#"(export "add" (func $add))"#]);
    assert_eq!(inspection.shapes(), [Shape::Functions]);
    assert_eq!(inspection.functions.len(), 1);
    let add = inspection.function("add").unwrap();
    assert_eq!(add.name.to_string(), "add");
    assert_eq!(add.signature.to_string(), "(a: s32, b: s32) -> s32");
    assert!(!add.signature.is_async);
    assert!(inspection.imports.is_empty() && inspection.others.is_empty());
}

#[test]
fn the_digest_and_size_are_those_of_the_bytes() {
    let bytes = binary(&[ADD, r#"(export "add" (func $add))"#]);
    let inspection = inspect(&bytes, &Rules::default()).unwrap();
    assert_eq!(inspection.size, bytes.len() as u64);
    let expected = Digest::from_sha256(Sha256::digest(&bytes).into());
    assert_eq!(inspection.digest, expected);
}

#[test]
fn every_value_type_is_read() {
    for (wat, wit) in [
        ("bool", "bool"),
        ("u8", "u8"),
        ("u16", "u16"),
        ("u32", "u32"),
        ("u64", "u64"),
        ("s8", "s8"),
        ("s16", "s16"),
        ("s32", "s32"),
        ("s64", "s64"),
        ("f32", "f32"),
        ("f64", "f64"),
        ("char", "char"),
        ("string", "string"),
        ("(list u8)", "list<u8>"),
        ("(list (list string))", "list<list<string>>"),
        ("(tuple u8 string (list f64))", "tuple<u8, string, list<f64>>"),
        ("(option (option bool))", "option<option<bool>>"),
        ("(result)", "result"),
        ("(result u8)", "result<u8>"),
        ("(result (error u8))", "result<_, u8>"),
        ("(result u8 (error string))", "result<u8, string>"),
    ] {
        let body = format!(r#"(export "f" (func (param "x" {wat}) (result {wat})))"#);
        let exports = exports(&interface("a:b/c", &body), &Rules::default()).unwrap();
        assert_eq!(signatures(&exports), [format!("a:b/c#f(x: {wit}) -> {wit}")]);
    }
    let exports = exports(&interface("i", r#"(export "f" (func))"#), &Rules::default()).unwrap();
    assert_eq!(signatures(&exports), ["i#f()"]);
}

/// The WIT declarations that the first function's signature needs.
fn declarations(binary: &[u8]) -> Vec<String> {
    let exports = exports(binary, &Rules::default()).unwrap();
    let named = exports.functions[0].signature.named_types();
    named.into_iter().filter_map(omniq_model::wit::Type::declaration).collect()
}

#[test]
fn named_types_keep_their_names() {
    let binary = interface(
        "acme:jobs/shapes@1.0.0",
        r#"(type $color (enum "red" "green"))
           (export "color" (type $Color (eq $color)))
           (type $style (flags "bold" "dim"))
           (export "style" (type $Style (eq $style)))
           (type $point (record (field "x" s32) (field "color" $Color)))
           (export "point" (type $Point (eq $point)))
           (type $shape (variant (case "dot" $Point) (case "styled" $Style) (case "nothing")))
           (export "shape" (type $Shape (eq $shape)))
           (export "draw" (func (param "shapes" (list $Shape)) (result (option $Point))))"#,
    );
    assert_eq!(
        declarations(&binary),
        [
            "enum color { red, green }",
            "record point { x: s32, color: color }",
            "flags style { bold, dim }",
            "variant shape { dot(point), styled(style), nothing }",
        ]
    );
}

#[test]
fn a_type_used_from_another_interface_has_the_name_it_is_used_under() {
    let binary = binary(&[r#"
        (type $color (enum "red" "green"))
        (import "acme:jobs/types@1.0.0" (instance $types (export "color" (type (eq $color)))))
        (alias export $types "color" (type $Color))
        (import "acme:jobs/draw@1.0.0" (instance $draw
            (alias outer 1 $Color (type $outer))
            (export "tint" (type $Mine (eq $outer)))
            (export "shade" (type $Again (eq $Mine)))
            (export "draw" (func (param "a" $outer) (param "b" $Mine) (param "c" $Again)))))
        (export "acme:jobs/draw@1.0.0" (instance $draw))"#]);
    assert_eq!(
        declarations(&binary),
        ["enum color { red, green }", "enum tint { red, green }", "enum shade { red, green }"]
    );
}

#[test]
fn what_is_no_plain_value_is_listed_with_its_path() {
    let blob = r#"(export "blob" (type $Blob (sub resource)))"#;
    for (types, param, path) in [
        (blob, "(own $Blob)", "param 2: resource blob"),
        (blob, "(borrow $Blob)", "param 2: borrow<blob>"),
        (blob, "(list (tuple u8 (own $Blob)))", "param 2 element item 2: resource blob"),
        ("", "(stream u8)", "param 2: stream<u8>"),
        ("", "(future)", "param 2: future"),
        ("", "(option (future (list u8)))", "param 2 some: future<…>"),
        ("", "error-context", "param 2: error-context"),
        ("(type $s (stream string))", "(result $s)", "param 2 ok: stream<string>"),
        ("", "(result (error (stream)))", "param 2 err: stream"),
        ("", "(map string u32)", "param 2: map<string, u32>"),
        ("", "(list u8 4)", "param 2: list<u8, 4>"),
        (
            r#"(type $r (record (field "name" string) (field "body" (stream u8))))
               (export "request" (type $R (eq $r)))"#,
            "$R",
            "param 2 field body: stream<u8>",
        ),
        (
            r#"(type $v (variant (case "none") (case "some" (list error-context))))
               (export "reply" (type $V (eq $v)))"#,
            "(option $V)",
            "param 2 some case some element: error-context",
        ),
    ] {
        let body = format!(
            r#"{types} (export "resize" (func (param "a" u8) (param "b" {param})))
               (export "ok" (func))"#
        );
        let exports = exports(&interface("acme:x/jobs@1.0.0", &body), &Rules::default()).unwrap();
        assert_eq!(
            reasons(&exports.others),
            [format!("acme:x/jobs@1.0.0#resize: not a plain value: jobs.resize {path}")]
        );
        assert_eq!(signatures(&exports), ["acme:x/jobs@1.0.0#ok()"], "{param}");
    }
}

#[test]
fn a_result_that_is_no_plain_value_is_listed_as_well() {
    let body = r#"(export "open" (func (result (stream u8))))"#;
    let exports = exports(&interface("files", body), &Rules::default()).unwrap();
    assert_eq!(
        reasons(&exports.others),
        ["files#open: not a plain value: files.open result: stream<u8>"]
    );
}

#[test]
fn the_functions_of_a_resource_are_left_alone() {
    let body = r#"(export "blob" (type $Blob (sub resource)))
        (export "[constructor]blob" (func (result (own $Blob))))
        (export "[method]blob.size" (func (param "self" (borrow $Blob)) (result u32)))
        (export "[static]blob.limit" (func (result u32)))
        (export "limit" (func (result u32)))"#;
    let exports = exports(&interface("blobs", body), &Rules::default()).unwrap();
    assert_eq!(signatures(&exports), ["blobs#limit() -> u32"]);
    assert_eq!(exports.others.len(), 3);
    assert!(exports.others.iter().all(|other| other.reason == "belongs to a resource"));
}

#[test]
fn what_a_python_toolchain_leaves_behind_is_no_task() {
    let parts = [
        ADD,
        r#"(instance $e (export "init" (func $add))) (export "exports" (instance $e))
           (export "add" (func $add))"#,
    ];
    assert!(accepted(&parts).function("init").is_ok());
    let made = r#"(core module (@producers (processed-by "component-init-transform" "0.2.0")))"#;
    let inspection = accepted(&[made, parts[0], parts[1]]);
    assert_eq!(reasons(&inspection.others), ["exports#init: start-up code of the toolchain"]);
    assert_eq!(inspection.functions.len(), 1);
}

#[test]
fn an_async_function_is_marked() {
    let body = r#"(export "wait" (func async (param "ms" u32)))"#;
    let exports = exports(&interface("clock", body), &Rules::default()).unwrap();
    assert!(exports.functions[0].signature.is_async);
}

const RUN: &str = r#"
    (core module $rm (func (export "run") (result i32) (i32.const 0)))
    (core instance $ri (instantiate $rm))
    (func $run (result (result)) (canon lift (core func $ri "run")))
    (instance $runs (export "run" (func $run)))"#;

#[test]
fn an_export_of_wasi_cli_run_is_a_command() {
    for version in ["0.2.0", "0.2.3", "0.2.99"] {
        let export = format!(r#"(export "wasi:cli/run@{version}" (instance $runs))"#);
        let inspection = accepted(&[RUN, &export]);
        assert_eq!(inspection.command, Some(format!("wasi:cli/run@{version}")));
        assert_eq!(inspection.shapes(), [Shape::Command]);
        assert!(inspection.functions.is_empty());
        assert!(inspection.function("run").is_err());
    }
}

#[test]
fn a_command_may_have_functions_too() {
    let inspection = accepted(&[
        RUN,
        ADD,
        r#"(export "add" (func $add)) (export "wasi:cli/run@0.2.3" (instance $runs))"#,
    ]);
    assert_eq!(inspection.shapes(), [Shape::Functions, Shape::Command]);
}

#[test]
fn another_run_is_no_command() {
    for (export, expected) in [
        (
            r#"(export "wasi:cli/run@0.3.0" (instance $runs))"#,
            "`wasi:cli/run@0.3.0` (only version 0.2 of it is run here)",
        ),
        (
            r#"(instance $none) (export "wasi:cli/run@0.2.0" (instance $none))"#,
            "`wasi:cli/run@0.2.0` (its `run` is not `func() -> result`)",
        ),
        (
            r#"(instance $adds (export "run" (func $add)))
               (export "wasi:cli/run@0.2.0" (instance $adds))"#,
            "`wasi:cli/run@0.2.0` (its `run` is not `func() -> result`)",
        ),
    ] {
        let message = refused(&[RUN, ADD, export]);
        assert_eq!(message, format!("the component has nothing to run: {expected}"));
    }
}

#[test]
fn a_second_command_is_left_alone() {
    let inspection = accepted(&[
        RUN,
        r#"(export "wasi:cli/run@0.2.0" (instance $runs))
           (export "wasi:cli/run@0.2.3" (instance $runs))"#,
    ]);
    assert_eq!(inspection.command.as_deref(), Some("wasi:cli/run@0.2.0"));
    assert_eq!(reasons(&inspection.others), ["wasi:cli/run@0.2.3: a second command"]);
}

#[test]
fn exports_for_other_hosts_are_left_alone() {
    let inspection = accepted(&[
        ADD,
        r#"(export "add" (func $add))
           (instance $adds (export "handle" (func $add)))
           (export "wasi:http/incoming-handler@0.2.3" (instance $adds))
           (export "wasi:messaging/handler@0.2.0-draft" (instance $adds))
           (core module $empty) (export "code" (core module $empty))
           (component $c) (export "part" (component $c))
           (instance $outer (export "inner" (instance $adds)) (export "sum" (func $add)))
           (export "outer" (instance $outer))"#,
    ]);
    assert_eq!(
        reasons(&inspection.others),
        [
            "wasi:http/incoming-handler@0.2.3: the entry of an HTTP server, which is not called here",
            "wasi:messaging/handler@0.2.0-draft: an interface of WASI that is not called here",
            "code: a core module, not a function",
            "part: a component, not a function",
            "outer#inner: not a function",
        ]
    );
    assert!(inspection.function("outer.sum").is_ok());
}

/// The interface `omniq:task/handler`, with a chosen type for the `body` of a payload.
fn handler(version: &str, body: &str) -> Vec<u8> {
    interface(
        &format!("omniq:task/handler@{version}"),
        &format!(
            r#"(type $p (record (field "media-type" string) (field "body" {body})))
               (export "payload" (type $P (eq $p)))
               (type $r (variant (case "by-policy") (case "after" u64) (case "never")
                   (case "snooze" u64) (case "other" string)))
               (export "retry" (type $R (eq $r)))
               (type $f (record (field "code" string) (field "message" string) (field "retry" $R)
                   (field "details" (option $P))))
               (export "failure" (type $F (eq $f)))
               (export "run" (func (param "target" string) (param "args" $P)
                   (result (result $P (error $F)))))"#
        ),
    )
}

#[test]
fn a_handler_is_known_by_its_name_and_signature() {
    for version in ["0.1.0", "0.1.9"] {
        let exports = exports(&handler(version, "(list u8)"), &Rules::default()).unwrap();
        let name = format!("omniq:task/handler@{version}#run");
        assert_eq!(exports.handler.map(|name| name.to_string()), Some(name));
        assert_eq!(exports.functions.len(), 1, "its function can be called with typed values");
    }
    // A later major version means something else; here it is an interface like any other.
    let other = exports(&handler("0.2.0", "(list u8)"), &Rules::default()).unwrap();
    assert!(other.handler.is_none() && other.functions.len() == 1);

    let other = exports(&handler("0.1.0", "string"), &Rules::default()).unwrap();
    assert!(other.handler.is_none() && other.functions.is_empty());
    assert_eq!(
        reasons(&other.others),
        ["omniq:task/handler@0.1.0#run: not the signature that `omniq:task/handler` has"]
    );
}

#[test]
fn a_description_is_no_function_of_its_own() {
    let describe = |field: &str| {
        interface(
            "omniq:task/describe@0.1.0",
            &format!(
                r#"(type $e (record (field "{field}" string) (field "summary" string)
                       (field "args-schema" (option string)) (field "result-schema" (option string))))
                   (export "entry" (type $E (eq $e)))
                   (export "tasks" (func (result (list $E))))"#
            ),
        )
    };
    let good = exports(&describe("target"), &Rules::default()).unwrap();
    assert_eq!(good.describe.unwrap().to_string(), "omniq:task/describe@0.1.0#tasks");
    assert!(good.functions.is_empty() && good.others.is_empty());

    let bad = exports(&describe("title"), &Rules::default()).unwrap();
    assert!(bad.describe.is_none());
    assert_eq!(bad.others.len(), 1);
}

#[test]
fn documentation_comes_from_the_component_and_the_modules_in_it() {
    let inspection = accepted(&[
        r#"(core module (@custom "omniq:task"
               "{\"version\":1,\"functions\":{\"add\":{\"docs\":\" Adds two numbers.\\n\"}}} {\"version\":1,\"functions\":{\"nothing\":{\"docs\":\"Ignored.\"}}}"))"#,
        ADD,
        r#"(instance $adds (export "sum" (func $add)))
           (export "add" (func $add)) (export "acme:jobs/calc@1.0.0" (instance $adds))
           (@custom "omniq:task" "{\"version\":1,\"functions\":{\"calc.sum\":{\"docs\":\"Sums.\",\"later\":1}}}")"#,
    ]);
    assert_eq!(inspection.function("add").unwrap().docs.as_deref(), Some("Adds two numbers."));
    assert_eq!(inspection.function("sum").unwrap().docs.as_deref(), Some("Sums."));
    assert!(inspection.notes.is_empty());
}

#[test]
fn documentation_that_cannot_be_read_is_a_note() {
    for (section, expected) in [
        ("nonsense", "expected"),
        (r#"{\"version\":2}"#, "its version 2 is unknown here"),
        (r#"{\"version\":1,\"functions\":{\"add\":{\"docs\":7}}}"#, "invalid type"),
        (r#"{\"version\":1,\"functions\":{\"add\":"#, "EOF"),
        (r"\ff\00", "expected value"),
    ] {
        let custom = format!(r#"(@custom "omniq:task" "{section}")"#);
        let inspection = accepted(&[ADD, r#"(export "add" (func $add))"#, &custom]);
        assert_eq!(inspection.notes.len(), 1);
        let (_, reason) = inspection.notes[0].split_once(" is left out: ").unwrap();
        assert!(reason.starts_with(expected), "{}", inspection.notes[0]);
        assert_eq!(inspection.functions[0].docs, None);
    }
}

#[test]
fn the_toolchain_is_what_the_component_claims() {
    let inspection = accepted(&[
        r#"(core module (@producers (language "Rust" "") (processed-by "rustc" "1.95.0")))
           (core module (@producers (language "Rust" "") (sdk "kit" "2")))"#,
        ADD,
        r#"(export "add" (func $add)) (@custom "producers" "broken")"#,
    ]);
    assert_eq!(inspection.producers.languages, ["Rust"]);
    assert_eq!(inspection.producers.tools, ["rustc 1.95.0", "kit 2"]);
}

#[test]
fn names_are_short_where_one_function_has_them() {
    let inspection = accepted(&[
        ADD,
        r#"(instance $adds (export "add" (func $add)) (export "sum" (func $add)))
           (export "acme:jobs/calc@1.0.0" (instance $adds))
           (export "acme:jobs/math@1.0.0" (instance $adds))
           (export "sum" (func $add))"#,
    ]);
    let short: Vec<_> =
        inspection.functions.iter().map(|one| inspection.short_name(&one.name)).collect();
    assert_eq!(short, ["calc.add", "calc.sum", "math.add", "math.sum", "sum"]);
    for (form, function) in short.iter().zip(&inspection.functions) {
        assert_eq!(inspection.function(form), Ok(function));
    }
    assert_eq!(
        inspection.function("add").unwrap_err().to_string(),
        "`add` names several functions; say which: `calc.add`, `math.add`"
    );
}

#[test]
fn an_inspection_survives_json() {
    let inspection = accepted(&[ADD, r#"(export "add" (func $add))"#]);
    let json = serde_json::to_string(&inspection).unwrap();
    assert_eq!(serde_json::from_str::<Inspection>(&json).unwrap(), inspection);
}
