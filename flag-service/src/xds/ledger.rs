//! What was sent on one stream and what the client said of it: nonces, acks and nacks. It knows
//! neither resources nor which variant of the protocol the stream speaks.

use std::collections::{BTreeMap, VecDeque};

use envoy_types::pb::google::rpc::Status;

use super::protocol::{Push, Verdict};
use super::role::Progress;
use super::snapshot::Kind;

/// Responses per type that may wait for their ack; the oldest is forgotten first. A client that
/// reads but never answers must not make us remember for ever.
const OUTSTANDING: usize = 64;

/// The nonces of one stream.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    issued: u64,
    outstanding: BTreeMap<Kind, VecDeque<(String, Push)>>,
    /// The last nonce of each type, also when it has been answered.
    last: BTreeMap<Kind, String>,
    /// The version of each type that the client refused and has not replaced.
    refused: BTreeMap<Kind, String>,
}

impl Ledger {
    /// A new stream of a client that refused these versions on an earlier one.
    pub(super) fn new(refused: BTreeMap<Kind, String>) -> Self {
        Self { refused, ..Self::default() }
    }

    /// A nonce that this stream has not seen.
    pub(super) fn issue(&mut self, kind: Kind, push: Push) -> String {
        self.issued += 1;
        let nonce = self.issued.to_string();
        let outstanding = self.outstanding.entry(kind).or_default();
        if outstanding.len() == OUTSTANDING {
            outstanding.pop_front();
        }
        outstanding.push_back((nonce.clone(), push));
        self.last.insert(kind, nonce.clone());
        nonce
    }

    /// The nonce of the newest response of that type.
    pub(super) fn last(&self, kind: Kind) -> Option<&str> {
        self.last.get(&kind).map(String::as_str)
    }

    /// Notes what a request says of the response with that nonce; `error` is what makes it a nack.
    /// Older responses of the type are settled with it, since a client answers in order.
    ///
    /// An ack of the very version that was refused is not believed: Envoy compares an extension
    /// with the last one it was sent, not with the one it runs.
    pub(super) fn settle(&mut self, kind: Kind, nonce: &str, error: Option<&Status>) -> Option<Verdict> {
        let outstanding = self.outstanding.get_mut(&kind)?;
        let place = outstanding.iter().position(|(issued, _)| issued == nonce)?;
        let (_, push) = outstanding.drain(..=place).next_back()?;
        match error {
            Some(_) => self.refused.insert(kind, push.version.clone()),
            None if self.refused.get(&kind) == Some(&push.version) => return None,
            None => self.refused.remove(&kind),
        };
        Some(Verdict { kind, push, error: error.map(|status| status.message.clone()) })
    }

    /// Whether the client refused that version and has not accepted another since.
    pub(super) fn is_refused(&self, kind: Kind, version: &str) -> bool {
        self.refused.get(&kind).is_some_and(|refused| refused == version)
    }

    /// Forgets a refusal: the client has started anew, and may judge again.
    pub(super) fn pardon(&mut self, kind: Kind) {
        self.refused.remove(&kind);
    }

    /// How far the client is with what it was sent of that type; also when that is nothing.
    pub(super) fn progress(&self, kind: Kind) -> Progress {
        if self.outstanding.get(&kind).is_some_and(|waiting| !waiting.is_empty()) {
            Progress::Open
        } else if self.refused.contains_key(&kind) {
            Progress::Refused
        } else {
            Progress::Settled
        }
    }

    /// Whether the client has accepted all it was sent of that type.
    pub(super) fn is_settled(&self, kind: Kind) -> bool {
        self.progress(kind) == Progress::Settled
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Ledger, OUTSTANDING, Push, Status};

    fn push(revision: u64) -> Push {
        Push { version: format!("v{revision}"), revision }
    }

    #[test]
    fn an_ack_settles_what_came_before_it() {
        let mut ledger = Ledger::default();
        let first = ledger.issue(Kind::Cluster, push(1));
        let second = ledger.issue(Kind::Cluster, push(2));
        assert_ne!(first, second);
        assert!(!ledger.is_settled(Kind::Cluster) && ledger.is_settled(Kind::Route));
        assert_eq!(ledger.settle(Kind::Cluster, &second, None).unwrap().push, push(2));
        assert!(ledger.is_settled(Kind::Cluster));
        assert_eq!(ledger.settle(Kind::Cluster, &first, None), None);
    }

    #[test]
    fn a_nack_stands_until_something_else_is_accepted() {
        let mut ledger = Ledger::default();
        let nonce = ledger.issue(Kind::Extension, push(1));
        let error = Status { message: "no".into(), ..Status::default() };
        let verdict = ledger.settle(Kind::Extension, &nonce, Some(&error)).unwrap();
        assert_eq!(verdict.error.as_deref(), Some("no"));
        assert!(!ledger.is_settled(Kind::Extension) && ledger.is_refused(Kind::Extension, "v1"));
        let nonce = ledger.issue(Kind::Extension, push(1));
        assert_eq!(ledger.settle(Kind::Extension, &nonce, None), None, "the same bytes again");
        assert!(!ledger.is_settled(Kind::Extension));
        let nonce = ledger.issue(Kind::Extension, push(2));
        ledger.settle(Kind::Extension, &nonce, None);
        assert!(ledger.is_settled(Kind::Extension));
    }

    #[test]
    fn what_is_never_answered_is_forgotten_oldest_first() {
        let mut ledger = Ledger::default();
        let first = ledger.issue(Kind::Route, push(0));
        for revision in 1..=OUTSTANDING as u64 {
            ledger.issue(Kind::Route, push(revision));
        }
        assert_eq!(ledger.settle(Kind::Route, &first, None), None);
    }
}
