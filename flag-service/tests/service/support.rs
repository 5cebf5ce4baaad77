//! A service of one's own for each test, and short words for talking to it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rampart::access::{Access, LocalKey, Role};
use rampart::api::{Api, router};
use rampart::conflict::Basis;
use rampart::jwks::{Client, Keeper};
use rampart::model::Change;
use rampart::registry::Registry;
use rampart::store::{Database, Store};
use rampart::writer::{Accepted, Submission, WriteError, Writer};
use rampart::xds::fleet::Fleet;
use rampart_tests::postgres::Postgres;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{AnyPool, AssertSqlSafe};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A running service; it stops with the test's runtime.
pub(crate) struct Service {
    pub(crate) writer: Arc<Writer>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) url: String,
    pub(crate) dir: TempDir,
    /// The local key, with which requests come unless they bring another.
    pub(crate) local: LocalKey,
    http: reqwest::Client,
    /// Says that the server stops; dropped, it says so too.
    pub(crate) running: watch::Sender<bool>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// On the database of a folder.
    pub(crate) async fn start_in(dir: TempDir) -> Self {
        let writer = open(dir.path()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let key = dir.path().join(format!("rampart/local-{}.key", address.port()));
        let local = LocalKey::create(key).unwrap();
        let fleet = Arc::new(Fleet::default());
        let (running, stopping) = watch::channel(false);
        let keeper = Arc::new(Keeper::new(Arc::clone(&writer), Client::new(&[]).unwrap()));
        let access = Arc::new(Access::new(Some(&local), Arc::clone(&keeper)));
        let fetching = Arc::clone(&keeper);
        tokio::spawn(async move { fetching.run().await });
        // A folder that is looked at when a test asks.
        let registry = Arc::new(Registry::new(Some(dir.path().join("modules"))));
        let api = Api {
            writer: Arc::clone(&writer),
            fleet: Arc::clone(&fleet),
            keeper: Arc::clone(&keeper),
            registry: Arc::clone(&registry),
            stopping,
            access,
            encrypted: false,
        };
        let router = router(api).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { writer, fleet, keeper, registry, url, dir, local, http: reqwest::Client::new(), running }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.writer.head().revision
    }

    /// Writes a file of this text beside the database; its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let file = self.dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// A request with the local key.
    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(self.local.secret())
    }

    /// A request without any credential.
    pub(crate) fn anonymous(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request("GET", path)).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        answer(self.write(method, path).await.json(body)).await
    }

    /// A write of whatever is there, if anything is.
    pub(crate) async fn write(&self, method: &str, path: &str) -> RequestBuilder {
        let resource = path.split('?').next().unwrap().trim_end_matches("/restore");
        let request = self.request(method, path);
        let exists = path.contains("/revert/") || self.get(resource).await.status == 200;
        if exists { request.header("if-match", "*") } else { request }
    }

    /// Makes an API key; its secret.
    pub(crate) async fn key(&self, name: &str, role: &str) -> String {
        let node = (role == "envoy").then_some("edge-1");
        let body = json!({"role": role, "node": node});
        let made = self.send("PUT", &format!("/api/v1/keys/{name}"), &body).await.ok();
        made["resource"]["secret"].as_str().unwrap().to_owned()
    }

    /// A flag of this percentage.
    pub(crate) async fn flag(&self, key: &str, percentage: u32) {
        let body = json!({ "percentage": percentage });
        self.send("PUT", &format!("/api/v1/flags/{key}"), &body).await.ok();
    }

    /// A module behind nothing, with one route.
    pub(crate) async fn module(&self, id: &str, manifest: Value) -> Answer {
        let mut body = json!({"id": id, "endpoints": ["127.0.0.1:9001"], "auth": {"level": "none"}});
        body.as_object_mut().unwrap().extend(manifest.as_object().unwrap().clone());
        let modules = "/api/v1/module-management/modules";
        let exists = self.get(&format!("{modules}/{id}")).await.status == 200;
        let request = self.request("POST", modules).json(&body);
        answer(if exists { request.header("if-match", "*") } else { request }).await
    }
}

impl Answer {
    /// Its body; it must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }

    /// Its body; it must be a problem document of this status.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(self.body[member].is_string(), "no {member}: {self:?}");
        }
        self.body
    }

    /// A problem document about one field.
    #[track_caller]
    pub(crate) fn refuses(self, field: &str, problem: &str) {
        let body = self.problem(422);
        assert_eq!(body["errors"], json!([{"field": field, "problem": problem}]));
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, body: answer.json().await.unwrap() }
}

/// Whether this is the suite on PostgreSQL.
pub(crate) fn on_a_server() -> bool {
    env!("CARGO_CRATE_NAME") == "postgres"
}

/// The server of this process's tests; it ends with the process.
pub(crate) fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start().unwrap())
}

/// The database of this folder: a file in it, or one on the server of which a file in it tells.
pub(crate) fn database(dir: &Path) -> Database {
    if !on_a_server() {
        return Database::File(dir.join("rampart.db"));
    }
    let file = dir.join("url");
    let url = fs::read_to_string(&file).unwrap_or_else(|_| {
        let url = server().database().unwrap();
        fs::write(&file, &url).unwrap();
        url
    });
    Database::Server(url)
}

/// The same, as `--database` takes it.
pub(crate) fn argument(dir: &Path) -> String {
    match database(dir) {
        Database::File(file) => file.display().to_string(),
        Database::Server(url) => url,
    }
}

/// The writer over the database of this folder.
pub(crate) async fn open(dir: &Path) -> Arc<Writer> {
    let store = Store::open(&database(dir)).await.unwrap();
    Arc::new(Writer::start(store).await.unwrap())
}

/// The database of this folder, for what nobody else does to it.
pub(crate) async fn pool(dir: &Path) -> AnyPool {
    install_default_drivers();
    let url = match database(dir) {
        Database::File(file) => format!("sqlite://{}?mode=rwc", file.display()),
        Database::Server(url) => url,
    };
    AnyPoolOptions::new().max_connections(2).connect(&url).await.unwrap()
}

pub(crate) async fn execute(pool: &AnyPool, statement: &str) {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

pub(crate) fn submission(change: Change) -> Submission {
    Submission {
        change,
        based_on: Basis::Existing,
        only_new: false,
        actor: "test".to_owned(),
        role: Role::Admin,
        source: "api",
        address: None,
        reason: String::new(),
        dry_run: false,
        key: None,
    }
}

/// Sets a flag, new or not.
pub(crate) async fn put(writer: &Arc<Writer>, key: &str, mut flag: Value) -> Result<Accepted, WriteError> {
    flag["key"] = json!(key);
    let mut submission = submission(Change::PutFlag(serde_json::from_value(flag).unwrap()));
    if !writer.head().state.flags.contains_key(key) {
        submission.based_on = Basis::Unsaid;
    }
    writer.submit(submission).await
}

/// Merges members into a flag.
pub(crate) async fn patch(writer: &Arc<Writer>, key: &str, patch: Value) -> Result<Accepted, WriteError> {
    writer.submit(submission(Change::PatchFlag { key: key.to_owned(), patch })).await
}
