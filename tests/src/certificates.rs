//! A certificate authority made at run time, and what it vouches for.

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};
use std::{fs, path::Path};

/// An authority of one's own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn new() -> Result<Self> {
        let mut params = named("Rampart's test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Writes its own certificate.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, self.0.pem()).with_context(|| file.display().to_string())
    }

    /// Writes a new certificate of this name (DNS, or a URI such as SPIFFE's), valid for servers and clients, and
    /// its key; the certificate, as it is on the wire.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn issue(&self, name: &str, cert: &Path, key: &Path) -> Result<Vec<u8>> {
        let pair = KeyPair::generate()?;
        let mut params = named(name);
        let kind = if name.contains("://") { SanType::URI } else { SanType::DnsName };
        params.subject_alt_names = vec![kind(name.try_into()?)];
        let certificate = params.signed_by(&pair, &self.0)?;
        for (file, text) in [(cert, certificate.pem()), (key, pair.serialize_pem())] {
            fs::write(file, text).with_context(|| file.display().to_string())?;
        }
        Ok(certificate.der().to_vec())
    }
}

/// Names of their own: a certificate whose subject is its issuer's counts as one that vouches for itself.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
