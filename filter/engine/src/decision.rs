//! What the engine answers: pass, forward or refuse, and the one mapping from a reason to a reply.

use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::fmt;

use crate::enablement::Record;
use crate::flag::FlagId;
use crate::identity::Verified;
use crate::policy::wire::TokenSource;
use crate::policy::{Module, Route};

/// What is to be done with a request.
#[derive(Debug)]
pub enum Decision<'p> {
    /// Outside the modules' paths: it passes untouched.
    Pass,
    /// It goes to a cluster.
    Forward(Forward<'p>),
    /// It is answered here.
    Refuse(Refusal, Option<Place<'p>>),
}

/// Where a request leads within the policy.
#[derive(Debug, Clone, Copy)]
pub struct Place<'p> {
    /// The module.
    pub module: &'p Module,
    /// The module's route.
    pub route: &'p Route,
}

/// A request that goes to a cluster.
#[derive(Debug)]
pub struct Forward<'p> {
    /// The module and route that it is for.
    pub place: Place<'p>,
    /// Which implementation serves it.
    pub arm: Arm,
    /// The Envoy cluster of that implementation.
    pub cluster: &'p str,
    /// The path that the module sees, where that is not the client's.
    pub path: Option<Vec<u8>>,
    /// Who calls; none on a route that asks for no token.
    pub token: Option<Rc<Verified>>,
    /// What is said of the caller's organisation and the module.
    pub record: Option<&'p Record>,
    /// Where the token stands that the upstream must not see.
    pub withhold: Option<&'p TokenSource>,
    /// The flags that are on, of those that the route asks.
    pub flags: Vec<FlagOn<'p>>,
    /// Whether one of those could not be evaluated, and so is off.
    pub flag_error: bool,
    /// Headers by which Envoy's router is told of timeouts and retries. They replace what the
    /// client sent under these names.
    pub headers: Vec<(&'p str, &'p str)>,
    /// The Envoy cluster that gets a copy of the request.
    pub mirror: Option<&'p str>,
}

/// A flag that is on. Its `Display` is `key` or `key=variant`.
#[derive(Debug, Clone, Copy)]
pub struct FlagOn<'p> {
    /// The flag.
    pub id: FlagId,
    /// Its key.
    pub key: &'p str,
    /// What it is, where it has variants.
    pub variant: Option<&'p str>,
}

impl fmt::Display for FlagOn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key)?;
        self.variant.map_or(Ok(()), |variant| write!(f, "={variant}"))
    }
}

/// The word in logs and metrics for a request that passes.
pub const PASS: &str = "pass";

/// Which implementation serves a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The module itself.
    Module,
    /// What the module replaces.
    Legacy,
}

impl Arm {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Legacy => "legacy",
        }
    }
}

/// A request that is refused, and what the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Whether a flag of the route could not be evaluated, and so is off.
    pub flag_error: bool,
    /// The provider whose keys the token's is not among, where that is why.
    pub provider: Option<String>,
    /// What the sentence for people adds, such as the name of a missing permission.
    subject: Option<String>,
}

/// Why a request is refused. The word is the same in the reply, the access log, metrics and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`describe` below says what each means")]
pub enum Reason {
    MalformedPath,
    MalformedTenant,
    MissingToken,
    MultipleTokens,
    OversizedToken,
    MalformedToken,
    UnsupportedAlgorithm,
    UnknownIssuer,
    MisplacedToken,
    UnknownKey,
    BadSignature,
    WrongAudience,
    MissingClaim,
    MissingExpiry,
    DeniedToken,
    ExpiredToken,
    TokenNotYetValid,
    CrossTenant,
    ModuleNotEnabled,
    MissingPermission,
    MissingRole,
    FlagOff,
    UnknownModule,
    UnknownVersion,
    UnknownRoute,
    UnknownPath,
    MethodNotAllowed,
    NoKeys,
    NoPolicy,
    IncapableHost,
}

impl Reason {
    /// Status, stable word, sentence for people.
    const fn describe(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::MalformedPath => (400, "malformed_path", "the path can be read in more than one way"),
            Self::MalformedTenant => {
                (400, "malformed_tenant", "the request must name one organisation, once, in the header")
            }
            Self::MissingToken => (401, "missing_token", "a bearer token is required"),
            Self::MultipleTokens => (401, "multiple_tokens", "more than one token was sent"),
            Self::OversizedToken => (401, "oversized_token", "the token is too long"),
            Self::MalformedToken => (401, "malformed_token", "the token is not a well-formed JWT"),
            Self::UnsupportedAlgorithm => {
                (401, "unsupported_algorithm", "the token's algorithm is not accepted")
            }
            Self::UnknownIssuer => (401, "unknown_issuer", "the token's issuer is not known"),
            Self::MisplacedToken => (401, "misplaced_token", "the issuer's tokens are not taken from there"),
            Self::UnknownKey => (401, "unknown_key", "the token was signed with a key that is not known"),
            Self::BadSignature => (401, "bad_signature", "the token's signature is wrong"),
            Self::WrongAudience => (401, "wrong_audience", "the token is for someone else"),
            Self::MissingClaim => (401, "missing_claim", "the token lacks a claim that is required"),
            Self::MissingExpiry => (401, "missing_expiry", "the token does not say when it expires"),
            Self::DeniedToken => (401, "denied_token", "the token has been withdrawn"),
            Self::ExpiredToken => (401, "expired_token", "the token has expired"),
            Self::TokenNotYetValid => (401, "token_not_yet_valid", "the token is not valid yet"),
            Self::CrossTenant => (403, "cross_tenant", "the token is not for the organisation asked about"),
            Self::ModuleNotEnabled => {
                (403, "module_not_enabled", "the module is not enabled for the organisation")
            }
            Self::MissingPermission => (403, "missing_permission", "the token lacks the permission"),
            Self::MissingRole => (403, "missing_role", "the token lacks a role that may call this"),
            Self::FlagOff => (403, "flag_off", "this is not switched on for the organisation"),
            Self::UnknownModule => (404, "unknown_module", "there is no such module"),
            Self::UnknownVersion => (404, "unknown_version", "the module exists in other versions only:"),
            Self::UnknownRoute => (404, "unknown_route", "the module has no such route"),
            Self::UnknownPath => (404, "unknown_path", "there is nothing at this path"),
            Self::MethodNotAllowed => (405, "method_not_allowed", "the route takes other methods only:"),
            Self::NoKeys => (503, "no_keys", "tokens cannot be judged: there are no keys"),
            Self::NoPolicy => (503, "no_policy", "requests cannot be judged: there is no policy"),
            Self::IncapableHost => (
                503,
                "incapable_host",
                "requests cannot be judged: the proxy gives no time, or no random numbers",
            ),
        }
    }

    /// The stable word, snake_case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.describe().1
    }

    /// HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.describe().0
    }

    /// The gRPC status that says the same (google.rpc.Code).
    #[must_use]
    pub const fn grpc_status(self) -> u32 {
        match self.status() {
            400 => 3,        // INVALID_ARGUMENT
            401 => 16,       // UNAUTHENTICATED
            403 => 7,        // PERMISSION_DENIED
            404 | 405 => 12, // UNIMPLEMENTED
            _ => 14,         // UNAVAILABLE
        }
    }
}

/// A reply in HTTP's terms.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers to add.
    pub headers: Vec<(&'static str, String)>,
    /// `application/problem+json` (RFC 9457).
    pub body: String,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl Refusal {
    /// A refusal that needs no more words than its reason's.
    #[must_use]
    pub const fn new(reason: Reason) -> Self {
        Self { reason, flag_error: false, provider: None, subject: None }
    }

    /// A flag is off, and `flag_error` says whether one could not be evaluated.
    #[must_use]
    pub const fn by_flag(reason: Reason, flag_error: bool) -> Self {
        Self { reason, flag_error, provider: None, subject: None }
    }

    /// The token's signature is not this provider's.
    #[must_use]
    pub fn by_keys(reason: Reason, provider: &str) -> Self {
        let unknown = reason == Reason::UnknownKey;
        Self { provider: unknown.then(|| provider.into()), ..Self::new(reason) }
    }

    /// The request must name one organisation in this header.
    #[must_use]
    pub fn malformed_tenant(header: &str) -> Self {
        Self { subject: Some(header.into()), ..Self::new(Reason::MalformedTenant) }
    }

    /// The token lacks this permission.
    #[must_use]
    pub fn missing_permission(name: &str) -> Self {
        Self { subject: Some(name.into()), ..Self::new(Reason::MissingPermission) }
    }

    /// The route takes these methods only.
    #[must_use]
    pub fn method_not_allowed(methods: &[&str]) -> Self {
        Self { subject: Some(methods.join(", ")), ..Self::new(Reason::MethodNotAllowed) }
    }

    /// The module exists in these versions only.
    #[must_use]
    pub fn unknown_version(versions: &[&str]) -> Self {
        Self { subject: Some(versions.join(", ")), ..Self::new(Reason::UnknownVersion) }
    }

    /// The reply: RFC 9457 for the body, RFC 6750 §3 for `WWW-Authenticate`.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let (status, word, sentence) = self.reason.describe();
        let detail = match &self.subject {
            Some(subject) => format!("{sentence} {subject}"),
            None => String::from(sentence),
        };
        let mut headers = Vec::from([("content-type", String::from("application/problem+json"))]);
        match (status, self.reason, &self.subject) {
            // RFC 6750 §3.1: a request without a token is told of no error.
            (401, Reason::MissingToken, _) => headers.push(("www-authenticate", "Bearer".into())),
            (401, ..) => headers.push((
                "www-authenticate",
                format!("Bearer error=\"invalid_token\", error_description=\"{sentence}\""),
            )),
            (403, Reason::MissingPermission, Some(name)) => headers
                .push(("www-authenticate", format!("Bearer error=\"insufficient_scope\", scope=\"{name}\""))),
            (403, Reason::MissingRole | Reason::CrossTenant, _) => {
                headers.push(("www-authenticate", "Bearer error=\"insufficient_scope\"".into()));
            }
            (405, _, Some(methods)) => headers.push(("allow", methods.clone())),
            _ => {}
        }
        let body = serde_json::json!({
            "type": "about:blank",
            "title": title(status),
            "status": status,
            "reason": word,
            "detail": detail,
        });
        Reply { status, headers, body: format!("{body}\n") }
    }
}

/// RFC 9457 §4.2.1: with `about:blank`, the title is the status's own phrase.
const fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Service Unavailable",
    }
}
