//! Where a request carries its token: a bearer header, a header of its own, a cookie. Exactly one
//! token is taken, because servers differ on which of two counts.

use alloc::{string::String, vec::Vec};

use crate::decision::Reason;
use crate::jwt::MAX_TOKEN;
use crate::policy::SourceId;
use crate::policy::wire::TokenSource;
use crate::request::{Headers, alike};

/// The one token of a request, as it was sent, and which of `sources` it came from.
///
/// # Errors
/// Why there is none.
pub fn find<'h>(headers: &'h impl Headers, sources: &[TokenSource]) -> Result<(SourceId, &'h [u8]), Reason> {
    let mut found = None;
    let mut bearer_seen = false;
    for (name, value) in headers.pairs() {
        for (id, source) in sources.iter().enumerate() {
            let token = match source {
                TokenSource::Bearer if name == b"authorization" => {
                    if bearer_seen {
                        return Err(Reason::MultipleTokens);
                    }
                    bearer_seen = true;
                    bearer(value)?
                }
                TokenSource::Header(header) if name == header.as_bytes() => Some(value.trim_ascii()),
                // The upstream might take it for the header that was judged.
                TokenSource::Header(header) if alike(name, header.as_bytes()) => {
                    return Err(Reason::MisplacedToken);
                }
                TokenSource::Cookie(cookie) if name == b"cookie" => {
                    let mut values = cookies(value).filter(|(name, _)| *name == cookie.as_bytes());
                    let first = values.next();
                    if values.next().is_some() {
                        return Err(Reason::MultipleTokens);
                    }
                    first.map(|(_, value)| value)
                }
                _ => None,
            };
            match (token, found) {
                (Some(token), None) => found = Some((id, token)),
                (Some(_), Some(_)) => return Err(Reason::MultipleTokens),
                (None, _) => {}
            }
        }
    }
    match found {
        None => Err(Reason::MissingToken),
        Some((_, token)) if token.len() > MAX_TOKEN => Err(Reason::OversizedToken),
        Some(found) => Ok(found),
    }
}

/// A `cookie` header without one cookie, for an upstream that must not see it.
#[must_use]
pub fn without_cookie(value: &[u8], name: &str) -> Vec<u8> {
    let others: Vec<&[u8]> = value
        .split(|byte| *byte == b';')
        .filter(|pair| cookies(pair).all(|(other, _)| other != name.as_bytes()))
        .map(<[u8]>::trim_ascii)
        .collect();
    others.join(&b"; "[..])
}

/// The token of an `authorization` header; another scheme carries none.
///
/// # Errors
/// Where others may find a token that is not found here: behind another scheme, as a repeated header
/// reads that was joined by a comma, or without the space (RFC 9110 §11.4).
fn bearer(value: &[u8]) -> Result<Option<&[u8]>, Reason> {
    match after_scheme(value) {
        Some([b' ', token @ ..]) => return Ok(Some(token.trim_ascii())),
        Some([b'\t', ..]) => return Err(Reason::MalformedToken),
        _ => {}
    }
    let is_bearer = |item: &[u8]| matches!(after_scheme(item.trim_ascii()), Some([] | [b' ' | b'\t', ..]));
    let mut others = value.split(|byte| *byte == b',').skip(1);
    if others.any(is_bearer) { Err(Reason::MultipleTokens) } else { Ok(None) }
}

/// What follows the scheme of some credentials, if that is ours, in whatever case (RFC 9110 §11.1).
fn after_scheme(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = credentials.split_at_checked(b"bearer".len())?;
    scheme.eq_ignore_ascii_case(b"bearer").then_some(rest)
}

/// Cookies of one header (RFC 6265 §4.2.1), quotes around a value removed.
fn cookies(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    value.split(|byte| *byte == b';').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair.get(..at)?.trim_ascii(), pair.get(at + 1..)?.trim_ascii());
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some((name, unquoted.unwrap_or(value)))
    })
}

/// Brings a source into the form in which it is compared.
///
/// # Errors
/// Why no token can be taken from there.
pub(crate) fn normalised(source: &TokenSource) -> Result<TokenSource, &'static str> {
    let is_token = |name: &str| {
        (1..=128).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    match source {
        TokenSource::Bearer => Ok(TokenSource::Bearer),
        TokenSource::Header(name) => {
            let name: String = name.to_ascii_lowercase();
            if !is_token(&name) {
                return Err("a header's name is 1 to 128 letters, digits, `-`, `_` and `.`");
            }
            if name.starts_with("x-rampart-") || matches!(&*name, "authorization" | "cookie" | "host") {
                return Err("this header has another meaning");
            }
            Ok(TokenSource::Header(name))
        }
        TokenSource::Cookie(name) if is_token(name) => Ok(TokenSource::Cookie(name.clone())),
        TokenSource::Cookie(_) => Err("a cookie's name is 1 to 128 letters, digits, `-`, `_` and `.`"),
    }
}
