//! For whom modules are enabled: set, told to filters, kept, applied and exported.

use serde_json::{Value, json};

use crate::support::{Service, answer};

const ORGANISATIONS: &str = "/api/v1/module-management/modules/orders/organisations";

/// A service with a module.
async fn service(manifest: Value) -> Service {
    let service = Service::start().await;
    service.module("orders", manifest).await.ok();
    service
}

impl Service {
    async fn say(&self, organisation: &str, body: Value) -> Value {
        self.send("PUT", &format!("{ORGANISATIONS}/{organisation}"), &body).await.ok()
    }

    /// What filters are told of the module's organisations.
    async fn told(&self) -> Value {
        self.get("/api/v1/policy").await.ok()["modules"][0]["organisations"].take()
    }
}

#[tokio::test]
async fn what_is_said_of_an_organisation_is_kept_and_told_to_filters() {
    let service = service(json!({"enabled_for": "listed"})).await;
    let written = service.say("acme", json!({})).await;
    assert_eq!(written["resource"]["enabled"], true);
    let by = written["resource"]["created_by"].clone();
    assert!(by.as_str().is_some_and(|by| by.starts_with("key/local")), "{written}");
    service.say("g%2Fh%20%C3%A9", json!({"enabled": false, "created_by": "somebody else"})).await;
    let said =
        json!([{"organisation": "acme", "enabled": true}, {"organisation": "g/h é", "enabled": false}]);
    assert_eq!(service.told().await, said);
    // Who was the first stays, whoever comes next and whatever they say.
    let first = service.get(&format!("{ORGANISATIONS}/acme")).await.ok();
    let again = service.say("acme", json!({"enabled": false, "created_at": "1970-01-01T00:00:00Z"})).await;
    assert_eq!(
        json!([again["resource"]["created_by"], again["resource"]["created_at"]]),
        json!([by, first["created_at"]])
    );
    assert_eq!(first["access_count"], 0);
    assert_eq!(first["last_accessed_at"], Value::Null);
    // One module's are no other's, though its name begins alike.
    service.module("orders2", json!({})).await.ok();
    service
        .send(
            "PUT",
            &ORGANISATIONS.replace("orders", "orders2").replace("organisations", "organisations/x"),
            &json!({}),
        )
        .await
        .ok();
    let listed = service.get(&format!("{ORGANISATIONS}?limit=1")).await.ok();
    assert_eq!(json!([listed["organisations"][0]["organisation"], listed["next"]]), json!(["acme", "acme"]));
    let listed = service.get(&format!("{ORGANISATIONS}?after=acme")).await.ok();
    let names: Vec<&Value> =
        listed["organisations"].as_array().unwrap().iter().map(|told| &told["organisation"]).collect();
    assert_eq!((names, &listed["next"]), (vec![&json!("g/h é")], &Value::Null));

    answer(service.write("DELETE", &format!("{ORGANISATIONS}/acme")).await).await.ok();
    assert_eq!(service.told().await.as_array().unwrap().len(), 1);
    service.get(&format!("{ORGANISATIONS}/acme")).await.problem(404);
}

#[tokio::test]
async fn a_module_that_asks_is_told_how_it_is_set_up() {
    let service = service(json!({})).await;
    service.say("acme", json!({"configuration": {"plan": "gold"}})).await;
    assert_eq!(service.told().await, json!([{"organisation": "acme", "enabled": true}]));
    service.module("orders", json!({"tell_configuration": true})).await.ok();
    let told = json!([{"organisation": "acme", "enabled": true, "configuration": {"plan": "gold"}}]);
    assert_eq!(service.told().await, told);
    // What no header holds is refused, and named.
    let long = json!({"configuration": {"text": "x".repeat(5_000)}});
    let refused = service.send("PUT", &format!("{ORGANISATIONS}/acme"), &long).await;
    refused.refuses(
        "modules[orders].organisations[0].configuration",
        "it is too long for a header: 4,096 bytes as JSON, with all but ASCII escaped",
    );
    let scalar =
        service.send("PUT", &format!("{ORGANISATIONS}/acme"), &json!({"configuration": "gold"})).await;
    scalar.refuses("configuration", "invalid type: string \"gold\", expected a map");
}

#[tokio::test]
async fn what_is_said_outlives_the_module_and_of_no_module_is_anything_said() {
    let service = service(json!({})).await;
    service.say("acme", json!({"enabled": false})).await;
    answer(service.write("DELETE", "/api/v1/module-management/modules/orders").await).await.ok();
    service.get(ORGANISATIONS).await.problem(404);
    let gone = service.send("PUT", &format!("{ORGANISATIONS}/wayne"), &json!({})).await.problem(404);
    assert!(gone["detail"].as_str().unwrap().contains("there is no module `orders`"), "{gone}");
    service.module("orders", json!({})).await.ok();
    assert_eq!(service.told().await, json!([{"organisation": "acme", "enabled": false}]));
}

#[tokio::test]
async fn an_organisation_sees_which_modules_it_may_use() {
    let service = service(json!({})).await;
    service.module("reports", json!({"enabled_for": "listed"})).await.ok();
    let modules = async |organisation: &str| {
        let path = format!("/api/v1/module-management/organisations/{organisation}/modules");
        let told = service.get(&path).await.ok();
        let told = told["modules"].as_array().unwrap().iter();
        told.map(|module| json!([module["module"], module["enabled"], module["said"].is_object()])).collect()
    };
    let nothing_said: Value = modules("acme").await;
    assert_eq!(nothing_said, json!([["orders", true, false], ["reports", false, false]]));
    service.say("acme", json!({"enabled": false})).await;
    service
        .send("PUT", "/api/v1/module-management/modules/reports/organisations/acme", &json!({}))
        .await
        .ok();
    let said: Value = modules("acme").await;
    assert_eq!(said, json!([["orders", false, true], ["reports", true, true]]));
}

#[tokio::test]
async fn documents_say_it_before_or_after_the_module() {
    let service = Service::start().await;
    let said =
        json!({"kind": "organisation_module", "module": "orders", "organisation": "acme", "enabled": false});
    let apply = async |resources: Value| {
        let body = json!({"resources": resources, "set": "all", "prune": true});
        answer(service.request("POST", "/api/v1/apply").json(&body).header("if-match", "*")).await
    };
    let refused = apply(json!([said])).await.problem(422);
    assert_eq!(refused["errors"][0]["field"], "organisation_modules[orders/acme].module");
    let nameless = apply(json!([{"kind": "organisation_module", "module": "orders"}])).await.problem(422);
    assert_eq!(nameless["errors"][0]["field"], "resources[0].organisation");
    let module = json!({"kind": "module", "id": "orders", "endpoints": ["127.0.0.1:9001"]});
    apply(json!([said, module])).await.ok();
    assert_eq!(service.told().await, json!([{"organisation": "acme", "enabled": false}]));
    let exported = service.get("/api/v1/export").await.ok();
    assert!(exported["resources"].as_array().unwrap().contains(&said), "{exported}");
    apply(json!([module])).await.ok();
    assert_eq!(service.told().await, Value::Null);
}

#[tokio::test]
async fn the_command_switches_a_module_on_and_off_for_an_organisation() {
    let service = service(json!({})).await;
    let module = async |arguments: &[&str], said: &str| {
        service.prints(&[&["module"], arguments].concat(), said).await;
    };
    module(&["disable", "orders", "acme"], "revision 2: organisation_module orders/acme added\n").await;
    let plan = service.file("plan.yaml", "plan: gold\nseats: 3\n");
    let enabled = "revision 3: organisation_module orders/acme: configuration.plan none → \"gold\", configuration.seats none → 3, enabled false → true\n";
    module(&["enable", "orders", "acme", "--configuration", &plan], enabled).await;
    // The configuration stays for when it is enabled again.
    module(
        &["disable", "orders", "acme"],
        "revision 4: organisation_module orders/acme: enabled true → false\n",
    )
    .await;
    let list = "ORGANISATION  MODULE    REQUESTS  LAST\nacme          disabled  0         \n";
    let listed = service.run(&["module", "organisations", "orders"]).await;
    assert_eq!(
        listed.stdout.lines().map(str::trim_end).collect::<Vec<_>>(),
        list.lines().map(str::trim_end).collect::<Vec<_>>()
    );
    let list = service.run(&["module", "list", "--organisation", "acme"]).await.stdout;
    assert_eq!(
        list.lines().next_back().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["orders", "disabled", "organisation", "0"]
    );
    module(&["reset", "orders", "acme"], "revision 5: organisation_module orders/acme removed\n").await;
    let missing = service.run(&["module", "enable", "oders", "acme"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("did you mean `orders`?"), "{}", missing.stderr);
}
