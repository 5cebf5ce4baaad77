//! The main path, whole: path, authentication, authorisation, flags, cluster.

use alloc::{rc::Rc, vec::Vec};

use crate::auth;
use crate::decision::{Arm, Decision, FlagOn, Forward, Place, Reason, Refusal};
use crate::enablement::Record;
use crate::flag::{self, Asker};
use crate::identity::Verified;
use crate::path::{self, ModulePath, Target};
use crate::policy::wire::{Level, Outside, WhenOff};
use crate::policy::{IDEMPOTENT, Policy, SourceId};
use crate::request::Headers;
use crate::route::Found;
use crate::token_cache::TokenCache;
use crate::verify::Verifier;

/// By this Envoy's router is told when to try again.
const RETRY_ON: &str = "x-envoy-retry-on";

/// What a decision needs besides the policy and the request.
pub struct Context<'a> {
    /// Seconds since the Unix epoch.
    pub now: u64,
    /// Checks signatures.
    pub verifier: &'a dyn Verifier,
    /// Tokens verified before.
    pub tokens: &'a mut TokenCache,
}

/// Decides about one request. An unauthenticated caller learns nothing of flags, since the order
/// is fixed: path, token, tenancy, enablement, permission, flag. Nor does an outsider learn of permissions.
#[must_use]
pub fn decide<'p>(policy: &'p Policy, headers: &impl Headers, context: &mut Context<'_>) -> Decision<'p> {
    let path = match (path::parse(headers.first(":path").unwrap_or_default()), policy.outside) {
        (Target::Module(path), _) => path,
        (Target::Outside, Outside::Pass) => return Decision::Pass,
        (Target::Outside, Outside::Deny) => return Decision::Refuse(Refusal::new(Reason::UnknownPath), None),
        (Target::Refused, _) => return Decision::Refuse(Refusal::new(Reason::MalformedPath), None),
    };
    let place = match find(policy, &path, headers.first(":method").unwrap_or_default()) {
        Ok(place) => place,
        Err(refusal) => return Decision::Refuse(refusal, None),
    };
    let admitted = admit(policy, place, &path, headers, context);
    match admitted.and_then(|admitted| dispatch(policy, place, headers, admitted, context.now)) {
        Ok(forward) => Decision::Forward(forward),
        Err(refusal) => Decision::Refuse(refusal, Some(place)),
    }
}

fn find<'p>(policy: &'p Policy, path: &ModulePath<'_>, method: &[u8]) -> Result<Place<'p>, Refusal> {
    match policy.routes.find(path, method) {
        Found::Route(id) => policy.place(id).ok_or(Refusal::new(Reason::UnknownRoute)),
        Found::WrongMethod(methods) => Err(Refusal::method_not_allowed(&methods)),
        Found::NoRoute => Err(Refusal::new(Reason::UnknownRoute)),
        Found::NoVersion(versions) => Err(Refusal::unknown_version(&versions)),
        Found::NoModule => Err(Refusal::new(Reason::UnknownModule)),
    }
}

/// Who has shown that they may call a route.
struct Admitted<'p> {
    token: Rc<Verified>,
    source: SourceId,
    record: Option<&'p Record>,
}

/// Who calls, if the route asks for a token and the caller may call it.
fn admit<'p>(
    policy: &'p Policy,
    place: Place<'p>,
    path: &ModulePath<'_>,
    headers: &impl Headers,
    context: &mut Context<'_>,
) -> Result<Option<Admitted<'p>>, Refusal> {
    if place.route.auth.level == Level::None {
        return Ok(None);
    }
    let (token, source) = auth::authenticate(policy, headers, context)?;
    let organisation = token.identity.organisation.as_deref();
    if let Some(tenant) = &place.route.tenant {
        tenant.check(path.rest, headers, organisation)?;
    }
    let record = place.module.enablement.check(organisation)?;
    auth::authorise(&place.route.auth, &policy.admin_roles, &token.identity)?;
    Ok(Some(Admitted { token, source, record }))
}

/// Asks the route's flags and picks the cluster. The first gate that is off decides.
fn dispatch<'p>(
    policy: &'p Policy,
    place: Place<'p>,
    headers: &impl Headers,
    admitted: Option<Admitted<'p>>,
    now: u64,
) -> Result<Forward<'p>, Refusal> {
    let identity = admitted.as_ref().map(|admitted| &admitted.token.identity);
    let request_id = || core::str::from_utf8(headers.first("x-request-id")?).ok();
    let asker = Asker {
        organisation: identity.and_then(|identity| identity.organisation.as_deref()),
        subject: identity.and_then(|identity| identity.subject.as_deref()),
        request_id: if policy.flags.by_request() { request_id() } else { None },
        now,
    };
    let mut flags = Vec::with_capacity(place.route.flags.len());
    let (mut closed, mut flag_error) = (None, false);
    for asked in &place.route.flags {
        let Some(flag) = policy.flags.get(asked.flag) else { continue };
        let found = policy.flags.evaluate(asked.flag, &asker);
        flag_error |= found.reason == flag::Reason::Error;
        if found.value {
            flags.push(FlagOn { id: asked.flag, key: &flag.key, variant: found.variant });
        } else {
            closed = closed.or(asked.when_off);
        }
    }
    let (arm, cluster) = match closed {
        None => (Arm::Module, Some(&*place.module.cluster)),
        Some(WhenOff::Legacy) => (Arm::Legacy, policy.legacy_cluster.as_deref()),
        // Who is not let in must not learn that there is something to be let into.
        Some(WhenOff::NotFound) => return Err(Refusal::by_flag(Reason::UnknownRoute, flag_error)),
        Some(WhenOff::Forbidden) => return Err(Refusal::by_flag(Reason::FlagOff, flag_error)),
    };
    // A policy with such a gate and no legacy cluster does not compile.
    let cluster = cluster.ok_or(Refusal::new(Reason::NoPolicy))?;
    let withheld = admitted.as_ref().filter(|admitted| !admitted.token.forward);
    let withhold = withheld.and_then(|admitted| policy.providers.sources().get(admitted.source));
    let record = admitted.as_ref().and_then(|admitted| admitted.record);
    // They describe the module: what it replaces knows the public path and has its own pace.
    let (path, router) = match arm {
        Arm::Module => (seen_path(place, headers), router_headers(place, headers)),
        Arm::Legacy => (None, Vec::new()),
    };
    let mut forward = Forward {
        place,
        arm,
        cluster,
        path,
        token: admitted.map(|admitted| admitted.token),
        record,
        withhold,
        flags,
        flag_error,
        headers: router,
        mirror: None,
    };
    take_effect(&mut forward, headers);
    Ok(forward)
}

/// The path that the module sees, where it asks for another than the client's.
fn seen_path(place: Place<'_>, headers: &impl Headers) -> Option<Vec<u8>> {
    let prefix = place.module.rewrite.as_deref()?;
    Some(path::rewrite(headers.first(":path").unwrap_or_default(), prefix))
}

fn router_headers<'p>(place: Place<'p>, headers: &impl Headers) -> Vec<(&'p str, &'p str)> {
    let mut router: Vec<_> = place.route.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    let idempotent = || {
        headers
            .first(":method")
            .is_some_and(|method| IDEMPOTENT.iter().any(|known| known.as_bytes() == method))
    };
    if let Some(conditions) = place.route.retry_idempotent.as_deref().filter(|_| idempotent()) {
        router.retain(|(name, _)| *name != RETRY_ON);
        router.push((RETRY_ON, conditions));
    }
    router
}

/// Applies the effects of the flags that are on, the module's before the route's: the later wins.
fn take_effect(forward: &mut Forward<'_>, headers: &impl Headers) {
    let Place { module, route } = forward.place;
    for effect in module.effects.iter().chain(&route.effects) {
        let wanted = effect.variant.as_deref();
        let fits = |on: &FlagOn<'_>| on.id == effect.flag && (wanted.is_none() || wanted == on.variant);
        if !forward.flags.iter().any(fits) {
            continue;
        }
        // What a gate keeps from the module is not for another version of it either.
        if let (Some(cluster), Arm::Module) = (&effect.cluster, forward.arm) {
            forward.cluster = cluster;
        }
        for (name, value) in &effect.headers {
            forward.headers.retain(|(known, _)| **known != **name);
            forward.headers.push((name, value));
        }
        forward.mirror = effect.mirror.as_deref().or(forward.mirror);
    }
    // RFC 9110 §9.2.1: these alone may be carried out twice without the client's consent.
    let safe = || matches!(headers.first(":method"), Some(b"GET" | b"HEAD" | b"OPTIONS"));
    if forward.mirror.is_some() && !module.mirror_unsafe && !safe() {
        forward.mirror = None;
    }
}
