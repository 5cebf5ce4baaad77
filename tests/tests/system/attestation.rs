//! A filter can be absent, broken or half configured. With the guard that asks for its attestation
//! such a request is refused; these tests also show that the guard is what refuses it.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    client::{Client, fan_out, tally},
    envoy::Envoy,
    modules::{ATTESTING, Module, NO_OP, REFUSING, TRAPPING, WORKER_REFUSING},
    ports::Port,
    static_config::{Filter, StaticConfig},
    upstream::Upstream,
    workdir::system_test,
};
use std::path::Path;

const ATTESTATION: &str = "wasm.rampart.decision";
const REQUESTS: usize = 20;

/// The failure policy that Rampart ships.
const SHIPPED: &str = "FAIL_RELOAD";

/// Every request through `module` is answered with `status`; only those answered 200 reach the
/// upstream.
async fn check(dir: &Path, module: Option<Module>, guarded: bool, status: u16) -> Result<()> {
    check_under(SHIPPED, dir, module, guarded, status).await
}

/// The same under another of Envoy's failure policies.
async fn check_under(
    failure_policy: &str,
    dir: &Path,
    module: Option<Module>,
    guarded: bool,
    status: u16,
) -> Result<()> {
    let upstream = Upstream::start("upstream").await?;
    let listener = Port::claim()?;
    let module = module.map(|module| module.write_to(dir)).transpose()?;
    let config = StaticConfig {
        listener: listener.address(),
        upstream: upstream.address(),
        filter: module.as_deref().map_or(Filter::None, Filter::Module),
        attestation: guarded.then_some(ATTESTATION),
    };
    let config = config.render().replace(SHIPPED, failure_policy);
    let mut envoy = Envoy::start(dir, &config, 2).await?;
    envoy.ready().await?;
    let client = Client::new(listener.address())?;
    let ask = async |_| Ok(client.get("/", None).await?.status);
    // Many, over several connections: both workers answer, and a broken one stays broken.
    let answers = tally(&fan_out(0..REQUESTS, 8, ask).await?);
    ensure!(answers == [(status.to_string(), REQUESTS)].into(), "{answers:?}");
    let passed = if status == 200 { REQUESTS } else { 0 };
    ensure!(upstream.requests() == passed, "{} reached the upstream", upstream.requests());
    Ok(())
}

#[test]
fn an_attested_request_passes_the_guard() {
    system_test(async |dir| check(dir, Some(ATTESTING), true, 200).await);
}

#[test]
fn a_request_that_no_filter_attested_is_refused() {
    system_test(async |dir| check(dir, Some(NO_OP), true, 403).await);
}

#[test]
fn a_request_is_refused_when_the_filter_is_absent() {
    system_test(async |dir| check(dir, None, true, 403).await);
}

#[test]
fn a_request_that_traps_the_filter_is_refused() {
    system_test(async |dir| check(dir, Some(TRAPPING), true, 503).await);
}

#[test]
fn a_filter_that_failed_on_its_worker_is_skipped_by_envoy_itself() {
    // Not what anyone wants: it is why the guard exists. Should a new Envoy refuse such requests
    // by itself, this test says so.
    system_test(async |dir| check(dir, Some(WORKER_REFUSING), false, 200).await);
}

#[test]
fn a_filter_that_failed_on_its_worker_is_not_a_pass() {
    system_test(async |dir| check(dir, Some(WORKER_REFUSING), true, 403).await);
}

#[test]
fn no_failure_policy_stands_in_for_the_guard() {
    system_test(async |dir| {
        for failure_policy in ["UNSPECIFIED", "FAIL_CLOSED", "FAIL_OPEN"] {
            for (guarded, status) in [(false, 200), (true, 403)] {
                let checked = check_under(failure_policy, dir, Some(WORKER_REFUSING), guarded, status).await;
                checked.with_context(|| failure_policy.to_owned())?;
            }
        }
        Ok(())
    });
}

#[test]
fn envoy_does_not_start_with_a_filter_that_refuses_its_configuration() {
    system_test(async |dir| {
        let error = check(dir, Some(REFUSING), true, 200).await.unwrap_err();
        ensure!(format!("{error:#}").contains("Unable to create Wasm plugin module"), "{error:#}");
        Ok(())
    });
}
