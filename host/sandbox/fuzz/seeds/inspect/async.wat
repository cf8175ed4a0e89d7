(component
  (core module $m
    (func (export "wait") (result i32) (i32.const 0))
    (func (export "read") (param i32))
    (func (export "back") (param i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $wait async (canon lift (core func $i "wait") async (callback (core func $i "back"))))
  (func $read (param "from" (stream u8)) (canon lift (core func $i "read")))
  (type $blob' (resource (rep i32)))
  (export $blob "blob" (type $blob'))
  (export "wait" (func $wait))
  (export "read" (func $read)))
