;; A filter that accepts its configuration once per Envoy and refuses it from then on. The first
;; to ask is the trial on the main thread, so every worker is refused. What was asked before is
;; remembered in shared data, the one place that VMs have in common.
(module
  (import "env" "proxy_get_shared_data"
    (func $get_shared_data (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data"
    (func $set_shared_data (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property"
    (func $set_property (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "rampart.decision")
  (data (i32.const 16) "pass")
  (data (i32.const 32) "asked")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32))
  (func (export "proxy_on_configure") (param $context i32) (param $size i32) (result i32)
    ;; Status 0 says that the key is there; the value, its size and its version go to scratch.
    (if (i32.eqz (call $get_shared_data
          (i32.const 32) (i32.const 5) (i32.const 64) (i32.const 68) (i32.const 72)))
      (then (return (i32.const 0))))
    (drop (call $set_shared_data
      (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 1) (i32.const 0)))
    (i32.const 1))
  (func (export "proxy_on_request_headers")
    (param $context i32) (param $headers i32) (param $end i32) (result i32)
    (drop (call $set_property (i32.const 0) (i32.const 16) (i32.const 16) (i32.const 4)))
    (i32.const 0)))
