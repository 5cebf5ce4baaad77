//! `rampart token …`: keys and tokens for development. Real ones come from your issuer.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use jwt_simple::prelude::{Claims, Duration, RS256KeyPair, RSAKeyPairLike as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::client::Failure;
use super::output::{Output, text};

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
            Self::Key { out } => output.show(&make_key(&out)?, |made| {
                let (private, public) = (text(&made["private_key"]), text(&made["jwks"]));
                format!(
                    "{private}: the private key, for `rampart token issue`\n{public}: the public key, for `rampart \
                     provider set`"
                )
            }),
            Self::Issue(issue) => output.show(&json!({"token": issue.token()?}), |made| text(&made["token"])),
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

/// Writes both files; where they are.
fn make_key(out: &Path) -> Result<Value> {
    let [private, public] = ["private-key.pem", "jwks.json"].map(|file| out.join(file));
    // Either may be in use. Both are looked at first, so that neither is left without the other.
    for file in [&private, &public] {
        if fs::symlink_metadata(file).is_ok() {
            bail!("{} exists already: move it away, or name another folder with --out", file.display());
        }
    }
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let key = RS256KeyPair::generate(2048)?.with_key_id(KEY_ID);
    let jwk: Value = serde_json::from_str(&key.public_key().to_jwk())?;
    create(&private, 0o600, &key.to_pem()?)?;
    create(&public, 0o666, &format!("{:#}\n", json!({"keys": [jwk]})))?;
    Ok(json!({"private_key": private, "jwks": public}))
}

/// Writes a file that was not there.
fn create(file: &Path, mode: u32, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(mode).open(file);
    opened
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| file.display().to_string())
}
