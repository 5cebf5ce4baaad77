//! What came of reading another system's flags: flags, and what could not be carried over as it was. It
//! knows none of those systems.

use rampart_engine::flag::Percentage;
use serde::Serialize;

use crate::model::Flag;

/// Flags that were made of another system's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Import {
    /// In the file's order.
    pub flags: Vec<Flag>,
    /// One for each thing that is not as it was.
    pub notes: Vec<Note>,
}

/// What could not be carried over as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
