(component
  (core module $m
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
  (core instance $i (instantiate $m))
  (func $add (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "add")))
  (instance $calc (export "add" (func $add)) (export "sum" (func $add)))
  (export "add" (func $add))
  (export "acme:jobs/calc@1.0.0" (instance $calc))
  (export "acme:jobs/calc@2.0.0" (instance $calc))
  (@custom "omniq:task" "{\"version\":1,\"functions\":{\"calc.sum\":{\"docs\":\"Sums.\"}}}"))
