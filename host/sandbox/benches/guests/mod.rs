//! The guests of the benchmarks, and the raw loops they are compared with.

use omniq_sandbox::{Allocation, Function, Profile, Sandbox};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter,
    Store,
};

/// A guest with a memory that a compiler would give it: `add` keeps its arguments on its stack.
pub fn add() -> Vec<u8> {
    guest(
        17,
        r#"(global $stack (mut i32) (i32.const 1048576)) (table 8 funcref) (data (i32.const 1024) "some data")
           (func (export "run") (param i32 i32) (result i32) (local $frame i32)
             (global.set $stack (local.tee $frame (i32.sub (global.get $stack) (i32.const 16))))
             (i32.store (local.get $frame) (local.get 0))
             (i32.add (i32.load (local.get $frame)) (local.get 1))
             (global.set $stack (i32.add (local.get $frame) (i32.const 16))))"#,
        r#"(param "a" s32) (param "b" s32) (result s32)"#,
    )
}

/// The same with 16 MiB of memory and 1 MiB of data.
pub fn add_in_a_large_memory() -> Vec<u8> {
    let data = "0123456789abcdef".repeat(1 << 16);
    guest(
        256,
        &format!(
            r#"(data (i32.const 65536) "{data}")
               (func (export "run") (param i32 i32) (result i32)
                 (i32.store (i32.const 8) (local.get 0)) (i32.add (i32.load (i32.const 8)) (local.get 1)))"#
        ),
        r#"(param "a" s32) (param "b" s32) (result s32)"#,
    )
}

/// Gives back the bytes it gets.
pub fn echo() -> Vec<u8> {
    guest(
        400,
        r#"(func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
           (func (export "run") (param i32 i32) (result i32)
             (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0))"#,
        r#"(param "data" (list u8)) (result (list u8))"#,
    )
}

/// Guests that compute for some milliseconds, by name.
pub fn busy() -> [(&'static str, Vec<u8>); 3] {
    let loops = |body: &str| guest(80, body, "(result s32)");
    [
        (
            "sieve of 5 million",
            loops(
                r#"(func (export "run") (result i32) (local $i i32) (local $j i32) (local $count i32)
                     (local.set $i (i32.const 2))
                     (loop $outer
                       (if (i32.eqz (i32.load8_u (local.get $i))) (then
                         (local.set $count (i32.add (local.get $count) (i32.const 1)))
                         (local.set $j (i32.shl (local.get $i) (i32.const 1)))
                         (block $done (loop $inner
                           (br_if $done (i32.ge_u (local.get $j) (i32.const 5000000)))
                           (i32.store8 (local.get $j) (i32.const 1))
                           (local.set $j (i32.add (local.get $j) (local.get $i)))
                           (br $inner)))))
                       (br_if $outer (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000000))))
                     (local.get $count))"#,
            ),
        ),
        (
            "fib(27), calls only",
            loops(
                r#"(func $fib (param i32) (result i32)
                     (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
                       (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                                      (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
                   (func (export "run") (result i32) (call $fib (i32.const 27)))"#,
            ),
        ),
        (
            "long dependency of 10 million",
            loops(
                r#"(func (export "run") (result i32) (local $i i32) (local $x i32)
                     (local.set $x (i32.const 1))
                     (loop $again
                       (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)))
                       (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000000))))
                     (local.get $x))"#,
            ),
        ),
    ]
}

fn guest(pages: u32, body: &str, signature: &str) -> Vec<u8> {
    let realloc =
        if body.contains("realloc") { "(realloc (core func $code \"realloc\"))" } else { "" };
    wat::parse_str(format!(
        r#"(component
             (core module $code (memory (export "memory") {pages}) {body})
             (core instance $code (instantiate $code))
             (func (export "run") {signature}
               (canon lift (core func $code "run") (memory (core memory $code "memory")) {realloc})))"#
    ))
    .expect("the text of a guest is right")
}

/// The sandbox as a worker opens it.
pub fn pooled(instances: u32) -> Sandbox {
    let sandbox =
        Sandbox::builder().profile(Profile::Strict).allocation(Allocation::Pooled { instances });
    sandbox.open().expect("the engine runs here")
}

pub fn function(sandbox: &Sandbox, bytes: &[u8]) -> Function {
    sandbox.load(bytes).expect("loads").function("run").expect("exports `run`")
}

/// The engine alone, set up as well as we know how: what any host built on it pays at the least.
pub struct Raw {
    pub engine: Engine,
    pub pre: InstancePre<Limits>,
    pub run: ComponentExportIndex,
}

/// A limiter that allows everything and counts, as the sandbox's does.
#[derive(Default)]
pub struct Limits(usize);

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.0 += desired - current;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

impl Raw {
    pub fn new(bytes: &[u8], metered: bool) -> Self {
        let mut pool = PoolingAllocationConfig::new();
        pool.linear_memory_keep_resident(2 << 20)
            .table_keep_resident(64 << 10)
            .async_stack_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config
            .concurrency_support(false)
            .consume_fuel(metered)
            .epoch_interruption(metered)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).expect("the engine runs here");
        let component = Component::from_binary(&engine, bytes).expect("compiles");
        let pre = Linker::new(&engine).instantiate_pre(&component).expect("links");
        let run = component.get_export_index(None, "run").expect("exports `run`");
        Self { engine, pre, run }
    }

    pub fn store(&self, metered: bool) -> Store<Limits> {
        let mut store = Store::new(&self.engine, Limits::default());
        if metered {
            store.limiter(|limits| limits);
            store.set_fuel(1 << 40).expect("fuel is on");
            store.set_epoch_deadline(1 << 40);
        }
        store
    }
}
