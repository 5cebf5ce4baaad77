//! From samples to Markdown: paired differences, quartiles, and the bars as ratios of one run.

use crate::variants::Variant;
use anyhow::{Context as _, Result};
use std::{fs, path::Path};

/// One burst of one variant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Envoy's CPU time per request, in microseconds.
    pub(crate) cpu: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    /// How much of one core Envoy used, 0 to 1.
    pub(crate) busy: f64,
}

/// Every variant's samples, in the order of the rounds.
#[derive(Debug)]
pub(crate) struct Samples(Vec<(Variant, Vec<Sample>)>);

struct Quartiles {
    low: f64,
    median: f64,
    high: f64,
}

impl Quartiles {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        // Between the two nearest values, in proportion.
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

/// What must hold, in one run: the first variant costs at most so many times the second.
const BARS: [(Variant, f64, Variant); 6] = [
    (Variant::Rampart, 1.0, Variant::NativeChain),
    (Variant::Rampart, 1.0, Variant::NativeChainTelling),
    (Variant::RampartColdRsa, 1.0, Variant::NativeChainNoCache),
    (Variant::RampartColdRsa, 1.0, Variant::NativeRsa),
    (Variant::RampartColdEc, 1.0, Variant::NativeEc),
    (Variant::RampartTenThousand, 1.1, Variant::Rampart),
];

impl Samples {
    pub(crate) fn new(variants: impl IntoIterator<Item = Variant>) -> Self {
        Self(variants.into_iter().map(|variant| (variant, Vec::new())).collect())
    }

    pub(crate) fn add(&mut self, variant: Variant, sample: Sample) {
        self.0.iter_mut().filter(|(other, _)| *other == variant).for_each(|(_, all)| all.push(sample));
    }

    fn of(&self, variant: Variant) -> &[Sample] {
        self.0.iter().find(|(other, _)| *other == variant).map_or(&[], |(_, samples)| samples)
    }

    /// One variant's CPU time against another's of the same round.
    fn paired(&self, variant: Variant, base: Variant, compare: impl Fn(f64, f64) -> f64) -> Quartiles {
        let pairs = self.of(variant).iter().zip(self.of(base));
        Quartiles::of(pairs.map(|(sample, base)| compare(sample.cpu, base.cpu)))
    }

    /// The table and the bars.
    pub(crate) fn markdown(&self, heading: &str) -> String {
        let mut lines = vec![
            heading.to_owned(),
            String::new(),
            "| variant | CPU µs per request: median [quartiles] | least | over plain: median [quartiles] | requests/s | core busy |".to_owned(),
            "|---|---|---|---|---|---|".to_owned(),
        ];
        for (variant, samples) in &self.0 {
            let cpu = Quartiles::of(samples.iter().map(|sample| sample.cpu));
            let least = samples.iter().map(|sample| sample.cpu).fold(f64::INFINITY, f64::min);
            let over = self.paired(*variant, Variant::Plain, |own, plain| own - plain);
            lines.push(format!(
                "| {} | {:.1} [{:.1}–{:.1}] | {least:.1} | {:+.1} [{:+.1}–{:+.1}] | {:.0} | {:.0} % |",
                variant.name(),
                cpu.median,
                cpu.low,
                cpu.high,
                over.median,
                over.low,
                over.high,
                Quartiles::of(samples.iter().map(|sample| sample.rate)).median,
                Quartiles::of(samples.iter().map(|sample| sample.busy)).median * 100.0,
            ));
        }
        lines.push(String::new());
        lines.push("| bar | whole request: ratio | what the filters add: ratio | |".to_owned());
        lines.push("|---|---|---|---|".to_owned());
        lines.extend(BARS.iter().map(|(variant, limit, base)| self.held(*variant, *limit, *base)));
        lines.join("\n") + "\n"
    }

    /// A bar is kept if both ratios keep it: the whole request flatters whoever adds little to much.
    fn held(&self, variant: Variant, limit: f64, base: Variant) -> String {
        let whole = self.paired(variant, base, |own, base| own / base);
        let added = |variant| self.paired(variant, Variant::Plain, |own, plain| own - plain).median;
        let share = added(variant) / added(base);
        let verdict = if whole.median <= limit && share <= limit { "kept" } else { "missed" };
        format!(
            "| {} | {:.2} [{:.2}–{:.2}] | {share:.2} | {verdict} |",
            bar(variant, limit, base),
            whole.median,
            whole.low,
            whole.high
        )
    }
}

/// A bar in words.
pub(crate) fn bar(variant: Variant, limit: f64, base: Variant) -> String {
    let times = if limit == 1.0 { String::new() } else { format!("{limit} × ") };
    format!("{} ≤ {times}{}", variant.name(), base.name())
}

/// Puts a run's results where the document keeps results of this kind.
pub(crate) fn write(document: &Path, kind: &str, results: &str) -> Result<()> {
    let text = fs::read_to_string(document).with_context(|| document.display().to_string())?;
    let (start, end) = (format!("<!-- {kind} -->\n"), format!("<!-- end of {kind} -->\n"));
    let (before, rest) = text.split_once(&start).with_context(|| format!("no place for {kind}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no end of {kind}"))?;
    fs::write(document, format!("{before}{start}\n{results}\n{end}{after}"))?;
    Ok(())
}
