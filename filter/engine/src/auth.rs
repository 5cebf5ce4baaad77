//! Who is calling, and whether they may: the token is found, verified or recognised, and held
//! against what the route asks for.

use alloc::{rc::Rc, string::String};

use crate::decide::Context;
use crate::decision::{Reason, Refusal};
use crate::identity::{Identity, Verified};
use crate::jwt;
use crate::policy::wire::{Auth, Level};
use crate::policy::{Policy, SourceId};
use crate::request::Headers;
use crate::token_source;

/// The verified token of the request, and where it stood.
///
/// # Errors
/// Why there is none.
pub fn authenticate(
    policy: &Policy,
    headers: &impl Headers,
    context: &mut Context<'_>,
) -> Result<(Rc<Verified>, SourceId), Refusal> {
    if policy.providers.is_empty() {
        return Err(Reason::NoKeys.into());
    }
    let (source, token) = token_source::find(headers, policy.providers.sources())?;
    // By its bytes alone: what was verified once was well-formed then.
    let digest = context.tokens.digest(policy.providers.key_generation(), source, token);
    if let Some(verified) = context.tokens.get(digest, context.now) {
        verified.check_time(context.now)?;
        return Ok((verified, source));
    }
    let verified = match jwt::verify(token, source, &policy.providers, context.verifier) {
        Ok(verified) => Rc::new(verified),
        // Repeated, a header reaches some servers as one value joined by a comma.
        Err(refusal) if refusal.reason == Reason::MalformedToken && token.contains(&b',') => {
            return Err(Reason::MultipleTokens.into());
        }
        Err(refusal) => return Err(refusal),
    };
    verified.check_time(context.now)?;
    context.tokens.insert(digest, &verified, context.now);
    Ok((verified, source))
}

/// Holds an identity against what a route asks for. Listed permissions are required at every
/// level: a level never weakens a list.
///
/// # Errors
/// What is missing, by name.
pub fn authorise(auth: &Auth, admin_roles: &[String], identity: &Identity) -> Result<(), Refusal> {
    if let Some(missing) = auth.permissions.iter().find(|name| !identity.permissions.contains(name)) {
        return Err(Refusal::missing_permission(missing));
    }
    let has_any = |roles: &[String]| roles.iter().any(|role| identity.roles.contains(role));
    match auth.level {
        Level::None | Level::Basic | Level::Permission => Ok(()),
        Level::Role if has_any(&auth.roles) => Ok(()),
        Level::Admin if has_any(admin_roles) => Ok(()),
        Level::Role | Level::Admin => Err(Refusal::new(Reason::MissingRole)),
    }
}
