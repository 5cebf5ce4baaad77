//! Certificates of the API, and where it listens without.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rampart::access::local;
use rampart::tls;
use rampart_tests::certificates::Authority;
use reqwest::tls::TlsInfo;
use reqwest::{Certificate, Client};

use crate::command::{Ran, command, ran, run};
use crate::process::{Serve, serve_with};

/// An authority, with its certificate in `ca.pem`.
fn authority(dir: &Path) -> Authority {
    let authority = Authority::new().unwrap();
    authority.write(&dir.join("ca.pem")).unwrap();
    authority
}

const TLS: [&str; 4] = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];

/// A service with a certificate; the certificate.
async fn start(dir: &Path, authority: &Authority, options: &[&str]) -> (Serve, Vec<u8>) {
    let shown = authority.issue("localhost", &dir.join("cert.pem"), &dir.join("key.pem")).unwrap();
    (serve_with(dir, &[&TLS, options].concat()).await, shown)
}

fn https(serve: &Serve) -> String {
    serve.url.replace("http://127.0.0.1", "https://localhost")
}

async fn ask(dir: &Path, url: &str, options: &[&str]) -> Ran {
    run(dir, url, &[&["flag", "list"], options].concat()).await
}

#[tokio::test]
async fn the_command_reaches_a_service_whose_authority_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let authority = authority(dir);
    let (serve, _) = start(dir, &authority, &["--client-ca", "ca.pem"]).await;
    let url = https(&serve);
    let [cert, key] = ["client-cert.pem", "client-key.pem"].map(|file| dir.join(file));
    authority.issue("localhost", &cert, &key).unwrap();
    let [cert, key] = [cert, key].map(|file| fs::read_to_string(file).unwrap());
    fs::write(dir.join("client.pem"), cert + &key).unwrap();
    let both = ["--ca-cert", "ca.pem", "--client-cert", "client.pem"];
    let reached = ask(dir, &url, &both).await;
    assert_eq!(reached.code, Some(0), "{}", reached.stderr);
    // A certificate opens the connection, and the key still says who it is.
    let mut nobody = command(dir, &url, &[&["flag", "list"], &both[..]].concat());
    let nobody = ran(nobody.env("XDG_STATE_HOME", "/nowhere")).await;
    assert!(nobody.stderr.contains("asks who you are"), "{}", nobody.stderr);
    for too_little in [&both[..2], &both[2..]] {
        assert_eq!(ask(dir, &url, too_little).await.code, Some(3), "{too_little:?}");
    }
    let stranger = ask(dir, &url, &both[2..]).await.stderr;
    assert!(stranger.contains("UnknownIssuer: name who vouches for it with --ca-cert"), "{stranger}");
    let missing = ask(dir, &url, &["--ca-cert", "no.pem"]).await;
    assert_eq!((missing.code, missing.stderr.starts_with("error: no.pem: ")), (Some(1), true));
    serve.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_wrong_one_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let authority = authority(dir);
    let (mut serve, before) = start(dir, &authority, &[]).await;
    let url = https(&serve) + "/health";
    tls::use_ring();
    let client = || {
        let root = Certificate::from_pem(&fs::read(dir.join("ca.pem")).unwrap()).unwrap();
        Client::builder().tls_certs_only([root]).tls_info(true).build().unwrap()
    };
    let shown = async |client: &Client| {
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
        let info = answer.extensions().get::<TlsInfo>().unwrap().peer_certificate().unwrap().to_vec();
        // Read to its end, so that the connection is free for the next.
        answer.bytes().await.unwrap();
        info
    };
    let kept = client();
    assert_eq!(shown(&kept).await, before);

    // The certificate alone does not fit the key that is there.
    let [cert, key] = ["new-cert.pem", "new-key.pem"].map(|file| dir.join(file));
    let after = authority.issue("localhost", &cert, &key).unwrap();
    fs::rename(cert, dir.join("cert.pem")).unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), serve.logs("those so far stay")).await;
    assert!(told.unwrap().contains("cert.pem and key.pem"));
    assert_eq!(shown(&client()).await, before);
    fs::rename(key, dir.join("key.pem")).unwrap();
    tokio::time::timeout(Duration::from_secs(20), serve.logs("are taken up")).await.unwrap();
    assert_eq!(shown(&client()).await, after);
    // The connection from before was not closed: it still shows what it began with.
    assert_eq!(shown(&kept).await, before);
    serve.stop().await;
}

#[tokio::test]
async fn beyond_loopback_it_asks_for_encryption() {
    let dir = tempfile::tempdir().unwrap();
    let run = async |options: &[&str]| {
        let all = [&["serve", "--database", "rampart.db"], options].concat();
        run(dir.path(), "http://127.0.0.1:1", &all).await
    };
    for (options, said) in [
        (
            ["--http", "0.0.0.0:0", "--xds", "127.0.0.1:0"],
            "--http 0.0.0.0:0 is reached from other machines, and API keys would pass the network in clear text: give \
             --tls-cert and --tls-key, or --insecure where something in front encrypts",
        ),
        (
            ["--http", "[::1]:0", "--xds", "[::]:0"],
            "--xds [::]:0 is reached from other machines, and the policy would pass the network in clear text: give \
             --xds-tls-cert and --xds-tls-key, or --insecure where something in front encrypts",
        ),
    ] {
        let refused = run(&options).await;
        assert_eq!((refused.code, refused.stderr), (Some(1), format!("error: {said}\n")));
    }
    assert_eq!(run(&["--tls-cert", "cert.pem"]).await.code, Some(2), "a certificate needs its key");
    let absent =
        run(&["--http", "127.0.0.1:0", "--xds", "127.0.0.1:0", "--tls-cert", "a", "--tls-key", "b"]).await;
    assert_eq!((absent.code, absent.stderr.starts_with("error: a: ")), (Some(1), true), "{}", absent.stderr);
}

#[tokio::test]
async fn the_local_key_is_there_while_the_service_runs() {
    let dir = tempfile::tempdir().unwrap();
    let serve = serve_with(dir.path(), &[]).await;
    let port = serve.url.rsplit(':').next().unwrap();
    let file = dir.path().join(format!("rampart/local-{port}.key"));
    let key = fs::read_to_string(&file).unwrap();
    let mode = |file: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(file).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let created = run(dir.path(), &serve.url, &["flag", "create", "f"]).await;
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let history = run(dir.path(), &serve.url, &["history"]).await.stdout;
    assert!(history.contains("key/local for amina  cli 127.0.0.1  flag f added"), "{history}");
    let log = serve.stop().await;
    assert!(!log.contains(key.trim()) && !file.exists(), "{log}");
    // Another one's is left alone.
    let other = local::LocalKey::create(file.clone()).unwrap();
    local::write(&file, "rampart_another").unwrap();
    drop(other);
    assert!(file.exists());
}
