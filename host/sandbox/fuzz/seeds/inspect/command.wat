(component
  (import "wasi:cli/environment@0.2.3" (instance
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "input-stream" (type (sub resource)))))
  (import "acme:shapes/types@1.0.0" (instance (export "point" (type (sub resource)))))
  (core module $m (func (export "run") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $runs (export "run" (func $run)))
  (export "wasi:cli/run@0.2.3" (instance $runs)))
