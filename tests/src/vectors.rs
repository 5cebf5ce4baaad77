//! The frozen bucketing vectors as a policy: what holds of a hash natively can so be asked of the
//! filter, in an interpreter and in a real Envoy.

use crate::paths;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;

/// The generations of the vectors, as vectors and as policies call them.
const GENERATIONS: [(&str, &str); 2] = [("v2", "flagd-v2"), ("v3", "flagd-v3")];

/// How many vectors there are.
const COUNT: usize = 100;

/// A key, an organisation, and for each generation the bucket of a million.
pub struct Vector {
    key: String,
    /// Who asks.
    pub organisation: String,
    buckets: [u64; 2],
}

impl Vector {
    /// All of them.
    ///
    /// # Errors
    ///
    /// When the file is not what it was.
    pub fn all() -> Result<Vec<Self>> {
        let file = paths::repository().join("tests/vectors/bucketing-vectors-explicit.json");
        let file: Value = serde_json::from_slice(&fs::read(file)?)?;
        let rows = file["rows"].as_array().context("no rows")?;
        let vectors: Result<Vec<Self>> = rows.iter().map(Self::read).collect();
        let vectors = vectors?;
        ensure!(vectors.len() == COUNT, "{} vectors: none may go", vectors.len());
        Ok(vectors)
    }

    fn read(row: &Value) -> Result<Self> {
        let text = |member: &str| row[member].as_str().map(str::to_owned).context("a text is missing");
        let bucket = |generation: &str| row[generation]["bucketOf1e6"].as_u64().context("no bucket");
        let buckets = [bucket(GENERATIONS[0].0)?, bucket(GENERATIONS[1].0)?];
        Ok(Self { key: text("flagKey")?, organisation: text("organizationId")?, buckets })
    }

    /// Flags on both sides of the vector's buckets, in steps of a policy's percentages, and whether
    /// each is on for the organisation: off at the percentage that its bucket equals, on at the next.
    pub fn flags(&self, number: usize) -> Vec<(Value, bool)> {
        let mut flags = Vec::new();
        for ((short, generation), bucket) in GENERATIONS.iter().zip(self.buckets) {
            // A bucket of 1,000,000 lies in that of 100,000 which is a tenth of it.
            for (thousandths, on) in [(bucket / 10, false), (bucket / 10 + 1, true)] {
                let flag = json!({
                    "key": format!("{number}-{short}-{on}"), "rollout_group": self.key,
                    "bucketing": generation, "percentage": thousandths as f64 / 1_000.0,
                });
                flags.push((flag, on));
            }
        }
        flags
    }
}

/// Makes a policy ask the flags of all vectors: its first module is told of those that are on.
pub fn ask_all(policy: &mut Value, vectors: &[Vector]) {
    let flags: Vec<Value> =
        vectors.iter().enumerate().flat_map(|(n, vector)| vector.flags(n)).map(|flag| flag.0).collect();
    policy["modules"][0]["flags"] = flags.iter().map(|flag| flag["key"].clone()).collect();
    policy["modules"][0]["gates"] = json!([]);
    policy["flags"] = Value::Array(flags);
}

/// Holds what the module was told against a vector.
///
/// # Errors
///
/// When a flag is not what the vector says.
pub fn check(vectors: &[Vector], number: usize, told: &str) -> Result<()> {
    for (flag, on) in vectors[number].flags(number) {
        let key = flag["key"].as_str().unwrap_or_default();
        let is_on = told.split(',').any(|told| told == key);
        ensure!(is_on == on, "{flag} for {}: {is_on} instead of {on}", vectors[number].organisation);
    }
    Ok(())
}
