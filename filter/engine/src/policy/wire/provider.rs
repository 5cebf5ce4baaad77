//! Token issuers, as they are sent: whose tokens, which claims, which keys.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// One token issuer and how its tokens are judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Name for people, in errors and logs.
    pub name: String,
    /// Exact value of `iss`.
    pub issuer: String,
    /// A token must be for at least one of these. Empty: `aud` is not looked at.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Accepted `alg` values.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Tolerated clock difference for `exp` and `nbf`, in seconds.
    #[serde(default = "default_leeway")]
    pub leeway_seconds: u32,
    /// Where the caller's identity stands in the token.
    #[serde(default)]
    pub claims: Claims,
    /// What else must stand in the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_claims: Vec<Requirement>,
    /// Where a request may carry the token. Exactly one token is accepted per request.
    #[serde(default = "default_sources")]
    pub token_from: Vec<TokenSource>,
    /// Whether the upstream gets to see the token.
    #[serde(default = "yes")]
    pub forward: bool,
    /// The issuer's public keys, RFC 7517.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// Where the flag service fetches them, in place of `jwks`. A filter fetches nothing: policies that are
    /// sent to one have `jwks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_from: Option<JwksFrom>,
    /// What a key that cannot be used means for the others.
    #[serde(default)]
    pub on_bad_key: BadKey,
}

/// Signature algorithms, by their JOSE names (RFC 7518 §3.1, RFC 8037 §3.1).
///
/// There is no HS256: its key would be a secret, and a plugin configuration is no place for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

/// A claim: the name of a top-level one (`"org_id"`, `"https://example.com/roles"`), or the names on
/// the way to a nested one (`["realm_access", "roles"]`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ClaimPath {
    /// A top-level claim. Dots and slashes are part of the name.
    Name(String),
    /// A member of a member.
    Nested(Vec<String>),
}

/// Where the caller's identity stands in the token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    /// The organisation; the targeting key of every flag.
    pub organisation: ClaimPath,
    /// The subject.
    pub subject: ClaimPath,
    /// Roles: an array of strings, or one string separated by spaces.
    pub roles: ClaimPath,
    /// Permissions: an array of strings, or one string separated by spaces.
    pub permissions: ClaimPath,
    /// Scopes, such as `scope` (RFC 8693 §4.2). Where this is set, a scope counts as a permission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ClaimPath>,
}

/// A claim that must be there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The claim.
    pub claim: ClaimPath,
    /// One of these must be its value, or in its array. Empty: any value but `null`.
    #[serde(default)]
    pub any_of: Vec<serde_json::Value>,
}

/// A place of a request where a token may stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenSource {
    /// `authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// A header of this name that holds the token and nothing else.
    Header(String),
    /// A cookie of this name.
    Cookie(String),
}

/// What a key that cannot be used means for the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BadKey {
    /// The policy is refused.
    #[default]
    Refuse,
    /// It is left out, with a warning.
    Skip,
}

impl Default for Claims {
    fn default() -> Self {
        let name = |name: &str| ClaimPath::Name(name.into());
        Self {
            organisation: name("org_id"),
            subject: name("sub"),
            roles: name("roles"),
            permissions: name("permissions"),
            scopes: None,
        }
    }
}

/// Where an issuer's keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JwksFrom {
    /// The URL of its key set. Unset: the one that its discovery document names (OpenID Connect
    /// Discovery 1.0 §4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// After how many seconds keys are fetched again, 1 to 86,400; sooner, where the answer says that it
    /// will not be fresh for so long.
    #[serde(default = "default_refresh")]
    pub refresh_seconds: u32,
}

/// A JSON Web Key Set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// A public JSON Web Key. Members that RFC 7517 and 7518 do not define for public keys are
/// ignored; private members are kept so that they can be refused by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[expect(missing_docs, reason = "member names are the specification's")]
#[serde(default)]
pub struct Jwk {
    pub kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// Present only in a private key, which is refused.
    #[cfg_attr(feature = "schema", schema(ignore))]
    #[serde(skip_serializing)]
    pub d: Option<serde::de::IgnoredAny>,
    /// Present only in a symmetric key, which is refused.
    #[cfg_attr(feature = "schema", schema(ignore))]
    #[serde(skip_serializing)]
    pub k: Option<serde::de::IgnoredAny>,
}

fn default_algorithms() -> Vec<Algorithm> {
    alloc::vec![Algorithm::RS256, Algorithm::ES256]
}

const fn default_leeway() -> u32 {
    60
}

const fn default_refresh() -> u32 {
    300
}

fn default_sources() -> Vec<TokenSource> {
    alloc::vec![TokenSource::Bearer]
}

const fn yes() -> bool {
    true
}
