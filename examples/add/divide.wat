;; A function that can fail: `divide(a: s32, b: s32) -> result<s32, string>`.
;;
;; A `result` does not fit into one number, so the function writes it to its memory and returns where.
(component
  (core module $code
    (memory (export "memory") 1)
    ;; The text of the one error, at address 32.
    (data (i32.const 32) "division by zero")

    (func (export "divide") (param $a i32) (param $b i32) (result i32)
      ;; The result lies at address 0: byte 0 says `ok` (0) or `err` (1), the value begins at byte 4.
      (if (i32.eqz (local.get $b))
        (then
          (i32.store8 (i32.const 0) (i32.const 1))
          (i32.store (i32.const 4) (i32.const 32))    ;; where the text begins
          (i32.store (i32.const 8) (i32.const 16)))   ;; and how many bytes it has
        (else
          ;; Every call starts with a fresh memory, but a good habit costs nothing: write all of it.
          (i32.store8 (i32.const 0) (i32.const 0))
          ;; Traps when the lowest number is divided by -1: the one quotient that does not fit.
          (i32.store (i32.const 4) (i32.div_s (local.get $a) (local.get $b)))))
      (i32.const 0)))

  (core instance $instance (instantiate $code))

  (func (export "divide") (param "a" s32) (param "b" s32) (result (result s32 (error string)))
    ;; The memory is named because the result, and the text in it, are read from there.
    (canon lift (core func $instance "divide") (memory (core memory $instance "memory")))))
