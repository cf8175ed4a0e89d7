(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "draw") (param i32 i32 i32 i32 i32 i32 i32 i64 f64) (result i32) unreachable))
  (core instance $i (instantiate $m))
  (type $color' (enum "red" "green")) (export $color "color" (type $color'))
  (type $style' (flags "bold" "dim")) (export $style "style" (type $style'))
  (type $point' (record (field "x" s32) (field "color" $color))) (export $point "point" (type $point'))
  (type $shape' (variant (case "dot" $point) (case "nothing"))) (export $shape "shape" (type $shape'))
  (func $draw
    (param "shapes" (list $shape)) (param "style" $style) (param "at" (tuple u8 char))
    (param "name" string) (param "long" u64) (param "scale" f64)
    (result (result $point (error string)))
    (canon lift (core func $i "draw") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (export "draw" (func $draw)))
