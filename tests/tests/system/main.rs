//! System tests: real Envoys, real processes, one binary. A test is a function that calls
//! `system_test` and works in the folder it is given.
//!
//! Where a new test goes:
//!
//! - `harness`: the harness itself does what tests rely on.
//! - `access`: Envoys prove which node they are; certificates change under running streams.
//! - `attach`: `envoy/attach.yaml`, an Envoy that somebody else configures.
//! - `attestation`: what a filter that is absent, broken or half configured means for a request.
//! - `counts`: what Envoy counts of requests by what the filter decided.
//! - `discovery`: filters that arrive, fail and are replaced while Envoy runs.
//! - `balancing`: which endpoint of a module does a request go to?
//! - `documents`: what documents show is what happens.
//! - `effects`: what flags change about a request, as the router and the upstream see it.
//! - `failures`: what each failure looks like to callers and to operators.
//! - `fallback`: endpoints that are killed under load, and who serves in their place.
//! - `grpc_clients`: the xDS server, and clients of it that are no Envoys.
//! - `headers`: headers that only Rampart may set, sent by a client.
//! - `hostile`: traffic that no honest client sends.
//! - `internal`: modules that call one another.
//! - `jwt_corpus`: which tokens are believed, next to Envoy's own filter.
//! - `limits`: how many requests a module takes, and which headers are changed for it.
//! - `modules`: what a manifest says of a module: version, aliases, tenant, path, timeout, retries.
//! - `openfeature`: real OpenFeature clients, the flag service and Envoy about the same flags.
//! - `organisations`: for whom modules are enabled.
//! - `passing`: what passes, passes as it is, and leaves no token behind.
//! - `paths`: a gated path, spelt in every way that clients have tried.
//! - `presets/mod`: the messaging preset, one test for each flag's effect; its files:
//! - `presets/delivery`: priority, concurrency, connections, sizes, parallel attempts.
//! - `presets/observation`: what is logged, counted and shown.
//! - `presets/ordering`: which endpoint gets a request.
//! - `presets/shipped`: the preset's files and its page say the same.
//! - `presets/timing`: timeouts and bounds by latency.
//! - `presets/trying`: retries, and endpoints that are avoided.
//! - `pushes`: many policies, one after another.
//! - `reference`: the API does what its own document says.
//! - `refusals`: changes that are refused, and changes that are taken back.
//! - `registry`: manifests in a folder, from the file to the request, and what becomes of broken ones.
//! - `replicas`: several services on one database, and services that are killed in the midst of changes.
//! - `resilience`: parts that come late, go away and come back.
//! - `rollout`: a percentage, raised, for ten thousand organisations.
//! - `rotation`: issuers' keys that are fetched, rotated and out of reach.
//! - `routing`: where requests go, by caller, flag and path.
//! - `running`: what Envoys report of themselves, as the flag service tells it.
//! - `static_variant`: `envoy/static.yaml`, the filter and the policy without the flag service.
//! - `transparent`: what passes, passes as without the filter.
//! - `upstreams`: what a manifest says of a module's endpoints: health, limits, encryption, protocol.
//! - `vectors`: the frozen bucketing vectors, in Envoy.
//! - `waiting`: a change is there when Envoy has it.
//!
//! One file per behaviour; a regression is named after what went wrong. A new behaviour is a new
//! file, listed here.

mod access;
mod attach;
mod attestation;
mod balancing;
mod counts;
mod discovery;
mod documents;
mod effects;
mod failures;
mod fallback;
mod grpc_clients;
mod harness;
mod headers;
mod hostile;
mod internal;
mod jwt_corpus;
mod limits;
mod modules;
mod openfeature;
mod organisations;
mod passing;
mod paths;
mod presets;
mod pushes;
mod reference;
mod refusals;
mod registry;
mod replicas;
mod resilience;
mod rollout;
mod rotation;
mod routing;
mod running;
mod static_variant;
mod transparent;
mod upstreams;
mod vectors;
mod waiting;
