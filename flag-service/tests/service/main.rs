//! The flag service in process: a real database, the real router on a free port, and the real
//! `rampart` command against it. No Envoy; nothing here knows what is sent to one. The database is a
//! SQLite file; `flag-service/tests/postgres` runs the same on PostgreSQL.
//!
//! - `access`: who may do what, and what is never told.
//! - `api`: what each endpoint answers, and the one shape of every refusal.
//! - `apply`: many resources as one change, and one flag back.
//! - `apply_command`: files and revisions, compared, applied and exported.
//! - `audit`: what the history proves, and what it finds.
//! - `backup`: copies of a database, and their way back.
//! - `command`: what `rampart` prints, and how it exits.
//! - `conditions`: what a write must have seen, and what a conflict tells.
//! - `durability`: what survives a restart, a second process and an asker who hangs up.
//! - `encryption`: certificates of the API, and where it listens without.
//! - `explain`: what somebody is said to get, and why.
//! - `features`: flags as switches, everything off at once, what the service says of itself.
//! - `flags`: kill, restore, and what must not change under a live flag.
//! - `formats`: JSON, YAML and pages, in and out.
//! - `imports`: what `rampart import` makes of other systems' flags, and the definition it takes back.
//! - `issuers`: tokens for the API whose keys are fetched.
//! - `jwks`: issuers' keys that are fetched.
//! - `keys`: writes that are sent again.
//! - `manual`: what the command line says of itself, and what shells complete.
//! - `ofrep`: what an OpenFeature client is answered.
//! - `openapi`: what the API says of itself.
//! - `organisations`: for whom modules are enabled.
//! - `people`: who joins and leaves, and one organisation or subject across all flags.
//! - `process`: how the process starts, ends and fails, and where its output goes.
//! - `registry`: a folder of manifests, the states of modules, and what the management API says of them.
//! - `running`: what is told of what Envoys report.
//! - `schema`: databases of other versions.
//! - `segments`: lists of organisations that flags name.
//! - `sync`: what an application gets that evaluates flags itself.
//! - `terminal`: what people see on a terminal.
//! - `writes`: revisions, refusals, conflicts, reverting.
//!
//! A new test goes where its first sentence fits.

mod access;
mod api;
mod apply;
mod apply_command;
mod audit;
mod backup;
pub(crate) mod command;
mod conditions;
mod durability;
mod encryption;
mod explain;
mod features;
mod flags;
mod formats;
mod imports;
mod issuers;
mod jwks;
mod keys;
mod manual;
mod ofrep;
mod openapi;
mod organisations;
mod people;
pub(crate) mod process;
mod registry;
mod running;
mod schema;
mod segments;
pub(crate) mod support;
mod sync;
mod terminal;
mod writes;
