//! One metric of Envoy's, as what it says of Rampart. Pure: it reads what anybody may have sent, and tells
//! what does not read from what is not for us.

use envoy_types::pb::io::prometheus::client::{LabelPair, Metric, MetricFamily};

use super::count::Durations;

/// The label that Envoy gives what it counts of a cluster.
const CLUSTER: &str = "envoy.cluster_name";

/// More than any count between two reports, and than any gauge of ours; numbers up to here are exact.
const LARGEST: f64 = (1_u64 << 53) as f64;

/// What a metric says.
#[derive(Debug, PartialEq)]
pub(super) enum Sample<'a> {
    /// Requests that were answered with a code.
    Requests { place: Place<'a>, code: u16, count: u64 },
    /// How long requests took together, in microseconds.
    Took { place: Place<'a>, microseconds: u64 },
    /// How long requests of a module took each.
    Durations { module: &'a str, arm: &'a str, durations: Durations },
    /// Requests that the filter refused, by the reason's word.
    Refused { reason: &'a str, count: u64 },
    /// Tokens signed with a key that the policy does not have.
    UnknownKeys { provider: &'a str, count: u64 },
    /// Requests of an organisation that a module served, where something is said of the two.
    Used { module: &'a str, organisation: &'a str, count: u64 },
    /// Requests that the guard stopped, since nobody had judged them.
    Unjudged { count: u64 },
    /// The revision that a worker decided by last.
    Revision { worker: u32, revision: u64 },
    /// When it did, in seconds since the Unix epoch.
    Decided { worker: u32, second: u64 },
    /// How many workers there are.
    Workers { count: u64 },
    /// How many endpoints of a cluster there are, or of those that are healthy.
    Endpoints { cluster: &'a str, healthy: bool, count: u64 },
    /// Connections that a cluster's endpoints did not accept.
    Unconnected { cluster: &'a str, count: u64 },
    /// Answers of a cluster's endpoints that are no server errors.
    Answered { cluster: &'a str, count: u64 },
}

/// What a request was for, and what served it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) module: &'a str,
    pub(super) route: &'a str,
    pub(super) arm: &'a str,
}

/// A metric of ours that does not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What the metrics of a family say; nothing where they are Envoy's own affair.
pub(super) fn samples(family: &MetricFamily) -> impl Iterator<Item = Result<Sample<'_>, Malformed>> {
    let name = family.name.as_deref().unwrap_or_default();
    family.metric.iter().filter_map(move |metric| read(name, metric).transpose())
}

fn read<'a>(name: &'a str, metric: &'a Metric) -> Result<Option<Sample<'a>>, Malformed> {
    let count = || number(metric.counter.as_ref().and_then(|counter| counter.value));
    let gauge = || number(metric.gauge.as_ref().and_then(|gauge| gauge.value));
    let cluster = || label(metric, CLUSTER).ok_or(Malformed);
    let sample = match name {
        "rampart.requests" => {
            Sample::Requests { place: place(metric)?, code: code(metric)?, count: count()? }
        }
        "rampart.duration_us" => Sample::Took { place: place(metric)?, microseconds: count()? },
        "rampart.duration" => Sample::Durations {
            module: label(metric, "module").ok_or(Malformed)?,
            arm: arm(metric)?,
            durations: durations(metric)?,
        },
        "http.rbac.attestation.denied" | "http.rampart.rbac.attestation.denied" => {
            Sample::Unjudged { count: count()? }
        }
        "server.concurrency" => Sample::Workers { count: gauge()? },
        "cluster.membership_healthy" => {
            Sample::Endpoints { cluster: cluster()?, healthy: true, count: gauge()? }
        }
        "cluster.membership_total" => {
            Sample::Endpoints { cluster: cluster()?, healthy: false, count: gauge()? }
        }
        "cluster.upstream_cx_connect_fail" => Sample::Unconnected { cluster: cluster()?, count: count()? },
        "cluster.upstream_rq_xx" if label(metric, "envoy.response_code_class") != Some("5") => {
            Sample::Answered { cluster: cluster()?, count: count()? }
        }
        _ => match name.strip_prefix("wasmcustom.rampart.") {
            Some(own) => return of_filter(own, metric),
            None => return Ok(None),
        },
    };
    Ok(Some(sample))
}

/// The filter's own. What they are about is a label where Envoy's configuration makes it one, and else the
/// end of the name.
fn of_filter<'a>(own: &'a str, metric: &'a Metric) -> Result<Option<Sample<'a>>, Malformed> {
    let about = |name: &str, tag: &str| {
        let rest = own.strip_prefix(name)?;
        rest.strip_prefix('.').or_else(|| label(metric, tag).filter(|_| rest.is_empty()))
    };
    let count = || number(metric.counter.as_ref().and_then(|counter| counter.value));
    let gauge = || number(metric.gauge.as_ref().and_then(|gauge| gauge.value));
    let worker = |about: &str| about.parse().map_err(|_| Malformed);
    if let Some(rest) = own.strip_prefix("usage") {
        let named = rest.strip_prefix('.').and_then(|rest| rest.split_once('/'));
        let labelled = || Some((label(metric, "module")?, label(metric, "organisation")?));
        let (module, organisation) =
            named.or_else(|| labelled().filter(|_| rest.is_empty())).ok_or(Malformed)?;
        return Ok(Some(Sample::Used { module, organisation, count: count()? }));
    }
    Ok(if let Some(reason) = about("refused", "reason") {
        Some(Sample::Refused { reason, count: count()? })
    } else if let Some(provider) = about("unknown_key", "provider") {
        Some(Sample::UnknownKeys { provider, count: count()? })
    } else if let Some(about) = about("worker_revision", "worker") {
        Some(Sample::Revision { worker: worker(about)?, revision: gauge()? })
    } else if let Some(about) = about("worker_decided", "worker") {
        Some(Sample::Decided { worker: worker(about)?, second: gauge()? })
    } else {
        None
    })
}

fn label<'a>(metric: &'a Metric, name: &str) -> Option<&'a str> {
    metric.label.iter().find(|label| label.name() == name).map(LabelPair::value)
}

fn place(metric: &Metric) -> Result<Place<'_>, Malformed> {
    let label = |name| label(metric, name).ok_or(Malformed);
    Ok(Place { module: label("module")?, route: label("route")?, arm: arm(metric)? })
}

/// The cluster that an effect has chosen, or else what the filter decided.
fn arm(metric: &Metric) -> Result<&str, Malformed> {
    let chosen = label(metric, "arm").filter(|arm| !arm.is_empty());
    chosen.or_else(|| label(metric, "decision")).ok_or(Malformed)
}

/// A status, or 0 where the client went before there was one.
fn code(metric: &Metric) -> Result<u16, Malformed> {
    let code = label(metric, "code").ok_or(Malformed)?.parse().map_err(|_| Malformed)?;
    if code == 0 || (100..1000).contains(&code) { Ok(code) } else { Err(Malformed) }
}

fn number(value: Option<f64>) -> Result<u64, Malformed> {
    let value = value.unwrap_or_default();
    // Not a number compares as false.
    if (0.0..=LARGEST).contains(&value) { Ok(value as u64) } else { Err(Malformed) }
}

fn durations(metric: &Metric) -> Result<Durations, Malformed> {
    let histogram = metric.histogram.as_ref().ok_or(Malformed)?;
    let buckets = histogram.bucket.iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    Durations::new(buckets, histogram.sample_count(), histogram.sample_sum()).ok_or(Malformed)
}
