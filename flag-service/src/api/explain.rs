//! What somebody gets from a flag, and why: the engine's answer, with the rule in words.

use axum::extract::State;
use axum::response::Response;
use rampart_engine::flag::{Asker, Evaluation, Percentage, Reason};
use rampart_engine::policy::wire::{By, Named, Overrides};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::meta::{Name, Parameters};
use super::openapi::Finding;
use super::problem::Problem;
use super::{Api, now, tagged};
use crate::head::Head;
use crate::model::{Flag, Kind};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Who {
    /// The organisation
    organisation: Option<String>,
    /// The subject
    subject: Option<String>,
    /// The request, for flags that go by request
    request_id: Option<String>,
}

/// What somebody gets, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation<'a> {
    flag: &'a str,
    organisation: Option<&'a str>,
    subject: Option<&'a str>,
    request_id: Option<&'a str>,
    value: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    reason: Reason,
    /// The reason in words.
    why: String,
    /// Where the organisation (or the request) stands between 0 and 100; it is on by percentage
    /// when this is below the flag's, counted from where the flag's part of its exclusive group
    /// begins.
    bucket: Option<f64>,
    percentage: Percentage,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Percentage>,
    killed: bool,
    revision: u64,
}

/// What somebody gets from a flag, and why.
#[utoipa::path(
    get, path = "/api/v1/flags/{key}/explain", tag = "flags",
    params(("key" = String, Path, description = "The flag's key"), Who),
    responses((status = 200, body = Explanation), Finding),
)]
pub(super) async fn explain(
    State(api): State<Api>,
    Name(key): Name,
    Parameters(who): Parameters<Who>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let asker = Asker {
        organisation: given(who.organisation.as_deref()),
        subject: given(who.subject.as_deref()),
        request_id: given(who.request_id.as_deref()),
        now: now(),
    };
    let explanation = explanation(&head, &key, &asker).ok_or_else(|| head.state.missing(Kind::Flag, &key))?;
    Ok(tagged(head.revision, &explanation))
}

/// What somebody gets from a flag, and why; none where there is no such flag.
pub(super) fn explanation<'a>(head: &'a Head, key: &'a str, asker: &Asker<'a>) -> Option<Explanation<'a>> {
    let flags = &head.policy.flags;
    let id = flags.find(key)?;
    let (flag, compiled) = (head.state.flags.get(key)?, flags.get(id)?);
    let Asker { organisation, subject, request_id, .. } = *asker;
    let evaluation = flags.evaluate(id, asker);
    let hashed = match compiled.by() {
        By::Organisation => organisation,
        By::Request => request_id,
    };
    let bucket = hashed.map(|hashed| f64::from(compiled.bucket(hashed)) / 1_000.0);
    Some(Explanation {
        flag: key,
        organisation,
        subject,
        request_id,
        value: evaluation.value,
        variant: evaluation.variant,
        reason: evaluation.reason,
        why: why(head, flag, asker, &evaluation, bucket),
        bucket,
        percentage: flag.percentage,
        from: flag.exclusive_group.as_ref().map(|part| part.from),
        killed: flag.killed,
        revision: head.revision,
    })
}

/// An empty name is nobody's: to the engine it is as if there were none.
pub(super) fn given(name: Option<&str>) -> Option<&str> {
    name.filter(|name| !name.is_empty())
}

/// The rule that decided, in words; the rules are in docs/policy.md.
fn why(head: &Head, flag: &Flag, asker: &Asker<'_>, found: &Evaluation<'_>, bucket: Option<f64>) -> String {
    let unmet = || unmet(head, flag, asker);
    let subject = asker.subject.and_then(|name| Some((name, listed(&flag.subjects, name, asker.now)?)));
    let organisation =
        asker.organisation.and_then(|name| Some((name, listed(&flag.organisations, name, asker.now)?)));
    let by_segment = || {
        let Overrides { on, off } = &flag.organisations;
        let list = |list, word| {
            let segment = head.state.segment_of(list, asker.organisation?, asker.now)?;
            Some(format!("organisation `{}` is named `{word}`, by segment `{segment}`", asker.organisation?))
        };
        list(off, "off").or_else(|| list(on, "on"))
    };
    match found.reason {
        Reason::Disabled if flag.killed => "the flag is killed".to_owned(),
        Reason::Disabled => "the flag is disabled".to_owned(),
        Reason::Default => unmet().unwrap_or_else(|| {
            let value = if found.value { "on" } else { "off" };
            format!("no organisation was named, and without one the flag is {value}")
        }),
        Reason::Error => {
            unmet().unwrap_or_else(|| "the flag goes by request, and no request id was named".to_owned())
        }
        Reason::TargetingMatch => match (subject, organisation) {
            (Some((name, list)), _) => format!("subject `{name}` is named `{list}`"),
            (None, Some((name, list))) if found.value == (list == "on") => {
                format!("organisation `{name}` is named `{list}`")
            }
            (None, _) => by_segment().unwrap_or_else(|| promised(head, flag, asker)),
        },
        Reason::Split => split(flag, bucket.unwrap_or_default()),
    }
}

fn split(flag: &Flag, bucket: f64) -> String {
    let percentage = flag.percentage;
    let of_requests = if flag.by == By::Request { " of requests" } else { "" };
    let from = flag.exclusive_group.as_ref().map(|part| format!(", counted from {}", part.from));
    format!("bucket {bucket} of 100, the flag is at {percentage} %{of_requests}{}", from.unwrap_or_default())
}

/// The prerequisite that decided.
fn unmet(head: &Head, flag: &Flag, asker: &Asker<'_>) -> Option<String> {
    let flags = &head.policy.flags;
    flag.prerequisites.iter().find_map(|needed| {
        let found = flags.evaluate(flags.find(&needed.flag)?, asker);
        let key = &needed.flag;
        let is = match (found.reason, found.value, found.variant) {
            (Reason::Error, ..) => return Some(format!("its prerequisite `{key}` cannot be evaluated")),
            (_, false, _) => "off".to_owned(),
            (_, true, None) => "on".to_owned(),
            (_, true, Some(variant)) => format!("on as `{variant}`"),
        };
        let fits = needed.variant.is_none() || needed.variant.as_deref() == found.variant;
        if found.value == needed.value && fits {
            return None;
        }
        let must = match (needed.value, &needed.variant) {
            (false, _) => "off".to_owned(),
            (true, None) => "on".to_owned(),
            (true, Some(variant)) => format!("on as `{variant}`"),
        };
        Some(format!("its prerequisite `{key}` is {is} and must be {must}"))
    })
}

/// In which list a name stands now.
fn listed(names: &Overrides, name: &str, now: u64) -> Option<&'static str> {
    let in_list = |list: &[Named]| list.iter().any(|named| named.name() == name && now < named.until());
    if in_list(&names.off) { Some("off") } else { in_list(&names.on).then_some("on") }
}

/// Which other flag of the exclusive group has the organisation.
fn promised(head: &Head, flag: &Flag, asker: &Asker<'_>) -> String {
    let group = flag.exclusive_group.as_ref().map(|part| &part.name);
    let organisation = asker.organisation.unwrap_or_default();
    let other = head.state.flags.values().find(|other| {
        other.exclusive_group.as_ref().map(|part| &part.name) == group
            && other.organisations.on.iter().any(|on| on.name() == organisation && asker.now < on.until())
    });
    let other = other.map_or("another flag", |other| &other.key);
    format!("organisation `{organisation}` is named `on` in `{other}`, of the same exclusive group")
}
