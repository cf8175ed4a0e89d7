;; A command that writes its stdin to its stdout.
(component
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "input-stream" (type $input (sub resource)))
    (export "output-stream" (type $output (sub resource)))
    (alias outer 1 $error (type $inner))
    (export "error" (type $same (eq $inner)))
    (type $failure' (variant (case "last-operation-failed" (own $same)) (case "closed")))
    (export "stream-error" (type $failure (eq $failure')))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $failure)))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $failure)))))))
  (alias export $streams "input-stream" (type $input))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input (type $inner))
    (export "input-stream" (type $same (eq $inner)))
    (export "get-stdin" (func (result (own $same))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $inner))
    (export "output-stream" (type $same (eq $inner)))
    (export "get-stdout" (func (result (own $same))))))

  ;; What is read always lands in the same place.
  (core module $memory (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $memory (instantiate $memory))
  (core func $stdin (canon lower (func $stdin "get-stdin")))
  (core func $stdout (canon lower (func $stdout "get-stdout")))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))

  (core module $code
    (import "" "memory" (memory 1))
    (import "" "stdin" (func $stdin (result i32)))
    (import "" "stdout" (func $stdout (result i32)))
    (import "" "read" (func $read (param i32 i64 i32)))
    (import "" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (result i32) (local $from i32) (local $to i32)
      (local.set $from (call $stdin))
      (local.set $to (call $stdout))
      (loop $again
        (call $read (local.get $from) (i64.const 4096) (i32.const 0))
        (if (i32.eqz (i32.load8_u (i32.const 0)))
          (then
            (call $write (local.get $to) (i32.load (i32.const 4)) (i32.load (i32.const 8)) (i32.const 16))
            (br $again))))
      (i32.const 0)))
  (core instance $code (instantiate $code (with "" (instance
    (export "memory" (memory $memory "memory"))
    (export "stdin" (func $stdin)) (export "stdout" (func $stdout))
    (export "read" (func $read)) (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
