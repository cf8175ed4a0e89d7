;; The tasks of the tests that kill: quick ones, slow ones, one with a large result, and one that never ends.
;;
;; `draw` and `rest` return random numbers, so that two runs of one task cannot be taken for each other.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $inner))
    (export "pollable" (type $same (eq $inner)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $same))))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-u64" (func (result u64)))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $draw (canon lower (func $random "get-random-u64")))

  (core module $code
    (import "" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "" "block" (func $block (param i32)))
    (import "" "draw" (func $draw (result i64)))
    (memory (export "memory") 1)
    (func (export "nothing"))
    (func (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func (export "draw") (result i64) (call $draw))
    (func (export "rest") (param $milliseconds i32) (result i64)
      (call $block (call $subscribe
        (i64.mul (i64.extend_i32_u (local.get $milliseconds)) (i64.const 1000000))))
      (call $draw))
    ;; So many bytes, all zero.
    (func (export "bulk") (param $length i32) (result i32)
      (drop (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $length) (i32.const 65536)))))
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (local.get $length))
      (i32.const 0))
    ;; `err`, which says no more than that.
    (func (export "refuse") (result i32) (i32.const 1))
    (func (export "spin") (loop (br 0))))
  (core instance $code (instantiate $code (with "" (instance
    (export "subscribe" (func $subscribe))
    (export "block" (func $block))
    (export "draw" (func $draw))))))

  (func (export "nothing") (canon lift (core func $code "nothing")))
  (func (export "twice") (param "number" u32) (result u32) (canon lift (core func $code "twice")))
  (func (export "draw") (result u64) (canon lift (core func $code "draw")))
  (func (export "rest") (param "milliseconds" u32) (result u64) (canon lift (core func $code "rest")))
  (func (export "bulk") (param "length" u32) (result (list u8))
    (canon lift (core func $code "bulk") (memory (core memory $code "memory"))))
  (func (export "refuse") (result (result)) (canon lift (core func $code "refuse")))
  (func (export "spin") (canon lift (core func $code "spin"))))
