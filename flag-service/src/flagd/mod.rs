//! Flags as flagd defines them: the definitions that applications evaluate by themselves, written, read
//! and pushed. It knows nothing of how flags are stored.

mod export;
mod import;
mod rules;
#[cfg(test)]
mod tests;

pub use export::{Definition, LeftOut, export};
pub use import::import;

use rampart_engine::flag::Percentage;

use crate::model::Flag;

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

/// Flags that were made of another system's, and what could not be carried over as it was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Import {
    /// In the file's order.
    pub flags: Vec<Flag>,
    /// One for each thing that is not as it was.
    pub notes: Vec<Note>,
}

/// What could not be carried over as it was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The flag's key.
    pub flag: String,
    /// What, and what became of it.
    pub note: String,
    /// Whether the flag is missing altogether.
    pub left_out: bool,
}

/// What becomes of a flag that enrols other organisations here than where it comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rebucketing {
    /// It begins at 0 %: nobody gets what they did not have.
    #[default]
    FromZero,
    /// It keeps its percentage, of other organisations.
    Accept,
}

impl Import {
    pub(crate) fn note(&mut self, flag: &str, note: impl Into<String>) {
        self.notes.push(Note { flag: flag.to_owned(), note: note.into(), left_out: false });
    }

    pub(crate) fn leave_out(&mut self, flag: &str, reason: impl Into<String>) {
        self.notes.push(Note { flag: flag.to_owned(), note: reason.into(), left_out: true });
    }

    /// Settles the percentage of a flag whose organisations are others than before. At 0 and at 100
    /// there is nobody to tell apart.
    pub(crate) fn rebucket(&mut self, flag: &mut Flag, why: &str, rebucketing: Rebucketing) {
        let percentage = flag.percentage;
        if [Percentage::ZERO, Percentage::FULL].contains(&percentage) {
            return;
        }
        let becomes = match rebucketing {
            Rebucketing::Accept => format!("{percentage} % are other organisations than before"),
            Rebucketing::FromZero => {
                flag.percentage = Percentage::ZERO;
                format!("it is at 0 % instead of {percentage} %, unless re-bucketing is accepted")
            }
        };
        self.note(&flag.key, format!("{why}: {becomes}"));
    }
}
