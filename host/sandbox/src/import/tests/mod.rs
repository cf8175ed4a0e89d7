//! Guests in text form that import one thing each: everything known is linked, and what is refused is noted.

mod files;
mod http;
mod keyvalue;
mod linked;
mod settings;
mod sockets;
mod task;

use std::sync::{Arc, OnceLock};

use crate::{Call, Grants, Outcome, Output, Sandbox};

fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::builder().open().expect("the engine runs here"))
}

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A host function that a guest calls: how it is reached in the component, or `drop` and a resource, and its core type.
struct Host<'a> {
    name: &'a str,
    func: &'a str,
    ty: &'a str,
}

/// A component that exports `run() -> u32`. `imports` is text of the component, `body` of its core module, which calls
/// each host function under its name; the first 32 KiB of the memory are its own, the rest is handed out to the host.
fn guest(imports: &str, hosts: &[Host<'_>], body: &str) -> Vec<u8> {
    let lowered = |host: &Host<'_>| {
        let Host { name, func, .. } = host;
        if let Some(resource) = func.strip_prefix("drop ") {
            return format!("(core func ${name} (canon resource.drop {resource}))\n");
        }
        format!(
            "(core func ${name} (canon lower (func {func}) (memory (core memory $libc \"memory\"))
               (realloc (core func $libc \"realloc\"))))\n"
        )
    };
    let imported = |Host { name, ty, .. }: &Host<'_>| {
        format!("(import \"host\" \"{name}\" (func ${name} {ty}))\n")
    };
    let given = |Host { name, .. }: &Host<'_>| format!("(export \"{name}\" (func ${name}))");
    let all = |write: &dyn Fn(&Host<'_>) -> String| hosts.iter().map(write).collect::<String>();
    let (lowered, imported, given) = (all(&lowered), all(&imported), all(&given));
    binary(&format!(
        r#"(component {imports}
             (core module $libc
               (memory (export "memory") 4)
               (global $next (mut i32) (i32.const 32768))
               (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                 (local $at i32)
                 (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
                 (global.set $next (i32.add (local.get $at) (local.get 3)))
                 (local.get $at)))
             (core instance $libc (instantiate $libc))
             {lowered}
             (core module $code (import "libc" "memory" (memory 1)) {imported} {body})
             (core instance $code (instantiate $code
               (with "libc" (instance $libc)) (with "host" (instance {given}))))
             (func (export "run") (result u32) (canon lift (core func $code "run"))))"#
    ))
}

/// Text of a core module: what stands in its memory at the address 0.
fn data(text: &str) -> String {
    format!("(data (i32.const 0) \"{text}\")")
}

fn granting(grants: Grants) -> Call {
    Call { grants: Arc::new(grants), ..Call::default() }
}

fn run(guest: &[u8], call: Call) -> Outcome {
    let module = sandbox().load(guest).unwrap_or_else(|error| panic!("{error}"));
    module.function("run").expect("`run`").call_blocking(b"\x80", call)
}

/// Runs a guest to its end and gives back its number and what it was denied.
fn run_to_end(guest: &[u8], call: Call) -> (u64, Vec<String>) {
    let outcome = run(guest, call);
    let denials = outcome.denials.iter().map(ToString::to_string).collect();
    match outcome.result {
        Ok(Output::Value(value)) => (ciborium::from_reader(&value[..]).expect("a number"), denials),
        other => panic!("{other:?}; denied {denials:?}"),
    }
}
