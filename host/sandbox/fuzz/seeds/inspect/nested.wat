(component
  (component $inner
    (import "f" (func $f (param "x" (option (tuple u8 u8)))))
    (export "f" (func $f)))
  (core module $m (func (export "f") (param i32 i32 i32)))
  (core instance $i (instantiate $m))
  (func $f (param "x" (option (tuple u8 u8))) (canon lift (core func $i "f")))
  (instance $o (instantiate $inner (with "f" (func $f))))
  (export "outer" (instance $o))
  (export "part" (component $inner)))
