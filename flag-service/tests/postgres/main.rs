//! Every test of `flag-service/tests/service`, on PostgreSQL, and what only a server does.
//!
//! - `copies`: backups of a server, and the way from one database to the other.
//! - `server`: connections that are told, encrypted, refused and lost.

#[path = "../service/main.rs"]
mod service;

mod copies;
mod server;

use service::{command, process, support};
