//! Policies: every one compiles, and together they say everything that can be said.

use super::{ALGORITHMS, Arbitrary, ISSUERS, NOW, ORGANISATIONS, PATTERNS, PERMISSIONS, ROLES, SUBJECTS};
use serde_json::{Value, json};

const CLUSTERS: [&str; 3] = ["canary", "shadow", "module/other/v2"];

impl Arbitrary {
    /// A sound policy.
    pub fn policy(&mut self) -> Value {
        let flags = self.flags();
        let modules: Vec<Value> = (0..1 + self.random.below(4)).map(|n| self.module(n, &flags)).collect();
        let mut policy = json!({
            "schema": 1, "revision": self.random.below(1_000), "legacy_cluster": "legacy",
            "admin_roles": self.some_of(&ROLES), "providers": self.providers(),
            "flags": flags, "modules": modules, "default": self.one_of(&["pass", "deny"]),
        });
        if self.chance(30) {
            policy["denied"] =
                json!({"tokens": ["t1", "t2"], "subjects": ["dave"], "organisations": ["stark"]});
        }
        policy
    }

    /// None in one of thirty policies; else both issuers or one of them.
    fn providers(&mut self) -> Vec<Value> {
        if self.chance(3) {
            return Vec::new();
        }
        let first = self.random.below(2);
        (first..2).map(|n| self.provider(n)).collect()
    }

    fn provider(&mut self, n: usize) -> Value {
        let mut keys = vec![self.keys[n].jwk()];
        if self.chance(50) {
            keys.extend(self.others.jwks["keys"].as_array().cloned().unwrap_or_default());
        }
        // Keys that were withdrawn, all of them.
        if self.chance(5) {
            keys.clear();
        }
        let bad = self.chance(15);
        keys.extend(bad.then(|| json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"})));
        let mut provider = json!({
            "name": format!("provider-{n}"), "issuer": ISSUERS[n], "jwks": {"keys": keys},
            "audiences": if self.chance(80) { vec!["rampart"] } else { vec![] },
            "leeway_seconds": if self.chance(75) { 60 } else { 7_200 }, "forward": self.chance(70),
        });
        match self.random.below(10) {
            0 => provider["algorithms"] = json!(["RS256"]),
            1..6 => provider["algorithms"] = json!(ALGORITHMS),
            _ => {}
        }
        if bad {
            provider["on_bad_key"] = json!("skip");
        }
        if self.chance(40) {
            provider["claims"] = self.claims();
        }
        if self.chance(40) {
            provider["token_from"] = json!(["bearer", {"header": "x-token"}, {"cookie": "session"}]);
        }
        if self.chance(20) {
            let tier = json!(["tenant", "tier"]);
            provider["required_claims"] = json!([{"claim": tier, "any_of": ["gold"]}, {"claim": "jti"}]);
        }
        provider
    }

    /// Some of an identity elsewhere than usual: nested, or under a name with dots and slashes.
    fn claims(&mut self) -> Value {
        let mut claims = json!({});
        for (member, path) in [
            ("organisation", json!(["tenant", "id"])),
            ("subject", json!("jti")),
            ("roles", json!("https://one.test/roles")),
            ("permissions", json!(["access", "of", "permissions"])),
            ("scopes", json!("scope")),
        ] {
            if self.chance(50) {
                claims[member] = path;
            }
        }
        claims
    }

    fn flags(&mut self) -> Vec<Value> {
        let mut flags = Vec::new();
        for n in 0..2 + self.random.below(5) {
            let flag = if self.chance(20) { self.exclusive_flag(n) } else { self.flag(n, &flags) };
            flags.push(flag);
        }
        flags
    }

    fn flag(&mut self, n: usize, before: &[Value]) -> Value {
        let mut flag = json!({
            "key": format!("flag-{n}"), "percentage": self.percentage(), "enabled": self.chance(95), "killed": self.chance(5),
            "bucketing": self.one_of(&["flagd-v2", "flagd-v3"]),
            "organisations": self.names(&ORGANISATIONS), "subjects": self.names(&SUBJECTS),
        });
        // A flag that goes by request does not look at organisations that are not there.
        if self.chance(20) {
            flag["by"] = json!("request");
        } else {
            flag["no_organisation"] = json!(self.chance(40));
        }
        if self.chance(30) {
            flag["rollout_group"] = json!("cohort");
        }
        if self.chance(40) {
            let variants =
                ["blue", "green", "red"].map(|name| json!({"name": name, "weight": self.random.below(50)}));
            flag["variants"] = json!(variants);
            // Not all may weigh nothing.
            flag["variants"][0]["weight"] = json!(1 + self.random.below(50));
        }
        if let (true, false) = (self.chance(40), before.is_empty()) {
            let other = &before[self.random.below(before.len())];
            let mut needed = json!({"flag": other["key"]});
            match (self.random.below(3), other["variants"].is_array()) {
                (0, _) => needed["value"] = json!(false),
                (1, true) => needed["variant"] = json!("blue"),
                _ => {}
            }
            flag["prerequisites"] = json!([needed]);
        }
        flag
    }

    /// Each has its own part of one group.
    fn exclusive_flag(&mut self, n: usize) -> Value {
        let (from, width) = (n * 14, 14);
        json!({
            "key": format!("flag-{n}"), "percentage": self.random.below(width + 1),
            "organisations": {"on": if self.chance(30) { vec![ORGANISATIONS[n % ORGANISATIONS.len()]] } else { vec![] }},
            "exclusive_group": {"name": "group", "from": from, "to": from + width},
        })
    }

    fn percentage(&mut self) -> f64 {
        match self.random.below(4) {
            0 => 0.0,
            1 => 100.0,
            _ => self.random.below(100_001) as f64 / 1_000.0,
        }
    }

    /// Some of these by name, for good or for a time that may be over.
    fn names(&mut self, of: &[&str]) -> Value {
        let some = |arbitrary: &mut Self| -> Vec<Value> {
            let named: Vec<&str> = of.iter().copied().filter(|_| arbitrary.chance(12)).collect();
            let term = |arbitrary: &mut Self, name| match arbitrary.random.below(3) {
                0 => json!({"name": name, "until": NOW + 1}),
                1 => json!({"name": name, "until": NOW}),
                _ => json!(name),
            };
            named.into_iter().map(|name| term(arbitrary, name)).collect()
        };
        json!({"on": some(self), "off": some(self)})
    }

    fn module(&mut self, n: usize, flags: &[Value]) -> Value {
        // Two versions of each namespace.
        let (version, namespace) = (format!("v{}", 1 + n % 2), ["alpha", "beta"][n / 2]);
        let methods: [&[&str]; 4] = [&[], &["GET"], &["GET", "POST"], &["DELETE", "OPTIONS", "POST"]];
        let (auth, mut routes) = (self.auth(), Vec::new());
        for pattern in self.some_of(&PATTERNS) {
            let mut route = json!({
                "path": pattern, "methods": methods[self.random.below(methods.len())],
                "gates": self.gates(flags), "effects": self.effects(flags),
            });
            let own = if self.chance(50) { Some(self.auth()) } else { None };
            // Where no token is asked for, there is no organisation to compare.
            let parameter = ["id", "any"].into_iter().find(|name| pattern.contains(&format!("{{{name}}}")));
            if own.as_ref().unwrap_or(&auth)["level"] == "none" {
                route["tenant"] = json!("any");
            } else if let (Some(parameter), true) = (parameter, self.chance(25)) {
                route["tenant"] = json!({ "path": parameter });
            }
            if self.chance(20) {
                route["timeout_ms"] = json!(500 + self.random.below(5_000));
                route["retry"] = json!({"on": ["5xx"], "per_try_timeout_ms": 1 + self.random.below(499)});
            }
            if let Some(auth) = own {
                route["auth"] = auth;
            }
            routes.push(route);
        }
        let mut module = json!({
            "id": format!("module-{n}"), "version": version, "namespace": namespace, "cluster": format!("module-{n}"),
            "auth": auth, "gates": self.gates(flags), "effects": self.effects(flags),
            "mirror_unsafe": self.chance(30), "flags": self.some_flags(flags), "routes": routes,
        });
        module["tenant"] = self.tenant();
        if self.chance(50) {
            module["hash_by"] = json!("organisation");
        }
        if self.chance(40) {
            module["enabled_for"] = json!(self.one_of(&["all", "listed"]));
            module["organisations"] = self.enablements();
        }
        if self.chance(30) {
            module["rewrite"] = json!({"prefix": self.one_of(&["/", "/internal/module"])});
        }
        if self.chance(20) {
            module["aliases"] = json!([format!("{namespace}-alias")]);
        }
        if self.chance(30) {
            module["timeout_ms"] = json!(self.random.below(5_000));
            module["retry"] =
                json!({"on": ["connect-failure"], "idempotent_on": ["reset"], "max_retries": 2});
        }
        module
    }

    /// What is said of some organisations.
    fn enablements(&mut self) -> Value {
        let mut said = Vec::new();
        for organisation in self.some_of(&ORGANISATIONS) {
            let mut one = json!({"organisation": organisation, "enabled": self.chance(70)});
            if self.chance(80) {
                one["configuration"] = json!({"plan": "caf\u{e9} \u{1f600}", "seats": self.random.below(9)});
            }
            said.push(one);
        }
        said.into()
    }

    /// Bound to the organisation that a header names, or to none.
    fn tenant(&mut self) -> Value {
        if self.chance(15) { json!({"header": "x-tenant"}) } else { json!("any") }
    }

    fn auth(&mut self) -> Value {
        let level = self.one_of(&["none", "basic", "basic", "permission", "role", "admin"]);
        let permissions = if self.chance(40) { vec![self.one_of(&PERMISSIONS)] } else { vec![] };
        // A level that asks for any of a list needs one.
        match level {
            "none" => json!({"level": level}),
            "permission" => json!({"level": level, "permissions": [self.one_of(&PERMISSIONS)]}),
            "role" => {
                json!({"level": level, "roles": [self.one_of(&ROLES), "owner"], "permissions": permissions})
            }
            _ => json!({"level": level, "permissions": permissions}),
        }
    }

    fn some_flags(&mut self, flags: &[Value]) -> Vec<Value> {
        flags.iter().filter(|_| self.chance(40)).map(|flag| flag["key"].clone()).collect()
    }

    fn gates(&mut self, flags: &[Value]) -> Vec<Value> {
        let gated = flags.iter().filter(|_| self.chance(8)).map(|flag| flag["key"].clone());
        let gated: Vec<Value> = gated.collect();
        let when_off = ["legacy", "legacy", "not_found", "forbidden"];
        gated.into_iter().map(|flag| json!({"flag": flag, "when_off": self.one_of(&when_off)})).collect()
    }

    fn effects(&mut self, flags: &[Value]) -> Vec<Value> {
        let mut effects = Vec::new();
        for flag in flags {
            if !self.chance(25) {
                continue;
            }
            let when_on = match self.random.below(3) {
                0 => json!({"cluster": self.one_of(&CLUSTERS)}),
                1 => json!({"mirror": {"cluster": self.one_of(&CLUSTERS)}}),
                _ => {
                    json!({"headers": {"x-envoy-max-retries": self.random.below(5).to_string(), "x-envoy-retry-on": "5xx,reset"}})
                }
            };
            let mut effect = json!({"flag": flag["key"], "when_on": when_on});
            if flag["variants"].is_array() && self.chance(50) {
                effect["variant"] = json!(self.one_of(&["blue", "green", "red"]));
            }
            effects.push(effect);
        }
        effects
    }
}
