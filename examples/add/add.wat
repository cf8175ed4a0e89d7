;; The smallest useful component: one function, `add(a: s32, b: s32) -> s32`, written by hand.
;;
;; A component wraps a core module and gives its functions types that every language shares. Whole numbers travel as
;; they are, so this one needs no memory.
(component
  ;; The code: a core WebAssembly module.
  (core module $code
    (func (export "add") (param $a i32) (param $b i32) (result i32)
      (i32.add (local.get $a) (local.get $b))))

  ;; A module becomes code that can be called by being instantiated; this one imports nothing.
  (core instance $instance (instantiate $code))

  ;; `canon lift` gives the core function its type, with the names its callers use.
  (func (export "add") (param "a" s32) (param "b" s32) (result s32)
    (canon lift (core func $instance "add"))))
