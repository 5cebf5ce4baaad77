;; A filter that does nothing. With only these exports the host calls it once per context and never
;; again, so this is the least that a wasm filter costs.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32)))
