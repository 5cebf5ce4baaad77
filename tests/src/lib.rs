//! The harness: real Envoys, the flag service, upstreams and a token issuer, each on free loopback
//! ports and ended on drop. Used by the system tests and by the demo, so nothing here needs `#[test]`.

pub mod arbitrary;
pub mod certificates;
pub mod client;
pub mod corpus;
pub mod delta;
pub mod envoy;
pub mod grpc_client;
pub mod issuer;
pub mod modules;
pub mod mortal;
pub mod openfeature;
pub mod paths;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod random;
pub mod raw;
pub mod reflector;
pub mod schemathesis;
pub mod scripted;
pub mod seed;
pub mod service;
pub mod shipped;
pub mod stack;
pub mod static_config;
pub mod tidy;
pub mod upstream;
pub mod vectors;
pub mod wait;
pub mod wasm_host;
pub mod workdir;
pub mod xds_server;
