//! `rampart token …`: keys and tokens for development. Real ones come from your issuer.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use jwt_simple::prelude::{Claims, Duration, RS256KeyPair, RSAKeyPairLike as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::client::Failure;
use super::output::Output;

/// The `kid` of development keys: says what they are wherever they turn up.
const KEY_ID: &str = "development";

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a signing key: private-key.pem, and jwks.json for `rampart provider set`
    Key {
        /// Folder to write to
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Make a token; prints nothing else
    Issue(Issue),
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// The private key
    #[arg(long, value_name = "FILE", default_value = "private-key.pem")]
    key: PathBuf,
    /// `iss`
    #[arg(long)]
    issuer: String,
    /// `aud`
    #[arg(long)]
    audience: Option<String>,
    /// The organisation, as claim `org_id`
    #[arg(long)]
    organisation: Option<String>,
    /// `sub`
    #[arg(long)]
    subject: Option<String>,
    /// Roles; may be repeated
    #[arg(long = "role")]
    roles: Vec<String>,
    /// Permissions; may be repeated
    #[arg(long = "permission")]
    permissions: Vec<String>,
    /// Seconds until it expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    expires_in: u32,
}

#[derive(Serialize, serde::Deserialize)]
struct Identity {
    #[serde(skip_serializing_if = "Option::is_none")]
    org_id: Option<String>,
    roles: Vec<String>,
    permissions: Vec<String>,
}

impl Token {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Key { out } => Ok(make_key(&out, output)?),
            Self::Issue(issue) => {
                println!("{}", issue.token()?);
                Ok(())
            }
        }
    }
}

impl Issue {
    fn token(self) -> Result<String> {
        let pem = fs::read_to_string(&self.key).with_context(|| self.key.display().to_string())?;
        let key =
            RS256KeyPair::from_pem(&pem).with_context(|| format!("{} is no RSA key", self.key.display()))?;
        let Self { issuer, audience, organisation: org_id, subject, roles, permissions, expires_in, .. } =
            self;
        let identity = Identity { org_id, roles, permissions };
        let mut claims =
            Claims::with_custom_claims(identity, Duration::from_secs(expires_in.into())).with_issuer(issuer);
        if let Some(audience) = audience {
            claims = claims.with_audience(audience);
        }
        if let Some(subject) = subject {
            claims = claims.with_subject(subject);
        }
        key.with_key_id(KEY_ID).sign(claims)
    }
}

fn make_key(out: &PathBuf, output: Output) -> Result<()> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let key = RS256KeyPair::generate(2048)?.with_key_id(KEY_ID);
    let (private, public) = (out.join("private-key.pem"), out.join("jwks.json"));
    // A key that is there may be in use: it is never overwritten.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&private)
        .with_context(|| private.display().to_string())?;
    file.write_all(key.to_pem()?.as_bytes())?;
    let jwk: Value = serde_json::from_str(&key.public_key().to_jwk())?;
    fs::write(&public, format!("{:#}\n", json!({"keys": [jwk]})))
        .with_context(|| public.display().to_string())?;
    output.show(&json!({"private_key": private, "jwks": public}), |_| {
        format!(
            "{}: the private key, for `rampart token issue`\n{}: the public key, for `rampart provider set`",
            private.display(),
            public.display()
        )
    });
    Ok(())
}
