;; A filter that sets the filter state `wasm.rampart.decision` to "pass" on every request.
(module
  (import "env" "proxy_set_property"
    (func $set_property (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "rampart.decision")
  (data (i32.const 16) "pass")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32))
  (func (export "proxy_on_request_headers")
    (param $context i32) (param $headers i32) (param $end i32) (result i32)
    (drop (call $set_property (i32.const 0) (i32.const 16) (i32.const 16) (i32.const 4)))
    (i32.const 0)))
