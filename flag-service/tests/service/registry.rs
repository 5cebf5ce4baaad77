//! A folder of manifests, the states of modules, and what the management API says of them.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Answer, Service, answer, open};

const MODULES: &str = "/api/v1/module-management/modules";
const CONFLICTS: &str = "/api/v1/module-management/routing/conflicts";

impl Service {
    /// Puts a file into the folder of manifests.
    fn drop_file(&self, name: &str, text: impl AsRef<[u8]>) {
        let folder = self.dir.path().join("modules");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }

    fn manifest(&self, name: &str, manifest: &Value) {
        self.drop_file(name, manifest.to_string());
    }

    fn take_away(&self, name: &str) {
        fs::remove_file(self.dir.path().join("modules").join(name)).unwrap();
    }

    async fn discover(&self) -> Answer {
        answer(self.request("POST", &format!("{MODULES}/discover"))).await
    }

    /// Looks at the folder as the service does unasked, until what is there has settled.
    async fn settle(&self) {
        for _ in 0..2 {
            self.registry.look(&self.writer, false).await.unwrap();
        }
    }

    async fn standing(&self, id: &str) -> Value {
        self.get(&format!("{MODULES}/{id}/status")).await.ok()["state"].take()
    }

    /// The states that a module entered, oldest first.
    async fn life(&self, id: &str) -> String {
        let history = self.get(&format!("{MODULES}/registration-history?module={id}")).await.ok();
        let states = history["events"].as_array().unwrap().iter().rev();
        states.map(|event| event["to"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    async fn remove(&self, id: &str, query: &str) -> Answer {
        answer(self.request("DELETE", &format!("{MODULES}/{id}{query}")).header("if-match", "*")).await
    }

    fn ids(&self) -> Vec<String> {
        self.writer.head().state.modules.keys().cloned().collect()
    }
}

/// A manifest with one route.
fn module(id: &str, path: &str) -> Value {
    json!({"id": id, "endpoints": ["127.0.0.1:9001"], "auth": {"level": "none"}, "routes": [{"path": path}]})
}

/// The same in a namespace of several modules.
fn shared(id: &str, path: &str, method: &str) -> Value {
    let mut module = module(id, path);
    module["namespace"] = json!("shared");
    module["routes"][0]["methods"] = json!([method]);
    module
}

#[tokio::test]
async fn test_full_module_lifecycle() {
    let service = Service::start().await;
    service.manifest("a.json", &module("a", "/x"));
    let found = service.discover().await.ok();
    let expected = json!({"folder": service.dir.path().join("modules"), "found": ["a.json"], "validated": [],
        "registered": ["a"], "unregistered": [], "errors": [], "revision": 1});
    assert_eq!(found, expected);
    assert_eq!(service.discover().await.ok(), expected, "asked again, nothing happens");
    // No Envoy is connected that could have accepted it.
    assert_eq!(service.standing("a").await, "registered");
    assert_eq!(service.life("a").await, "discovered validated registered");

    service.manifest("b.json", &module("b", "/x"));
    service.settle().await;
    service.take_away("a.json");
    service.settle().await;
    assert_eq!(service.ids(), ["b"]);
    assert_eq!(service.standing("a").await, "unregistered");
    service.manifest("a.json", &module("a", "/y"));
    service.settle().await;
    let life = "discovered validated registered unregistered discovered validated registered";
    assert_eq!(service.life("a").await, life);
    // What is written down survives the process.
    let dir = service.dir;
    let again = Service::start_in(dir).await;
    assert_eq!(again.life("a").await, life);
    let page = again.get(&format!("{MODULES}/registration-history?limit=2")).await.ok();
    let newest = &page["events"][0];
    assert_eq!(json!([newest["module"], newest["from"], newest["by"]]), json!(["a", "validated", "folder"]));
    assert!(newest["at"].as_str().unwrap().ends_with('Z'), "{newest}");
    let rest = format!("{MODULES}/registration-history?before={}", page["next"]);
    let rest = again.get(&rest).await.ok();
    assert_eq!(rest["events"].as_array().unwrap().len(), 8, "{rest}");
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test]
async fn broken_manifests_keep_no_other_from_being_registered() {
    let service = Service::start().await;
    service.manifest("good.json", &module("good", "/x"));
    service.drop_file("good_too.yaml", "id: good_too\nendpoints: [127.0.0.1:9001]\nauth_level: NONE\n");
    service.drop_file("torn.json", "{\"id\": \"torn\",\n \"endpoints\": [");
    service.drop_file(
        "wrong.yaml",
        "id: wrong\nendpoints: [127.0.0.1:9001]\nroutes:\n  - path: /x\n    auth:\n      level: some\n",
    );
    service.drop_file(
        "odd.yaml",
        "id: odd\nendpoints: [127.0.0.1:9001]\ngates:\n  - flag: absent\n    when_off: forbidden\n",
    );
    service.drop_file("notes.txt", "no manifest");
    let said = service.discover().await.ok();
    assert_eq!(said["registered"], json!(["good", "good_too"]));
    let errors: Vec<Value> = said["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| json!([error["file"], error["module"], error["line"], error["field"]]))
        .collect();
    let expected = json!([
        ["odd.yaml", "odd", 4, "gates[0].flag"],
        ["torn.json", null, 2, ""],
        ["wrong.yaml", null, 6, "routes[0].auth.level"],
    ]);
    assert_eq!(json!(errors), expected, "{said}");
    assert_eq!(service.standing("odd").await, "error");
    assert_eq!(service.standing("torn.json").await, "error");
    let listed = service.get(&format!("{MODULES}?state=error")).await.ok();
    let others: Vec<&Value> = listed["others"].as_array().unwrap().iter().map(|other| &other["id"]).collect();
    assert_eq!(json!([listed["modules"], others]), json!([[], ["odd", "torn.json", "wrong.yaml"]]));
    let health = service.get("/api/v1/module-management/system/health").await.ok();
    assert_eq!(health["components"]["modules"]["status"], "degraded", "{health}");
    // What it lacked is there now: nobody need touch the file.
    service.flag("absent", 0).await;
    service.settle().await;
    assert_eq!(service.standing("odd").await, "registered");
    assert_eq!(service.life("odd").await, "discovered error validated registered");
    // A manifest that breaks takes nothing away.
    service.drop_file("good.json", "{");
    service.settle().await;
    assert_eq!(service.standing("good").await, "error");
    assert!(service.ids().contains(&"good".to_owned()));
}

#[tokio::test]
async fn what_operators_change_stays_until_the_file_is_another() {
    let service = Service::start().await;
    service.manifest("a.json", &module("a", "/x"));
    service.manifest("b.json", &module("b", "/x"));
    service.settle().await;
    service.module("a", json!({"description": "by hand"})).await.ok();
    service.remove("b", "").await.ok();
    let dir = service.dir;
    let service = Service::start_in(dir).await;
    service.settle().await;
    assert_eq!(service.writer.head().revision, 3, "neither at a start");
    service.manifest("c.json", &module("c", "/x"));
    service.settle().await;
    assert_eq!(service.ids(), ["a", "c"], "nor with another file");
    assert_eq!(service.writer.head().state.modules["a"].description, "by hand");
    assert_eq!(
        service.discover().await.ok()["registered"],
        json!(["a", "b", "c"]),
        "asked for, it is there again"
    );
    assert_eq!(service.writer.head().state.modules["a"].description, "by hand");
    service.manifest("a.json", &module("a", "/z"));
    service.settle().await;
    assert_eq!(service.writer.head().state.modules["a"].description, "");
    // What is reverted is not made true again by a file that is as it was.
    answer(service.request("POST", "/api/v1/revert/1").header("if-match", "*")).await.ok();
    service.settle().await;
    assert_eq!(service.ids(), ["a", "b"]);
    assert_eq!(service.writer.head().state.modules["a"].routes[0].path, "/x");
}

#[tokio::test]
async fn a_folder_that_is_gone_or_empty_removes_nothing() {
    let service = Service::start().await;
    service.manifest("a.json", &module("a", "/x"));
    service.settle().await;
    let folder = service.dir.path().join("modules");
    let aside = service.dir.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    let trouble = service.registry.look(&service.writer, false).await.unwrap_err();
    assert!(trouble.contains("cannot be read"), "{trouble}");
    service.discover().await.problem(503);
    let health = service.get("/api/v1/module-management/system/health").await.ok();
    assert_eq!(health["components"]["registry"]["status"], "degraded");
    fs::create_dir(&folder).unwrap();
    service.settle().await;
    service.discover().await.ok();
    assert_eq!(service.ids(), ["a"]);
    // As a mounted folder is swapped: the files are behind a link.
    fs::remove_dir(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    for (version, path) in [("one", "/one"), ("two", "/two")] {
        let data = service.dir.path().join(version);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a.json"), module("a", path).to_string()).unwrap();
        let link = folder.join("..data");
        let fresh = folder.join("..fresh");
        std::os::unix::fs::symlink(&data, &fresh).unwrap();
        fs::rename(fresh, link).unwrap();
        if version == "one" {
            std::os::unix::fs::symlink("..data/a.json", folder.join("a.json")).unwrap();
        }
        service.settle().await;
        assert_eq!(service.writer.head().state.modules["a"].routes[0].path, path);
    }
}

#[tokio::test]
async fn replicas_that_read_the_same_folder_do_not_fight() {
    let one = Service::start().await;
    one.manifest("a.json", &module("a", "/x"));
    let writer = open(one.dir.path()).await;
    let other = rampart::registry::Registry::new(Some(one.dir.path().join("modules")));
    for path in ["/x", "/y"] {
        one.manifest("a.json", &module("a", path));
        let looks = async {
            for _ in 0..3 {
                other.look(&writer, false).await.unwrap();
            }
        };
        tokio::join!(one.settle(), looks);
        one.settle().await;
    }
    assert_eq!(writer.store().revision().await.unwrap(), 2, "one revision for each content");
    assert_eq!(one.life("a").await, "discovered validated registered discovered validated registered");
    // One whose folder is behind leaves alone what the other has read since.
    one.manifest("a.json", &module("a", "/z"));
    one.settle().await;
    one.manifest("a.json", &module("a", "/y"));
    other.look(&writer, false).await.unwrap();
    assert_eq!(writer.store().revision().await.unwrap(), 3);
}

#[tokio::test]
async fn a_file_counts_once_it_is_whole() {
    let service = Service::start().await;
    service.manifest("a.json", &module("a", "/x"));
    service.settle().await;
    service.drop_file("b.yaml", "id: b\nendpoints: [127.0.0.1:9001]\n");
    service.registry.look(&service.writer, false).await.unwrap();
    assert_eq!(service.ids(), ["a"], "it may be being written");
    service.registry.look(&service.writer, false).await.unwrap();
    assert_eq!(service.ids(), ["a", "b"]);
}

#[tokio::test]
async fn test_register_module_success() {
    let service = Service::start().await;
    let manifest = json!({
        "module_id": "analytics_core", "name": "Analytics Core", "version": "1.4.2", "author": "Team A",
        "module_type": "ANALYTICS", "entry_point": "127.0.0.1:9001", "documentation": "https://docs.example/a",
        "auth_level": "none", "routes": [{"path": "/dashboard"}]
    });
    answer(service.request("POST", MODULES).json(&manifest)).await.ok();
    let status = service.get(&format!("{MODULES}/analytics_core/status")).await.ok();
    let expected = json!({
        "module_id": "analytics_core", "state": "registered",
        "metadata": {"name": "Analytics Core", "version": "1.4.2", "module_type": "analytics"},
        "health": {"status": "unknown", "last_check": null}
    });
    assert_eq!(status, expected);
    let listed = service.get(MODULES).await.ok();
    let module = &listed["modules"][0];
    assert_eq!(
        json!([module["id"], module["state"], module["release"], module["namespace"]]),
        json!(["analytics_core", "registered", "1.4.2", "analytics-core"])
    );
    service.get(&format!("{MODULES}/nobody/status")).await.problem(404);
    service.remove("analytics_core", "").await.ok();
    service.remove("analytics_core", "").await.problem(404);
    assert_eq!(service.standing("analytics_core").await, "unregistered");
    for (field, value) in [
        ("id", json!("metrics")),
        ("release", json!("1.4")),
        ("documentation", json!("javascript:alert(1)")),
        ("module_type", json!("a b")),
        ("dependencies[0]", json!(["m"])),
    ] {
        let mut manifest = module_named("m");
        manifest[field.trim_end_matches("[0]")] = value;
        let refused = answer(service.request("POST", MODULES).json(&manifest)).await.problem(422);
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
}

fn module_named(id: &str) -> Value {
    module(id, "/x")
}

#[tokio::test]
async fn test_no_conflict_different_paths() {
    let service = Service::start().await;
    for manifest in [shared("a", "/a", "GET"), shared("b", "/b", "GET"), shared("c", "/a", "POST")] {
        let checked = answer(service.request("POST", CONFLICTS).json(&manifest)).await.ok();
        assert_eq!(checked["valid"], true, "{checked}");
        answer(service.request("POST", MODULES).json(&manifest)).await.ok();
    }
    let clean = service.get(CONFLICTS).await.ok();
    assert_eq!(json!([clean["conflicts"], clean["overlaps"]]), json!([[], []]));
    let wide = shared("wide", "/{*rest}", "GET");
    answer(service.request("POST", MODULES).json(&wide)).await.ok();
    let overlaps = service.get(CONFLICTS).await.ok()["overlaps"].take();
    assert_eq!(overlaps.as_array().unwrap().len(), 2, "{overlaps}");
    assert_eq!(overlaps[0]["modules"], json!(["a", "wide"]));
}

#[tokio::test]
async fn test_conflict_same_path_same_method() {
    let service = Service::start().await;
    answer(service.request("POST", MODULES).json(&shared("z_first", "/x", "GET"))).await.ok();
    let claim = "GET /api/v1/modules/v1/shared/x of module `a_second` is claimed already by module `z_first` (as `/x`)";
    let checked =
        answer(service.request("POST", CONFLICTS).json(&shared("a_second", "/x", "GET"))).await.ok();
    assert_eq!(checked["valid"], false);
    assert_eq!(checked["conflicts"], json!([{"field": "routes[0].path", "problem": claim}]));
    // What reads and makes no sense is an answer; what does not read is no manifest.
    let senseless = json!({"id": "c", "endpoints": ["127.0.0.1:9001"], "release": "new"});
    let checked = answer(service.request("POST", CONFLICTS).json(&senseless)).await.ok();
    assert_eq!(json!([checked["valid"], checked["errors"][0]["field"]]), json!([false, "release"]));
    answer(service.request("POST", CONFLICTS).json(&json!("c"))).await.problem(422);
    // Whichever comes first in the order of names, the one in the folder is to blame.
    service.manifest("a.json", &shared("a_second", "/x", "GET"));
    service.manifest("b.json", &module("b", "/x"));
    assert_eq!(service.discover().await.ok()["registered"], json!(["b"]));
    let told = service.get(CONFLICTS).await.ok();
    let expected = json!([{"file": "a.json", "field": "routes[0].path", "problem": claim, "line": 1}]);
    assert_eq!(told["conflicts"], expected);
    assert_eq!(service.writer.head().revision, 2);
}

#[tokio::test]
async fn test_register_conflicting_routes_fails() {
    let service = Service::start().await;
    answer(service.request("POST", MODULES).json(&shared("a", "/x", "GET"))).await.ok();
    let refused = answer(service.request("POST", MODULES).json(&shared("b", "/x", "GET"))).await.problem(422);
    let problem = refused["errors"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("`b`") && problem.contains("`a`") && problem.contains("/shared/x"), "{problem}");
    assert_eq!(service.ids(), ["a"]);
    // Two files that say one module: the first one does.
    service.manifest("c.json", &module("c", "/x"));
    service.manifest("d.json", &module("c", "/y"));
    let said = service.discover().await.ok();
    assert_eq!(said["errors"][0]["file"], "d.json");
    assert!(said["errors"][0]["problem"].as_str().unwrap().contains("c.json"), "{said}");
    service.take_away("c.json");
    service.settle().await;
    assert_eq!(service.writer.head().state.modules["c"].routes[0].path, "/y");
}

#[tokio::test]
async fn a_module_that_others_depend_on_is_not_removed_in_passing() {
    let service = Service::start().await;
    let mut dependent = module("dependent", "/x");
    dependent["dependencies"] = json!(["base"]);
    let refused = answer(service.request("POST", MODULES).json(&dependent)).await.problem(422);
    assert_eq!(refused["errors"][0]["field"], "dependencies[0]");
    // Of one folder, they come together.
    service.manifest("a.json", &dependent);
    service.manifest("b.json", &module("base", "/x"));
    assert_eq!(service.discover().await.ok()["registered"], json!(["dependent", "base"]));
    let refused = service.remove("base", "").await.problem(422);
    let problem = "module `dependent` depends on module `base`, which is not there";
    let expected = json!([{"field": "modules[dependent].dependencies[0]", "problem": problem}]);
    assert_eq!(refused["errors"], expected);
    service.take_away("b.json");
    service.settle().await;
    assert_eq!(service.ids(), ["base", "dependent"], "nor by its file");
    let removed = service.remove("base", "?force=true").await.ok();
    assert_eq!(removed["warnings"], expected);
    assert_eq!(service.ids(), ["dependent"]);
    answer(service.request("POST", MODULES).json(&module("base", "/x"))).await.ok();
    let refused = service.run(&["module", "remove", "base"]).await;
    assert_eq!(
        (refused.code, refused.stderr),
        (Some(1), format!("error: modules[dependent].dependencies[0]: {problem}\n"))
    );
    service.run(&["module", "remove", "base", "--force"]).await;
    assert_eq!(service.ids(), ["dependent"]);
}

#[tokio::test]
async fn while_the_registry_is_off_modules_stay_as_they_are() {
    let service = Service::start().await;
    service.manifest("a.json", &module("a", "/x"));
    service.manifest("kept.json", &module("kept", "/x"));
    service.discover().await.ok();
    service.flag("module_registry_enabled", 0).await;
    service.manifest("b.json", &module("b", "/x"));
    service.settle().await;
    assert_eq!(service.standing("b").await, "validated");
    service.take_away("a.json");
    service.settle().await;
    assert_eq!(service.ids(), ["a", "kept"]);
    let register = answer(service.request("POST", MODULES).json(&module("c", "/x"))).await;
    for refused in [register, service.discover().await, service.remove("a", "").await] {
        assert_eq!(refused.problem(409)["reason"], "registry_disabled");
    }
    service.flag("module_registry_enabled", 100).await;
    service.settle().await;
    assert_eq!(service.ids(), ["b", "kept"]);
}

#[tokio::test]
async fn the_routes_of_all_modules_are_one_document() {
    let service = Service::start().await;
    answer(service.request("POST", MODULES).json(&shared("a", "/x/{id}", "GET"))).await.ok();
    answer(service.request("POST", MODULES).json(&shared("b", "/x/{id}", "POST"))).await.ok();
    let document = service.get(&format!("{MODULES}/openapi.json")).await.ok();
    let item = &document["paths"]["/api/v1/modules/v1/shared/x/{id}"];
    assert_eq!((&item["get"]["tags"][0], &item["post"]["tags"][0]), (&json!("a"), &json!("b")));
    assert_eq!(document["info"]["version"], "2");
}

#[tokio::test]
async fn a_manifest_is_tried_by_command_and_one_that_would_be_refused_fails_it() {
    let service = Service::start().await;
    answer(service.request("POST", MODULES).json(&shared("a", "/x", "GET"))).await.ok();
    let good = service.file("good.json", &shared("b", "/y", "GET").to_string());
    service.prints(&["module", "check", &good], "it would be registered\n").await;
    let claims = service.file("claims.json", &shared("b", "/x", "GET").to_string());
    let refused = service.run(&["module", "check", &claims]).await;
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), "error: it would be refused\n"));
    assert!(
        refused.stdout.starts_with("routes[0].path: GET /api/v1/modules/v1/shared/x of"),
        "{}",
        refused.stdout
    );
    // What does not read is refused before it is tried.
    let unread = service.run(&["module", "check", &service.file("list.yaml", "[]\n")]).await;
    assert_eq!(unread.code, Some(1));
    assert_eq!(service.writer.head().revision, 1);
}
