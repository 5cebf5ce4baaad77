//! What is said of one organisation's use of one module: whether it may, and how the module is set up
//! for it. It stays when the module is removed, for when that comes back.

use std::sync::Arc;

use rampart_engine::policy::wire::Organisation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::change::malformed;
use super::{Kind, Refusal, State};

/// Longest organisation, in bytes: what a token's claim may hold is bounded by its header.
const LONGEST: usize = 1_024;

/// What is said of one organisation's use of one module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganisationModule {
    /// The module's id.
    pub module: String,
    /// The organisation.
    pub organisation: String,
    /// Whether it may use the module.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// How the module is set up for it. The module is told where its manifest says `tell_configuration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Map<String, Value>>,
    /// Who was the first to say something of it. It is kept by the service: what a document says of it does not
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When that was (RFC 3339, UTC). It is kept by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

impl OrganisationModule {
    /// The name under which it is kept: no module's id has a slash in it.
    #[must_use]
    pub fn name(module: &str, organisation: &str) -> String {
        format!("{module}/{organisation}")
    }
}

impl State {
    /// What is said of organisations and this module, in the order of their names.
    pub fn organisations_of(&self, module: &str) -> impl Iterator<Item = &OrganisationModule> {
        let from = OrganisationModule::name(module, "");
        let its = self.organisation_modules.range(from..).map(|(_, record)| &**record);
        its.take_while(move |record| record.module == module)
    }

    /// The same, as the module's filters need it.
    pub(super) fn enablements(&self, module: &super::Module) -> Vec<Organisation> {
        let told = |record: &OrganisationModule| {
            if module.tell_configuration { record.configuration.clone() } else { None }
        };
        let its = self.organisations_of(&module.id).map(|record| Organisation {
            organisation: record.organisation.clone(),
            enabled: record.enabled,
            configuration: told(record),
        });
        its.collect()
    }

    /// Sets what is said of an organisation and a module, new or not. Who was the first to stays.
    pub(super) fn put_organisation_module(&mut self, mut record: OrganisationModule) -> Result<(), Refusal> {
        let name = &record.organisation;
        if name.is_empty() || name.len() > LONGEST || name.contains(char::is_control) {
            return Err(malformed(
                "organisation",
                "an organisation is a text of 1 to 1,024 bytes, on one line",
            ));
        }
        let name = OrganisationModule::name(&record.module, name);
        if let Some(before) = self.organisation_modules.get(&name) {
            record.created_by.clone_from(&before.created_by);
            record.created_at.clone_from(&before.created_at);
        }
        self.organisation_modules.insert(name, Arc::new(record));
        Ok(())
    }

    /// That there must be such a module.
    pub(super) fn known_module(&self, module: &str) -> Result<(), Refusal> {
        if self.modules.contains_key(module) { Ok(()) } else { Err(self.missing(Kind::Module, module)) }
    }
}

const fn yes() -> bool {
    true
}
