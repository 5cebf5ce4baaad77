//! What Envoys report, for Prometheus. Labels are the policy's names, words of ours and classes of codes.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::HealthStatus;
use crate::xds::fleet::Fleet;

/// All of it, read anew at each scrape.
#[derive(Debug)]
pub(crate) struct Reported(pub(crate) Arc<Fleet>);

/// `1xx` to `9xx`, and `none` where there was no answer.
fn class(code: u16) -> &'static str {
    const CLASSES: [&str; 10] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx"];
    CLASSES.get(usize::from(code / 100)).copied().unwrap_or("none")
}

impl Collector for Reported {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let running = self.0.running();
        let reading = running.read();
        let mut requests: BTreeMap<[(&str, &str); 3], u64> = BTreeMap::new();
        for (series, count) in &reading.requests {
            let labels = [("module", &*series.module), ("arm", &*series.arm), ("code", class(series.code))];
            let sum = requests.entry(labels).or_default();
            *sum = sum.saturating_add(*count);
        }
        counters(&mut encoder, "rampart_requests", "Requests, as Envoys report them", &requests)?;

        let unit = Unit::Seconds;
        let help = "How long requests took, as Envoys report it";
        let mut family = encoder.encode_descriptor(
            "rampart_request_duration",
            help,
            Some(&unit),
            MetricType::Histogram,
        )?;
        for (module, arm, durations) in &reading.durations {
            let below = std::iter::once(0).chain(durations.up_to.iter().copied());
            let buckets = durations.bounds.iter().zip(durations.up_to.iter().zip(below));
            let mut buckets: Vec<(f64, u64)> =
                buckets.map(|(bound, (up_to, below))| (bound / 1000.0, up_to - below)).collect();
            buckets.push((f64::INFINITY, durations.count - durations.up_to.last().copied().unwrap_or(0)));
            let labels = [("module", &**module), ("arm", &**arm)];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<[(&str, &str); 0]>(
                durations.sum / 1000.0,
                durations.count,
                &buckets,
                None,
            )?;
        }

        let sums = running.sums();
        let by = |label, counts: &BTreeMap<String, u64>| -> BTreeMap<[(&'static str, String); 1], u64> {
            counts.iter().map(|(name, count)| ([(label, name.clone())], *count)).collect()
        };
        let refused = by("reason", &sums.refused);
        counters(&mut encoder, "rampart_refusals", "Requests that filters refused", &refused)?;
        let unknown = by("provider", &sums.unknown_keys);
        counters(
            &mut encoder,
            "rampart_unknown_keys",
            "Tokens signed with a key that is not known",
            &unknown,
        )?;
        let dropped = by("reason", &sums.dropped);
        let help = "What Envoys reported and was not kept";
        counters(&mut encoder, "rampart_reports_dropped", help, &dropped)?;
        let alone = |count| BTreeMap::from([([("", ""); 0], count)]);
        counters(&mut encoder, "rampart_reports", "Messages with reports", &alone(sums.messages))?;
        let help = "Requests that were stopped since no filter had judged them";
        counters(&mut encoder, "rampart_unjudged_requests", help, &alone(sums.unjudged))?;
        let help = "Envoys that report";
        gauges(&mut encoder, "rampart_envoys_reporting", help, &alone(sums.reporting))?;
        let help = "Workers that decide by an older revision than their Envoy has accepted";
        gauges(&mut encoder, "rampart_workers_behind", help, &alone(sums.behind))?;

        let health = running.health();
        let known = health.iter().filter(|(_, health)| health.status != HealthStatus::Unknown);
        let healthy = known.map(|(module, health)| {
            ([("module", module.as_str())], u64::from(health.status != HealthStatus::Unhealthy))
        });
        let help = "Whether a module can be reached, as Envoys find it";
        gauges(&mut encoder, "rampart_module_up", help, &healthy.collect())
    }
}

fn counters<L: EncodeLabelSet, N: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: &BTreeMap<L, N>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        family.encode_family(labels)?.encode_counter::<[(&str, &str); 0], _, f64>(value, None)?;
    }
    Ok(())
}

fn gauges<L: EncodeLabelSet, N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: &BTreeMap<L, N>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        family.encode_family(labels)?.encode_gauge(value)?;
    }
    Ok(())
}
