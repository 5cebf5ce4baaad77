//! Whose tokens the API takes, and what their bearers may do. Tokens are judged by the engine, as in
//! Envoy; an issuer of the API is none of the policy's, so that whoever may call a module may not
//! therefore change flags.

use rampart_engine::decision::Reason;
use rampart_engine::identity::Identity;
use rampart_engine::jwt;
use rampart_engine::policy::wire::{self, TokenSource};
use rampart_engine::policy::{Policy, Problem};
use rampart_engine::verify::PureRust;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Denial, Principal, Role};
use crate::model::key_set::{check_source, of_the_api};
use crate::model::{Settings, State};

/// A token issuer of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The issuer and its keys, as in a policy. Audiences must be named: a token that the same issuer
    /// made for another service must not open this one.
    pub provider: wire::Provider,
    /// Which roles of a token (`provider.claims.roles`) mean which role here; the highest counts.
    pub roles: Mapping,
}

/// Values of the roles claim, by the role they give.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the names are those of the roles")]
pub struct Mapping {
    pub admin: Vec<String>,
    pub operator: Vec<String>,
    pub viewer: Vec<String>,
    pub evaluator: Vec<String>,
}

/// The issuers of the settings, as they are judged by.
#[derive(Debug, Default)]
pub struct Issuers(Vec<Compiled>);

/// An issuer, and a policy that knows no other.
#[derive(Debug)]
struct Compiled {
    name: String,
    /// Whether its keys are fetched: one that is not known may be new.
    fetched: bool,
    roles: Mapping,
    policy: Policy,
}

impl Issuers {
    /// Compiles the settings' issuers, with the keys that were fetched for them. Whom the settings deny is refused here as in Envoy.
    ///
    /// # Errors
    ///
    /// Everything that makes no sense, with its place in the settings.
    pub fn compile(state: &State) -> Result<Self, Vec<Problem>> {
        let settings = &*state.settings;
        let with_keys = |provider: &wire::Provider| state.with_keys(&of_the_api(&provider.name), provider);
        let mut problems = Vec::new();
        for Issuer { provider, roles } in &settings.issuers {
            let mut wrong = |member: &str, problem: &str| {
                let field = format!("issuers[{}].{member}", provider.name);
                problems.push(Problem { field, problem: problem.to_owned() });
            };
            if provider.audiences.is_empty() {
                wrong("provider.audiences", "name whom its tokens must be for: any would do otherwise");
            }
            if provider.token_from != [TokenSource::Bearer] {
                wrong("provider.token_from", "tokens of the API come as `bearer` only");
            }
            if provider.name == "key" {
                wrong("provider.name", "`key` stands for API keys in the history");
            }
            if let Err(Problem { field, problem }) = check_source(provider) {
                wrong(&format!("provider.{field}"), &problem);
            }
            if *roles == Mapping::default() {
                wrong("roles", "without a role its tokens open nothing: name one");
            }
        }
        // Together, so that no two have one name.
        let all = policy(settings.issuers.iter().map(|issuer| with_keys(&issuer.provider)), settings);
        problems.extend(all.err().into_iter().flatten().map(within_issuers));
        if !problems.is_empty() {
            return Err(problems);
        }
        let compiled = settings.issuers.iter().map(|Issuer { provider, roles }| {
            let policy = policy([with_keys(provider)], settings)?;
            let (name, fetched) = (provider.name.clone(), provider.jwks_from.is_some());
            Ok(Compiled { name, fetched, roles: roles.clone(), policy })
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// Whose token this is, and what it allows.
    pub(super) fn judge(&self, token: &str, now: u64) -> Result<Principal, Denial> {
        let mut denial = Denial::Token(Reason::UnknownIssuer);
        for issuer in &self.0 {
            // Every issuer takes tokens from the one source there is.
            match jwt::verify(token.as_bytes(), 0, &issuer.policy.providers, &PureRust) {
                Ok(verified) => {
                    verified.check_time(now).map_err(Denial::Token)?;
                    return issuer.principal(&verified.identity);
                }
                Err(refusal) if refusal.reason == Reason::UnknownIssuer => {}
                Err(refusal)
                    if issuer.fetched && matches!(refusal.reason, Reason::UnknownKey | Reason::NoKeys) =>
                {
                    denial = Denial::UnknownKey(issuer.name.clone());
                }
                Err(refusal) => denial = Denial::Token(refusal.reason),
            }
        }
        Err(denial)
    }
}

impl Compiled {
    fn principal(&self, identity: &Identity) -> Result<Principal, Denial> {
        let Mapping { admin, operator, viewer, evaluator } = &self.roles;
        let roles = [
            (Role::Admin, admin),
            (Role::Operator, operator),
            (Role::Viewer, viewer),
            (Role::Evaluator, evaluator),
        ];
        // The history says who it was.
        let subject = identity.subject.as_deref().ok_or(Denial::Token(Reason::MissingClaim))?;
        let name = format!("{}/{subject}", self.name);
        let given = |names: &[String]| names.iter().any(|name| identity.roles.contains(name));
        match roles.into_iter().find(|(_, names)| given(names)) {
            Some((role, _)) => Ok(Principal { name, role }),
            None => Err(Denial::NoRole(name)),
        }
    }
}

fn policy(
    providers: impl IntoIterator<Item = wire::Provider>,
    settings: &Settings,
) -> Result<Policy, Vec<Problem>> {
    Policy::compile(&wire::Policy {
        schema: wire::SCHEMA,
        revision: 0,
        default: wire::Outside::default(),
        legacy_cluster: None,
        admin_roles: Vec::new(),
        providers: providers.into_iter().collect(),
        denied: settings.denied.clone(),
        flags: Vec::new(),
        modules: Vec::new(),
    })
}

/// The policy's `providers[x].…` is `issuers[x].provider.…` here.
fn within_issuers(problem: Problem) -> Problem {
    let field = problem.field.strip_prefix("providers").map(|within| match within.split_once(']') {
        Some((name, rest)) => format!("issuers{name}].provider{rest}"),
        None => format!("issuers{within}"),
    });
    Problem { field: field.unwrap_or(problem.field), problem: problem.problem }
}
