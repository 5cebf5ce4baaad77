//! A PostgreSQL server of one's own, from Debian's package, with its files in a temporary folder. It ends
//! when its value is dropped, and also when the process that started it is killed.

use crate::{
    ports::Port,
    wait::{SOON, exited},
};
use anyhow::{Context as _, Result, bail};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// The user that owns every database.
const USER: &str = "rampart";
/// Its password, which must not be found in any log.
pub const PASSWORD: &str = "only-for-tests";

/// Sets up a server where there is none, runs it, says so, and ends it when its input ends. PostgreSQL does
/// not run as root.
const SCRIPT: &str = r#"
set -eu
folder=$1 port=$2 password=$3
programs=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
as=
[ "$(id -u)" != 0 ] || as='setpriv --reuid=postgres --regid=postgres --init-groups'
cd /
if [ ! -d "$folder/data" ]; then
    mkdir -p "$folder"
    printf %s "$password" >"$folder/password"
    [ -z "$as" ] || chown -R postgres "$folder"
    $as "$programs/initdb" --pgdata="$folder/data" --username=rampart --pwfile="$folder/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >"$folder/initdb.log"
    $as openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
        -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$folder/data/server.key" -out "$folder/data/server.crt" 2>"$folder/log"
    cp "$folder/data/server.crt" "$folder/root.crt"
fi
$as "$programs/postgres" -D "$folder/data" -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c max_connections=300 -c fsync=off -c ssl=on 2>>"$folder/log" &
server=$!
until "$programs/pg_isready" --quiet --host=127.0.0.1 --port="$port"; do
    kill -0 "$server" || { cat "$folder/log" >&2; exit 1; }
    sleep 0.05
done
echo ready
# A line asks it to stop; an end without one means that whoever asks is gone.
gone=
read -r _ || gone=yes
kill -QUIT "$server"
wait "$server" || true
[ -z "$gone" ] || rm -rf "$folder"
"#;

/// A server with its port and its files; they outlive its process, so that it can be stopped and started
/// again.
#[derive(Debug)]
pub struct Postgres {
    port: Port,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Postgres {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// When it cannot be started, such as where the package is missing.
    pub fn start() -> Result<Self> {
        // Where its own user gets to, which build folders are not.
        let folder = tempfile::Builder::new().prefix("rampart-postgres-").tempdir()?;
        let mut server = Self { port: Port::claim()?, folder, process: None };
        server.restart()?;
        Ok(server)
    }

    /// Starts it again after [`Self::stop`].
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        let mut process = Command::new("sh")
            .args(["-c", SCRIPT, "postgres"])
            .arg(self.folder.path())
            .args([&self.port.number().to_string(), PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        BufReader::new(process.stdout.take().context("its output")?).read_line(&mut said)?;
        self.process = Some(process);
        if said != "ready\n" {
            bail!("PostgreSQL does not start: is Debian's package `postgresql` installed?");
        }
        Ok(())
    }

    /// Ends the server as a crash would, with every connection.
    ///
    /// # Errors
    ///
    /// When it outlives that.
    pub fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the server does not run")?;
        process.stdin.take().context("its input")?.write_all(b"stop\n")?;
        exited(SOON, &mut process)?;
        Ok(())
    }

    /// The URL of a new, empty database. Its name and the server's end with the server.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn database(&self) -> Result<String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("rampart{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// The URL of a database of this name.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{name}", self.port.address())
    }

    /// The certificate by which the server is known.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("root.crt")
    }

    /// Runs a statement, and returns what it answers.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn execute(&self, database: &str, statement: &str) -> Result<String> {
        let output = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
            .args(["--command", statement, &self.url(database)])
            .output()
            .context("running psql")?;
        if !output.status.success() {
            bail!("{statement}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.is_some()
            && let Err(error) = self.stop()
        {
            eprintln!("PostgreSQL in {} could not be ended: {error:#}", self.folder.path().display());
        }
    }
}
