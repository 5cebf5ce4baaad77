//! Where a database is, as `--database` says it. What is shown of it holds no password.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

/// A SQLite file, or a PostgreSQL database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file; one service has it, or several on one machine.
    File(PathBuf),
    /// A URL, which may hold a password; any number of services have it.
    Server(String),
}

/// What is no PostgreSQL URL is a path: whether it is a good one is found when it is opened, since an
/// error of the command line would repeat what was given, a password included.
impl From<OsString> for Database {
    fn from(given: OsString) -> Self {
        match given.to_str() {
            Some(url) if ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) => {
                Self::Server(url.to_owned())
            }
            _ => Self::File(given.into()),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match self {
            Self::File(path) => match path.to_string_lossy().split_once("://") {
                // A URL of something else, and its password.
                Some((scheme, _)) => return write!(f, "{scheme}://…"),
                None => return path.display().fmt(f),
            },
            Self::Server(url) => url,
        };
        let Ok(options) = PgConnectOptions::from_str(url) else { return f.write_str("postgres://…") };
        let (user, host, port) = (options.get_username(), options.get_host(), options.get_port());
        write!(f, "postgres://{user}@{host}:{port}/{}", options.get_database().unwrap_or(user))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::Database;

    #[test]
    fn what_is_shown_holds_no_password() {
        for (given, shown) in [
            ("postgres://amina:secret@db.internal/rampart", "postgres://amina@db.internal:5432/rampart"),
            ("postgresql://amina:secret@[::1]:6000/x?sslmode=require", "postgres://amina@[::1]:6000/x"),
            ("postgres://db.internal/x?user=amina&password=secret", "postgres://amina@db.internal:5432/x"),
            ("postgres://amina:secret@db.internal:port/x", "postgres://…"),
            ("mysql://amina:secret@db.internal/x", "mysql://…"),
            ("rampart.db", "rampart.db"),
            ("postgres", "postgres"),
        ] {
            let database = Database::from(OsString::from(given));
            assert_eq!((database.to_string(), format!("{database:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }
}
