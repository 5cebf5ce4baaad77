//! Who is calling, and whether they may: the token is found, verified or recognised, and held
//! against what the route asks for.

use alloc::{rc::Rc, string::String};

use crate::decide::Context;
use crate::decision::{Reason, Refusal};
use crate::jwt::{self, Identity, Verified};
use crate::policy::Policy;
use crate::policy::wire::{Auth, Level};
use crate::request::Headers;

/// The verified token of the request.
///
/// # Errors
/// Why there is none.
pub fn authenticate(
    policy: &Policy,
    headers: &impl Headers,
    context: &mut Context<'_>,
) -> Result<Rc<Verified>, Reason> {
    if policy.providers.is_empty() {
        return Err(Reason::NoKeys);
    }
    let token = bearer_token(headers)?;
    let digest = context.tokens.digest(policy.providers.key_generation(), token);
    if let Some(verified) = context.tokens.get(digest, context.now) {
        verified.check_time(context.now)?;
        return Ok(verified);
    }
    let verified = Rc::new(jwt::verify(token, &policy.providers, context.verifier)?);
    verified.check_time(context.now)?;
    context.tokens.insert(digest, &verified, context.now);
    Ok(verified)
}

/// The one bearer token (RFC 6750 §2.1). Another scheme is no token; two tokens are refused,
/// because servers differ on which one counts.
fn bearer_token(headers: &impl Headers) -> Result<&str, Reason> {
    let mut values = headers.pairs().filter(|(name, _)| *name == b"authorization").map(|(_, value)| value);
    let value = values.next().ok_or(Reason::MissingToken)?;
    if values.next().is_some() || value.contains(&b',') {
        return Err(Reason::MultipleTokens);
    }
    let (scheme, token) = value.split_at_checked(b"bearer ".len()).ok_or(Reason::MissingToken)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Reason::MissingToken);
    }
    let token = token.trim_ascii();
    let well_formed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match core::str::from_utf8(token) {
        Ok(text) if token.iter().all(well_formed) && !text.is_empty() => Ok(text),
        _ => Err(Reason::MalformedToken),
    }
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
