;; A command that fails, and a function that does what a command may and a function may not: exit.
(component
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (core func $exit (canon lower (func $exit "exit")))
  (core module $code
    (import "" "exit" (func $exit (param i32)))
    (func (export "run") (result i32) (i32.const 1))
    (func (export "leave") (call $exit (i32.const 0))))
  (core instance $code (instantiate $code (with "" (instance (export "exit" (func $exit))))))
  (func (export "leave") (canon lift (core func $code "leave")))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
