//! Which organisations a module serves, and what it is told of them. It knows nothing of tokens: the
//! caller's organisation has been verified before.

use alloc::{boxed::Box, format, string::String};
use core::fmt::Write as _;
use hashbrown::HashMap;
use serde_json::{Map, Value};

use crate::decision::{Reason, Refusal};
use crate::policy::compile::Problems;
use crate::policy::wire::{self, EnabledFor};

/// Longest configuration, written as it is told: every hop of a request carries it.
const LONGEST: usize = 4_096;

/// Which organisations a module serves.
#[derive(Debug, Default)]
pub struct Enablement {
    listed_only: bool,
    organisations: HashMap<Box<str>, Record>,
}

/// What is said of one organisation.
#[derive(Debug)]
pub struct Record {
    enabled: bool,
    /// What the module is told of it: JSON, in visible ASCII and blanks.
    pub configuration: Option<Box<str>>,
}

impl Enablement {
    pub(crate) fn compile(module: &wire::Module, at: &str, problems: &mut Problems) -> Self {
        let mut organisations = HashMap::new();
        for (index, said) in module.organisations.iter().enumerate() {
            let at = format!("{at}.organisations[{index}]");
            let configuration = said.configuration.as_ref().map(header);
            problems.check(
                &format!("{at}.configuration"),
                configuration.as_ref().is_none_or(|written| written.len() <= LONGEST),
                "it is too long for a header: 4,096 bytes as JSON, with all but ASCII escaped",
            );
            let name = &*said.organisation;
            problems.check(&format!("{at}.organisation"), !name.is_empty(), "an organisation has a name");
            let record = Record { enabled: said.enabled, configuration };
            if organisations.insert(name.into(), record).is_some() {
                problems.add(&format!("{at}.organisation"), format!("`{name}` is there already"));
            }
        }
        Self { listed_only: module.enabled_for == EnabledFor::Listed, organisations }
    }

    /// What is said of the organisation, if it may use the module.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, organisation: Option<&str>) -> Result<Option<&Record>, Refusal> {
        // Most modules serve everybody, and say nothing of anybody.
        let record = match organisation {
            Some(name) if !self.organisations.is_empty() => self.organisations.get(name),
            _ => None,
        };
        if record.map_or(!self.listed_only, |record| record.enabled) {
            Ok(record)
        } else {
            Err(Refusal::new(Reason::ModuleNotEnabled))
        }
    }
}

/// JSON as a header holds it: what is not ASCII is escaped, as RFC 8259 §7 has it.
fn header(configuration: &Map<String, Value>) -> Box<str> {
    let json = serde_json::to_string(configuration).unwrap_or_default();
    let mut written = String::with_capacity(json.len());
    for c in json.chars() {
        if c < '\x7f' {
            written.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(written, "\\u{unit:04x}");
        }
    }
    written.into()
}
