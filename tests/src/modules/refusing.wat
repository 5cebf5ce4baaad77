;; A filter that refuses its configuration, wherever it is asked.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32))
  (func (export "proxy_on_configure") (param $context i32) (param $size i32) (result i32)
    (i32.const 0)))
