//! Who may open a stream: an Envoy that proves to be the node it says it is, by the name in its
//! certificate or by an API key that is bound to it. It knows nothing of what is sent then.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Extensions, Status};

use crate::access::{self, Denial, Key};
use crate::published::Current;
use crate::tls::Peer;

/// How often an open stream is looked at again, whatever changes: keys expire by the clock.
const AGAIN: Duration = Duration::from_secs(10);
/// Refused nodes and addresses that are remembered, so that each is told once.
const TOLD: usize = 1_000;
/// Most of a node's id that is told, in bytes.
const ID: usize = 256;

/// See the module.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Where the keys come from that count now; none where nobody must prove anything.
    current: Option<Current>,
    told: Arc<Mutex<HashSet<String>>>,
}

/// What a stream came with. It holds a secret, so it cannot be printed.
struct Proof {
    address: Option<IpAddr>,
    names: Arc<[String]>,
    credential: Result<Option<String>, Denial>,
}

/// One stream at the gate.
pub(super) struct Entry {
    gate: Gate,
    proof: Proof,
}

impl Entry {
    /// Turns away who proves nothing at all, before it says which node it is: an open stream costs
    /// something.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED`.
    pub(super) fn greet(&self) -> Result<(), Status> {
        let published = self.gate.current.as_ref().and_then(|current| current.borrow().clone());
        let Some(published) = published.filter(|_| self.proof.names.is_empty()) else { return Ok(()) };
        let known = known(&self.proof, &published.keys, now()).map(drop);
        let from = self.proof.address.map(|address| address.to_string()).unwrap_or_default();
        self.gate.tell(&from, known.as_ref().err());
        known
    }

    /// Lets a node in, or says why not; the operator is told once.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` without proof, `PERMISSION_DENIED` for another node's.
    pub(super) async fn admit(&mut self, node: &str) -> Result<(), Status> {
        let Some(current) = &mut self.gate.current else { return Ok(()) };
        let published = current.wait_for(Option::is_some).await.ok().and_then(|current| current.clone());
        let keys = published.map(|published| published.keys.clone()).unwrap_or_default();
        let judged = judge(&self.proof, node, &keys, now());
        self.gate.tell(node, judged.as_ref().err());
        judged
    }

    /// Completes when a node that was let in no longer would be: its key was revoked, or has expired.
    pub(super) async fn closes(mut self, node: &str) -> Status {
        let Some(mut current) = self.gate.current.clone() else { return std::future::pending().await };
        current.mark_unchanged();
        loop {
            tokio::select! {
                // When nobody publishes any more, the clock still runs.
                Ok(()) = current.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            if let Err(status) = self.admit(node).await {
                return status;
            }
        }
    }
}

impl Gate {
    /// Everybody passes.
    #[must_use]
    pub fn open() -> Self {
        Self { current: None, told: Arc::default() }
    }

    /// Whoever proves which node it is passes, with one of the keys that are published.
    #[must_use]
    pub fn guarded(current: Current) -> Self {
        Self { current: Some(current), told: Arc::default() }
    }

    /// A stream that begins, and what it comes with.
    pub(super) fn entry(&self, metadata: &MetadataMap, extensions: &Extensions) -> Entry {
        let peer = extensions.get::<Peer>();
        let names = peer.map(|peer| Arc::clone(&peer.names)).unwrap_or_default();
        let sent = metadata.get_all("authorization").iter().map(MetadataValue::as_bytes);
        let credential = access::credential(sent).map(|credential| credential.map(str::to_owned));
        let proof = Proof { address: peer.map(|peer| peer.address.ip()), names, credential };
        Entry { gate: self.clone(), proof }
    }

    /// Tells the operator of a refusal, once for each node or address until it is let in.
    fn tell(&self, who: &str, refused: Option<&Status>) {
        let who = who.get(..who.floor_char_boundary(ID)).unwrap_or_default();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match refused {
            None => drop(told.remove(who)),
            Some(status) => {
                if told.len() >= TOLD {
                    told.clear();
                }
                if told.insert(who.to_owned()) {
                    tracing::warn!(from = who, "envoy refused: {}", status.message());
                }
            }
        }
    }
}

fn judge(proof: &Proof, node: &str, keys: &[Arc<Key>], now: u64) -> Result<(), Status> {
    if proof.names.iter().any(|name| name == node) {
        return Ok(());
    }
    if !proof.names.is_empty() && matches!(proof.credential, Ok(None)) {
        let names = proof.names.join("`, `");
        let message = format!("the certificate is for `{names}`, and this is node `{node}`");
        return Err(Status::permission_denied(message));
    }
    let key = known(proof, keys, now)?;
    if key.is_for_node(node) {
        return Ok(());
    }
    let bound = key.node.as_deref().unwrap_or_default();
    let message = format!("the API key `{}` is for node `{bound}`, and this is `{node}`", key.name);
    Err(Status::permission_denied(message))
}

/// The key that it came with.
fn known<'k>(proof: &Proof, keys: &'k [Arc<Key>], now: u64) -> Result<&'k Key, Status> {
    const ASKED: &str = "an Envoy proves which node it is: by a certificate that names `node.id`, or by an API \
                         key of role `envoy`";
    let credential = match &proof.credential {
        Ok(credential) => credential.as_deref().ok_or_else(|| Status::unauthenticated(ASKED))?,
        Err(denial) => return Err(Status::unauthenticated(denial.to_string())),
    };
    access::find(keys.iter().map(|key| &**key), credential, now)
        .map_err(|denial| Status::unauthenticated(format!("{denial} ({ASKED})")))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tonic::Code;

    use super::{Key, Proof, judge};
    use crate::access::Role;
    use crate::access::key::Secret;

    fn proof(names: &[&str], credential: Option<&str>) -> Proof {
        let names = names.iter().map(ToString::to_string).collect();
        Proof { address: None, names, credential: Ok(credential.map(str::to_owned)) }
    }

    fn code(proof: &Proof, node: &str, keys: &[Arc<Key>], now: u64) -> Option<Code> {
        judge(proof, node, keys, now).err().map(|status| status.code())
    }

    #[test]
    fn a_certificate_is_for_the_nodes_that_it_names() {
        let shown = proof(&["edge-1.example", "spiffe://example/edge-1"], None);
        assert_eq!(code(&shown, "edge-1.example", &[], 0), None);
        assert_eq!(code(&shown, "spiffe://example/edge-1", &[], 0), None);
        for other in ["edge-2.example", "edge-1", "spiffe://example/edge-1/x"] {
            assert_eq!(code(&shown, other, &[], 0), Some(Code::PermissionDenied), "{other}");
        }
        assert_eq!(code(&proof(&[], None), "edge-1.example", &[], 0), Some(Code::Unauthenticated));
    }

    #[test]
    fn a_key_is_for_its_nodes_and_as_long_as_it_counts() {
        let secret = Secret::generate().unwrap();
        let key = Key {
            name: "edge".to_owned(),
            role: Role::Envoy,
            node: Some("edge-*".to_owned()),
            expires_at: Some(100),
            secrets: vec![secret.hashed()],
        };
        let keys = [Arc::new(key)];
        let shown = proof(&[], Some(secret.text()));
        assert_eq!(code(&shown, "edge-1", &keys, 99), None);
        assert_eq!(code(&shown, "core-1", &keys, 99), Some(Code::PermissionDenied));
        assert_eq!(code(&shown, "edge-1", &keys, 100), Some(Code::Unauthenticated));
        assert_eq!(code(&shown, "edge-1", &[], 99), Some(Code::Unauthenticated));
        // Another node's certificate does not spoil a right key.
        assert_eq!(code(&proof(&["core-1"], Some(secret.text())), "edge-1", &keys, 99), None);
    }
}
