//! How connections to a module are encrypted. Private keys stay on Envoy's machine: a manifest only
//! says where.

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use utoipa::ToSchema;
use webpki::anchor_from_trusted_cert;

use super::super::change::malformed;
use super::super::{Module, Refusal};

/// How connections to a module are encrypted, and who may answer them. There is no way not to look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The name that is asked for (SNI), and that the certificate must bear. Unset: the endpoints' own,
    /// where they have one and the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Names of which the certificate must bear one, in place of `server_name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// Authorities that may vouch for the certificate (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The same, as a file on Envoy's machine; exactly one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// What Envoy shows of itself. Unset: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ClientCertificate>,
}

/// A certificate and its key, as files on Envoy's machine (PEM).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The certificate, and those that lead to its authority.
    pub chain_file: String,
    /// Its private key.
    pub key_file: String,
}

impl Tls {
    /// What is unset and follows from the module, set: the name that its endpoints share.
    pub(in super::super) fn of(module: &Module) -> Option<Self> {
        let tls = module.tls.clone()?;
        let server_name = tls.server_name.clone().or_else(|| name_of(module).map(str::to_owned));
        Some(Self { server_name, ..tls })
    }
}

/// The one name of all endpoints.
fn name_of(module: &Module) -> Option<&str> {
    let first = module.endpoints.first()?;
    let alike = !first.is_address() && module.endpoints.iter().all(|endpoint| endpoint.host == first.host);
    alike.then_some(first.host.as_str())
}

pub(super) fn check(tls: &Tls, module: &Module) -> Result<(), Refusal> {
    match &tls.server_name {
        Some(name) if !is_name(name) => {
            return Err(malformed("tls.server_name", &format!("`{name}` is no DNS name")));
        }
        // What the certificate bears may be no host's name at all; then none is asked for.
        None if name_of(module).is_none() && tls.subject_alt_names.is_empty() => {
            let problem = "say which name the certificate must bear, here or by `subject_alt_names`: the endpoints do \
                           not share one";
            return Err(malformed("tls.server_name", problem));
        }
        _ => {}
    }
    if let Some(at) = tls.subject_alt_names.iter().position(|name| name.is_empty() || name.contains('*')) {
        let problem = "a whole name is expected, as the certificate has it";
        return Err(malformed(&format!("tls.subject_alt_names[{at}]"), problem));
    }
    match (&tls.ca, &tls.ca_file) {
        (Some(pem), None) => authorities(pem).map_err(|problem| malformed("tls.ca", &problem))?,
        (None, Some(file)) => file_of_envoy("tls.ca_file", file)?,
        _ => {
            return Err(malformed("tls", "say who may vouch for the endpoints, by either `ca` or `ca_file`"));
        }
    }
    if let Some(certificate) = &tls.certificate {
        file_of_envoy("tls.certificate.chain_file", &certificate.chain_file)?;
        file_of_envoy("tls.certificate.key_file", &certificate.key_file)?;
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn authorities(pem: &str) -> Result<(), String> {
    let mut any = false;
    for (at, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let bad = |error: &dyn std::fmt::Display| format!("certificate {} does not parse: {error}", at + 1);
        let certificate = certificate.map_err(|error| bad(&error))?;
        anchor_from_trusted_cert(&certificate).map_err(|error| bad(&error))?;
        any = true;
    }
    if any { Ok(()) } else { Err("there is no certificate in it: PEM is expected".to_owned()) }
}

fn file_of_envoy(field: &str, path: &str) -> Result<(), Refusal> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(malformed(field, "an absolute path is expected, of a file on Envoy's machine"))
}
