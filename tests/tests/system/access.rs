//! Envoys prove which node they are, by certificate or by key; certificates change under running streams.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    certificates::Authority,
    envoy::Envoy,
    issuer::Issuer,
    paths,
    ports::substitute,
    seed::EARLY,
    service::{Service, ServicePorts},
    stack::{Stack, Upstreams},
    wait::{SOON, eventually},
    workdir::system_test,
};
use std::{fs, path::Path, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// The flag service's name, as the bootstrap has it.
const NAME: &str = "rampart.internal";

/// A bootstrap that Rampart ships, on a test's own ports and files.
fn bootstrap(file: &str, service: &Service, certificates: &Path) -> Result<String> {
    let text = fs::read_to_string(paths::repository().join("envoy").join(file))?;
    let text = text.replace("/etc/rampart/tls", &certificates.display().to_string());
    substitute(&text, &[(9901, 0), (8081, service.xds_address().port())])
}

/// A service that asks Envoys for a certificate, with the authority that vouches for both sides.
fn with_certificates(dir: &Path) -> Result<(Service, Authority)> {
    let authority = Authority::new()?;
    authority.write(&dir.join("ca.pem"))?;
    authority.issue(NAME, &dir.join("server.pem"), &dir.join("server.key"))?;
    authority.issue("envoy-1", &dir.join("envoy.pem"), &dir.join("envoy.key"))?;
    let mut service = Service::new(dir, ServicePorts::free()?);
    for (option, file) in
        [("--xds-tls-cert", "server.pem"), ("--xds-tls-key", "server.key"), ("--xds-client-ca", "ca.pem")]
    {
        service.set(option, &dir.join(file).display().to_string());
    }
    Ok((service, authority))
}

/// The certificate that a new connection to the xDS server is shown.
async fn shown(service: &Service, dir: &Path) -> Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem"))?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(service.xds_address()).await?;
    let connected = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME)?, stream).await?;
    let certificates = connected.get_ref().1.peer_certificates().context("it shows none")?;
    Ok(certificates.first().context("it shows none")?.to_vec())
}

#[test]
fn a_certificate_is_swapped_under_a_stream_and_nothing_is_dropped() {
    system_test(async |dir| {
        let (mut service, authority) = with_certificates(dir)?;
        service.start().await?;
        let envoy = Envoy::start(dir, &bootstrap("bootstrap-tls.yaml", &service, dir)?, 2).await?;
        let (issuer, upstreams) = (Issuer::start().await?, Upstreams::start().await?);
        let mut stack = Stack { envoy, service, issuer, upstreams };
        stack.seed(dir).await?;
        let token = stack.token(EARLY)?;

        let before = shown(&stack.service, dir).await?;
        let fresh = authority.issue(NAME, &dir.join("server.pem"), &dir.join("server.key"))?;
        ensure!(fresh != before, "the certificate is another one");
        let swapped = async || {
            ensure!(shown(&stack.service, dir).await? == fresh, "still the old one");
            Ok(())
        };
        eventually(SOON, "the new certificate", swapped).await?;
        // The stream from before still carries changes.
        stack.roll_out("100").await?;
        stack.served_by(&token, "analytics-core v1").await?;
        for (stat, value) in [
            ("cluster.rampart_xds.upstream_cx_total", 1),
            ("cluster.rampart_xds.upstream_cx_destroy", 0),
            ("control_plane.connected_state", 1),
        ] {
            let found = stack.envoy.stat(stat).await?;
            ensure!(found == value, "{stat} is {found}");
        }
        // An Envoy that connects only now gets the new one, and takes it.
        let late = dir.join("late");
        fs::create_dir(&late)?;
        let mut late = Envoy::start(&late, &bootstrap("bootstrap-tls.yaml", &stack.service, dir)?, 1).await?;
        eventually(SOON, "the second Envoy's stream", async || {
            ensure!(late.stat("control_plane.connected_state").await? == 1);
            Ok(())
        })
        .await?;
        late.kill()
    });
}

#[test]
fn an_envoy_with_anothers_certificate_or_none_gets_nothing() {
    system_test(async |dir| {
        let (mut service, authority) = with_certificates(dir)?;
        service.start().await?;
        let config = bootstrap("bootstrap-tls.yaml", &service, dir)?;
        let other = config.replace("id: envoy-1", "id: envoy-2");
        let own = config.find("          tls_certificates:").context("the bootstrap has a certificate")?;
        let rest = config.find("          validation_context:").context("the bootstrap has an authority")?;
        let none = format!("{}{}", &config[..own], &config[rest..]).replace("id: envoy-1", "id: envoy-3");
        // One that no authority of the service's vouches for does not get as far as a stream.
        let foreign = dir.join("foreign");
        fs::create_dir(&foreign)?;
        authority.write(&foreign.join("ca.pem"))?;
        Authority::new()?.issue("envoy-1", &foreign.join("envoy.pem"), &foreign.join("envoy.key"))?;
        let foreign = bootstrap("bootstrap-tls.yaml", &service, &foreign)?;

        let refused = [
            (other, Some("the certificate is for `envoy-1`, and this is node `envoy-2`")),
            (none, Some("an Envoy proves which node it is")),
            (foreign, None),
        ];
        for (number, (config, reason)) in refused.into_iter().enumerate() {
            let dir = dir.join(number.to_string());
            fs::create_dir(&dir)?;
            let envoy = Envoy::start(&dir, &config, 1).await?;
            eventually(SOON, "the refusal", async || {
                match reason {
                    // More than one stream was refused, and the operator was told once.
                    Some(reason) => {
                        ensure!(envoy.stat("cluster.rampart_xds.upstream_rq_total").await? >= 2);
                        let told = service.log()?.matches(reason).count();
                        ensure!(told == 1, "{told} times: {reason}");
                    }
                    None => ensure!(envoy.stat("cluster.rampart_xds.ssl.connection_error").await? >= 1),
                }
                // It tries again and again, and takes itself for connected until it is refused again.
                ensure!(envoy.stat("control_plane.connected_state").await? == 0);
                Ok(())
            })
            .await?;
            ensure!(!envoy.config_dump().await?.to_string().contains("rampart.wasm"), "it got the policy");
        }
        let status = service.cli(&["status", "--output", "json"]).await?.json()?;
        ensure!(status["envoys"] == serde_json::json!([]), "{status}");
        Ok(())
    });
}

#[test]
fn an_envoy_with_a_key_is_let_in_until_the_key_is_revoked() {
    system_test(async |dir| {
        let mut service = Service::new(dir, ServicePorts::free()?);
        service.set("--xds-auth", "required");
        service.start().await?;
        let create = ["key", "create", "edge", "--role", "envoy", "--node", "envoy-*"];
        let key = service.cli(&create).await?.ok()?;
        let metadata = format!("initial_metadata: [{{ key: authorization, value: Bearer {} }}]", key.trim());
        let config = bootstrap("bootstrap.yaml", &service, dir)?
            .replace("    - envoy_grpc:", &format!("    - {metadata}\n      envoy_grpc:"))
            .replace("    grpc_service:\n", &format!("    grpc_service:\n      {metadata}\n"));
        let mut envoy = Envoy::start(dir, &config, 1).await?;
        envoy.ready().await?;
        ensure!(envoy.stat("control_plane.connected_state").await? == 1);
        eventually(SOON, "its reports", async || {
            let status = service.cli(&["status"]).await?.ok()?;
            ensure!(status.contains("envoy-1") && !status.contains("not reported"), "{status}");
            Ok(())
        })
        .await?;
        service.cli(&["key", "revoke", "edge"]).await?.ok()?;
        eventually(SOON, "the end of the stream", async || {
            ensure!(envoy.stat("control_plane.connected_state").await? == 0);
            Ok(())
        })
        .await?;
        let log = service.log()?;
        ensure!(!log.contains(&key.trim()[17..]), "the key is in the log");
        Ok(())
    });
}

#[test]
fn the_bootstrap_with_tls_is_the_plain_one_with_tls() -> Result<()> {
    let read = |name: &str| fs::read_to_string(paths::repository().join("envoy").join(name));
    let without_comments = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let encrypted = read("bootstrap-tls.yaml")?;
    let (before, tls) = encrypted.split_once("    transport_socket:\n").context("no TLS")?;
    let after: String = tls.split_inclusive('\n').skip_while(|line| line.starts_with("      ")).collect();
    let same = format!("{before}{after}");
    ensure!(without_comments(&same) == without_comments(&read("bootstrap.yaml")?), "they differ");
    Ok(())
}
