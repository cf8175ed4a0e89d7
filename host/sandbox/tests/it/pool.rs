//! The pool: what a guest leaves in a slot, what fits into one, and what happens where there is no room for a pool.

use omniq_model::Kind;
use omniq_sandbox::{Admission, Allocation, Call, Limits, Output, Sandbox};

use crate::kit::{block_on, call, component, function, plain, pool};
use crate::limits::sleeper_with;

/// Fills what it has with a byte, and says how much of it was not zero before: its memory of 4 MiB, twice what stays with
/// a slot, and a table.
fn looks_and_fills() -> Vec<u8> {
    component(
        r#"(component
             (core module $code
               (memory 64)
               (table $t 10 1000 funcref)
               (elem declare func $f)
               (func $f)
               (func (export "run") (result i32) (local $at i32) (local $found i32)
                 (loop $memory
                   (local.set $found (i32.add (local.get $found) (i32.ne (i32.load8_u (local.get $at)) (i32.const 0))))
                   (i32.store8 (local.get $at) (i32.const 0x55))
                   (br_if $memory (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 4194304))))
                 (drop (table.grow $t (ref.null func) (i32.const 900)))
                 (local.set $at (i32.const 0))
                 (loop $table
                   (local.set $found (i32.add (local.get $found)
                     (i32.eqz (ref.is_null (table.get $t (local.get $at))))))
                   (table.set $t (local.get $at) (ref.func $f))
                   (br_if $table (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 910))))
                 (local.get $found)))
             (core instance $code (instantiate $code))
             (func (export "run") (result u32) (canon lift (core func $code "run"))))"#,
    )
}

#[test]
fn a_slot_is_clean_whoever_had_it_before() {
    let pool = pool(1);
    let (one, other) = (looks_and_fills(), looks_and_fills());
    // The same code, of which the slot may keep an image, and other code.
    let other = [&other[..], b"\x00\x06\x05other"].concat();
    for guest in [&one, &one, &other, &one] {
        let function = function(&pool, guest);
        for outcome in
            [function.call_blocking(b"\x80", call()), block_on(function.call(b"\x80", call()))]
        {
            assert_eq!(outcome.result, Ok(Output::Value(vec![0])), "nothing is left");
        }
    }
}

#[test]
fn what_the_limits_allow_fits_into_a_slot() {
    let pool = pool(1);
    for (what, guest) in [
        ("instances", of_parts(199, "")),
        ("memories", of_parts(16, "(memory 1)")),
        ("memories of one module", of_parts(1, &"(memory 1)".repeat(16))),
        ("tables", of_parts(100, "(table 100 funcref)")),
        ("tables of one module", of_parts(1, &"(table 100 funcref)".repeat(100))),
        ("a large table", of_parts(1, "(table 200000 funcref)")),
    ] {
        let outcome = function(&pool, &guest).call_blocking(b"\x80", call());
        assert_eq!(outcome.result, Ok(Output::Value(vec![0xf6])), "{what}");
    }
}

/// A component of `count` instances of a core module with this body, and one that does nothing.
fn of_parts(count: usize, part: &str) -> Vec<u8> {
    let instances = "(core instance (instantiate $part))".repeat(count);
    component(&format!(
        "(component (core module $part {part}) {instances}
           (core module $code (func (export \"run\"))) (core instance $code (instantiate $code))
           (func (export \"run\") (canon lift (core func $code \"run\"))))"
    ))
}

#[test]
fn a_guest_of_many_parts_takes_the_room_of_several() {
    // A pool for 8 has 400 tables.
    let pool = pool(8);
    let limits = || Limits { tables: 1000, instances: 1000, ..Limits::default() };
    let run = |guest: &[u8]| {
        let function = function(&pool, guest);
        let call = || Call { limits: limits(), ..call() };
        for outcome in
            [function.call_blocking(b"\x80", call()), block_on(function.call(b"\x80", call()))]
        {
            assert_eq!(outcome.result, Ok(Output::Value(vec![0xf6])));
        }
        assert_eq!(pool.free_slots(), 8, "all that was taken is given back");
    };
    run(&of_parts(4, &"(table 0 funcref)".repeat(100)));

    let tables = "(table 0 funcref)".repeat(100);
    let parts = format!(
        "(core module $part {tables}) (core instance (instantiate $part)) (core instance (instantiate $part))"
    );
    let asleep = function(&pool, &sleeper_with(&parts));
    let heavy = function(&pool, &of_parts(201, "(table 0 funcref)"));
    block_on(async {
        let call = move || Call { limits: limits(), ..call() };
        let held = tokio::spawn(async move { asleep.call(b"\x80", call()).await });
        while pool.free_slots() == 8 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.free_slots(), 4, "half of the tables are half of the slots");
        let refused = Call { admission: Admission::Refuse, ..call() };
        let refused = heavy.call(b"\x80", refused).await;
        assert_eq!(refused.result.expect_err("there is no room").kind, Kind::NoCapacity);
        let waiting = tokio::spawn(async move { heavy.call(b"\x80", call()).await });
        held.abort();
        assert_eq!(waiting.await.expect("runs").result, Ok(Output::Value(vec![0xf6])));
    });
}

#[test]
fn a_table_that_outgrows_its_slot_is_a_limit_too() {
    let guest = plain(
        "(table $t 0 funcref)
         (func (export \"run\")
           (loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)",
        "",
    );
    let limits = Limits { table_elements: 1_000_000, ..Limits::default() };
    let outcome = function(&pool(1), &guest).call_blocking(b"\x80", Call { limits, ..call() });
    let failure = outcome.result.expect_err("there is an end");
    assert_eq!(failure.kind, Kind::Tables);
    assert!(failure.message.ends_with("its limit is 200000"), "{failure}");
}

#[test]
fn a_pool_without_room_falls_back_to_memory_on_demand_and_keeps_its_number() {
    let instances = 1_000_000;
    let sandbox = Sandbox::builder().allocation(Allocation::Pooled { instances }).open();
    let sandbox = sandbox.expect("opens all the same");
    assert_eq!(sandbox.allocation(), Allocation::OnDemand);
    assert_eq!(sandbox.free_slots(), instances as usize);
    let outcome =
        function(&sandbox, &plain("(func (export \"run\"))", "")).call_blocking(b"\x80", call());
    assert_eq!(outcome.result, Ok(Output::Value(vec![0xf6])));
}
