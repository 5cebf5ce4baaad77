//! Entity tags: a short text that stands for what a resource says, and for nothing else. Whoever writes
//! shows by it what they have seen.

use std::hash::Hasher as _;

use serde::Serialize;
use serde_json::Value;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::{Kind, State};

/// The tag of a resource. Its content decides and not its revision: what was taken back is what it was.
pub fn tag<T: Serialize + ?Sized>(resource: &T) -> String {
    // Through a value, since the history keeps values: members in one order, whatever the type's is.
    let value = serde_json::to_value(resource).unwrap_or(Value::Null);
    let mut hasher = SipHasher13::new();
    hasher.write(value.to_string().as_bytes());
    format!("{:032x}", hasher.finish128().as_u128())
}

impl State {
    /// A resource as the history keeps it; none where there is none.
    #[must_use]
    pub fn value(&self, kind: Kind, name: &str) -> Option<Value> {
        let value = match kind {
            Kind::Flag => serde_json::to_value(&**self.flags.get(name)?),
            Kind::Module => serde_json::to_value(&**self.modules.get(name)?),
            Kind::Provider => serde_json::to_value(&**self.providers.get(name)?),
            Kind::Segment => serde_json::to_value(&**self.segments.get(name)?),
            Kind::OrganisationModule => serde_json::to_value(&**self.organisation_modules.get(name)?),
            Kind::Settings => serde_json::to_value(&*self.settings),
            Kind::Set => serde_json::to_value(&**self.sets.get(name)?),
            Kind::KeySet => serde_json::to_value(&**self.key_sets.get(name)?),
            Kind::Key => serde_json::to_value(&**self.keys.get(name)?),
            Kind::Manifest => serde_json::to_value(&**self.manifests.get(name)?),
        };
        value.ok()
    }
}
