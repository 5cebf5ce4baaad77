//! Headers that a module's endpoints see, or its callers, other than they were sent.

use std::collections::BTreeMap;

use rampart_engine::request::PRIVATE_HEADERS;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::change::malformed;
use super::super::{Module, Refusal};

/// Most headers of one list.
const MOST: usize = 64;
/// Longest value, in bytes.
const LONGEST: usize = 1_024;

/// By which a message is framed, sent on and understood at all: not a module's to change.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];
/// What is secret has no place in a manifest, which everybody may read.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Headers that are set, in place of what was sent, or removed. Nothing is added twice where a request is
/// tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Name and value of those that are set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Names of those that are removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl Headers {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

pub(super) fn check(module: &Module) -> Result<(), Refusal> {
    for (field, headers) in
        [("request_headers", &module.request_headers), ("response_headers", &module.response_headers)]
    {
        let refuse = |member: &str, problem: &str| Err(malformed(&format!("{field}.{member}"), problem));
        for (member, count) in [("set", headers.set.len()), ("remove", headers.remove.len())] {
            if count > MOST {
                return refuse(member, "at most 64 headers");
            }
        }
        for (name, value) in &headers.set {
            let member = format!("set.{name}");
            if let Some(problem) = unusable(name) {
                return refuse(&member, problem);
            }
            if SECRET.contains(&&**name) {
                return refuse(&member, "everybody may read a manifest: a secret has no place there");
            }
            let sound = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            if value.is_empty() || value.len() > LONGEST || !sound || value.trim() != value {
                return refuse(
                    &member,
                    "a value is 1 to 1,024 visible ASCII characters, and blanks between them",
                );
            }
        }
        for (index, name) in headers.remove.iter().enumerate() {
            let member = format!("remove[{index}]");
            if let Some(problem) = unusable(name) {
                return refuse(&member, problem);
            }
            if headers.set.contains_key(name) || headers.remove.iter().take(index).any(|other| other == name)
            {
                return refuse(&member, "it is set, or removed already");
            }
        }
    }
    Ok(())
}

/// Why a manifest may not name this header.
fn unusable(name: &str) -> Option<&'static str> {
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        return Some("a header's name is 1 to 128 lower-case letters, digits, `-`, `_` and `.`");
    }
    if FRAMING.contains(&name) {
        return Some("it frames or directs the message, and is Envoy's to say");
    }
    if PRIVATE_HEADERS.iter().any(|prefix| name.starts_with(prefix)) || name.starts_with("x-envoy-") {
        return Some("it is Rampart's or Envoy's own");
    }
    None
}
