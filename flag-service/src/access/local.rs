//! The key of the machine: made when the flag service starts, readable for the user it runs as, gone
//! when it ends. The command finds it by the port it asks. Whoever can read it could as well write the
//! database, so it gives nothing away.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::Context as _;

use super::key::{Key, Secret};
use super::right::Role;

/// Its name in the history. No other key may have it.
pub const NAME: &str = "local";

/// The local key of a flag service that runs; its file goes with it.
#[derive(Debug)]
pub struct LocalKey {
    /// What is compared with.
    pub(super) key: Key,
    file: PathBuf,
    secret: Secret,
}

impl LocalKey {
    /// Makes a key and writes it to a file of mode 0600.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn create(file: PathBuf) -> anyhow::Result<Self> {
        let secret = Secret::generate()?;
        write(&file, secret.text()).with_context(|| format!("the local key {}", file.display()))?;
        let key = Key {
            name: NAME.to_owned(),
            role: Role::Admin,
            node: None,
            expires_at: None,
            secrets: vec![secret.hashed()],
        };
        Ok(Self { key, file, secret })
    }

    /// The text of its secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret.text()
    }
}

impl Drop for LocalKey {
    fn drop(&mut self) {
        // Another flag service may have taken the port, and the file, since.
        if fs::read_to_string(&self.file).is_ok_and(|text| text.trim() == self.secret.text()) {
            // A file that stays opens nothing any more.
            let _ = fs::remove_file(&self.file);
        }
    }
}

/// Where the key of the flag service on this port is: in the user's state folder, as the XDG base
/// directory specification has it. None where the environment names no such folder.
#[must_use]
pub fn file(port: u16) -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join(format!("rampart/local-{port}.key")))
}

/// Writes a secret where only this user reads it, in one step: whoever reads at the same time gets the
/// old or the new one.
///
/// # Errors
///
/// When the file or its folder cannot be written.
pub fn write(file: &Path, secret: &str) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writeln!(opened, "{secret}").and_then(|()| fs::rename(&beside, file)).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}
