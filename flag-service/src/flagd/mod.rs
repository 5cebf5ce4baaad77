//! Flags as flagd defines them: the definitions that applications evaluate by themselves, written, read
//! and pushed. It knows nothing of how flags are stored.

mod door;
mod export;
mod import;
mod proto;
mod rules;
pub mod sync;
#[cfg(test)]
mod tests;

pub use door::Door;
pub use export::{Definition, LeftOut, export};
pub use import::import;

/// The name of the set of all flags, for flagd's selectors.
pub const FLAG_SET: &str = "rampart";

/// Members of an evaluation context, as in OFREP: the organisation, the subject, the request.
const ORGANISATION: &str = "targetingKey";
const SUBJECT: &str = "subject";
const REQUEST: &str = "requestId";

/// Members of a flag's metadata: what its rules alone do not tell.
mod metadata {
    /// flagd's generation, which an SDK must have to give the same answers.
    pub(super) const GENERATION: &str = "generation";
    /// What the flag is for.
    pub(super) const DESCRIPTION: &str = "description";
    /// Present, and true, while the flag is killed.
    pub(super) const KILLED: &str = "killed";
    /// Present, and false, while the flag is disabled.
    pub(super) const ENABLED: &str = "enabled";
    /// Prerequisites: `a` is on, `!b` is off, `c=blue` is on as `blue`; with commas between them.
    pub(super) const NEEDS: &str = "needs";
    /// The exclusive group, and where the flag's part of it ends, in percent.
    pub(super) const EXCLUSIVE_GROUP: &str = "exclusiveGroup";
    pub(super) const EXCLUSIVE_TO: &str = "exclusiveTo";
    /// Of the set: the reason why a flag is not in it, by `leftOut.` and the flag's key.
    pub(super) const LEFT_OUT: &str = "leftOut.";
}
