//! Who may have the definitions: whoever may evaluate flags. It knows nothing of what is sent then.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use crate::access::{self, Access, Denial, Principal, Right};
use crate::tls::Peer;
use crate::writer::Writer;

/// How often an open stream is looked at again, whatever changes: keys expire by the clock.
const AGAIN: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Clone)]
pub struct Door(Option<Guard>);

#[derive(Debug, Clone)]
struct Guard {
    writer: Arc<Writer>,
    access: Arc<Access>,
}

/// Who asks, and what they came with. It holds a secret, so it cannot be printed.
pub(super) struct Caller {
    door: Door,
    address: Option<IpAddr>,
    credential: Result<Option<String>, Denial>,
}

impl Door {
    /// Everybody passes.
    #[must_use]
    pub const fn open() -> Self {
        Self(None)
    }

    /// Whoever may evaluate flags passes, by what they come with, as at the API.
    #[must_use]
    pub const fn guarded(writer: Arc<Writer>, access: Arc<Access>) -> Self {
        Self(Some(Guard { writer, access }))
    }

    /// Lets somebody in, or says why not.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` for who is nobody, `PERMISSION_DENIED` for who may not evaluate.
    pub(super) fn admit<T>(
        &self,
        request: &Request<T>,
    ) -> impl Future<Output = Result<Caller, Status>> + Send + use<T> {
        let sent = request.metadata().get_all("authorization").iter().map(MetadataValue::as_bytes);
        let credential = access::credential(sent).map(|credential| credential.map(str::to_owned));
        let address = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        let caller = Caller { door: self.clone(), address, credential };
        async {
            caller.judge().await?;
            Ok(caller)
        }
    }
}

impl Caller {
    async fn judge(&self) -> Result<(), Status> {
        let Door(Some(Guard { access, .. })) = &self.door else { return Ok(()) };
        let judged = match &self.credential {
            Ok(credential) => access.judge(credential.as_deref(), self.address, now()).await,
            Err(denial) => Err(denial.clone()),
        };
        match judged {
            Ok(Principal { role, .. }) if role.may(Right::Evaluate) => Ok(()),
            Ok(Principal { name, role }) => {
                let message =
                    format!("`{name}` has the role {role}, which may not evaluate flags: ask an admin");
                Err(Status::permission_denied(message))
            }
            Err(denial @ Denial::NoRole(_)) => Err(Status::permission_denied(denial.to_string())),
            Err(denial @ Denial::TooMany) => Err(Status::resource_exhausted(denial.to_string())),
            Err(denial @ Denial::Unfetched(_)) => Err(Status::unavailable(denial.to_string())),
            Err(denial) => Err(Status::unauthenticated(denial.to_string())),
        }
    }

    /// Completes when whoever was let in no longer would be: the key was revoked, or has expired.
    pub(super) async fn leaves(self) -> Status {
        let Door(Some(Guard { writer, .. })) = &self.door else { return std::future::pending().await };
        let mut current = writer.current();
        loop {
            tokio::select! {
                // When nobody publishes any more, the clock still runs.
                Ok(()) = current.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            if let Err(status) = self.judge().await {
                return status;
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
