;; A filter that traps on every request, as a panic does.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32))
  (func (export "proxy_on_request_headers")
    (param $context i32) (param $headers i32) (param $end i32) (result i32)
    unreachable))
