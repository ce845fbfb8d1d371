//! Bad input: always a documented 4xx, never a 5xx, and nothing changed.

use crate::harness::Hawser;
use hawser_functions::{ENDPOINTS, Endpoint};
use lambda_http::{Body, RequestExt};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// A small generator, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 22] = [
            "",
            "a",
            "user",
            "#",
            "%23",
            "\u{0}",
            "\r\nEvil: 1",
            "<REDACTED>",
            "{{X}}",
            "{{",
            "mcp-server/remote",
            "https://x.example/",
            "http://169.254.169.254/",
            "javascript:alert(1)",
            "é",
            "😀",
            "null",
            "../..",
            "' OR 1=1",
            "header",
            "oauth2",
            "\u{202e}",
        ];
        match self.below(8) {
            0 => PIECES[self.below(PIECES.len())].repeat(self.below(400)),
            _ => (0..self.below(4))
                .map(|_| PIECES[self.below(PIECES.len())])
                .collect(),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.roll() as i64),
            3 => json!(self.roll() as f64 / 7.0),
            4 | 5 => json!(self.text()),
            6 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => (0..self.below(4))
                .map(|_| (self.text(), self.value(depth - 1)))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    /// A copy with something in it changed, taken away or added.
    fn spoil(&mut self, value: &Value) -> Value {
        match value {
            Value::Object(map) if !map.is_empty() && self.below(5) > 0 => {
                let victim = self.below(map.len());
                let kept = map.iter().enumerate().filter_map(|(i, (name, value))| {
                    match (i == victim, self.below(6)) {
                        (false, _) => Some((name.clone(), value.clone())),
                        (true, 0) => None,
                        (true, 1) => Some((self.text(), value.clone())),
                        (true, _) => Some((name.clone(), self.spoil(value))),
                    }
                });
                Value::Object(kept.collect())
            }
            Value::Array(list) if !list.is_empty() && self.below(3) > 0 => {
                let victim = self.below(list.len());
                list.iter()
                    .enumerate()
                    .map(|(i, v)| {
                        if i == victim {
                            self.spoil(v)
                        } else {
                            v.clone()
                        }
                    })
                    .collect()
            }
            _ => self.value(3),
        }
    }

    fn body(&mut self, good: &Value) -> Vec<u8> {
        match self.below(10) {
            0 => (0..self.below(200)).map(|_| self.roll() as u8).collect(),
            1 => {
                let mut text = good.to_string().into_bytes();
                text.truncate(self.below(text.len() + 1));
                text
            }
            2 => {
                let mut text = good.to_string().into_bytes();
                for _ in 0..=self.below(3) {
                    let at = self.below(text.len());
                    text[at] = self.roll() as u8;
                }
                text
            }
            3 => self.value(5).to_string().into_bytes(),
            4 => "[".repeat(self.below(100_000)).into_bytes(),
            _ => self.spoil(good).to_string().into_bytes(),
        }
    }
}

/// What each endpoint that reads a body would take.
fn good(endpoint: &str) -> Vec<Value> {
    let auth = json!({"type": "header", "auth_level": "per_user", "headers": {"A": "Bearer {{KEY}}", "B": "x"}});
    let oauth = json!({"type": "oauth2", "scopes": ["a"], "token_url": "https://as.example/t", "client_id": "c", "client_secret": "s",
                       "additional_token_params": {"a": "b"}});
    let manifest = |auth: Value| {
        json!({"manifest": {"type": "mcp-server/remote", "name": "wiki", "description": "d",
            "url": "https://x.example/mcp", "auth_data": auth, "additional_headers": {"X": "y"},
            "collaborators": [{"subject": "user:a", "role_id": "mcp-server-user"}],
            "tags": {"a": [1, {"b": null}]},
            "tool_settings": [{"name": "t", "annotations": {"readOnlyHint": true}}],
            "tool_metadata": {"t": {"description": "d"}}, "tls_settings": {"ca_cert": "c"}},
            "dryRun": false, "force": true})
    };
    match endpoint {
        "truefoundry-put-server" | "truefoundry-apply-manifest" => {
            vec![manifest(auth), manifest(oauth)]
        }
        "truefoundry-delete-manifest" => vec![json!({"manifest":
            {"type": "mcp-server/remote", "name": "wiki", "description": "d"}})],
        "truefoundry-put-override" => vec![json!({"subjectId": "ada", "subjectType": "user",
            "authOverride": {"type": "key_value", "values": {"KEY": "v"}}})],
        "truefoundry-disconnect-subject" => {
            vec![json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "user"})]
        }
        "langsmith-create-server" => vec![
            json!({"name": "n", "url": "https://x.example/", "headers": [{"key": "A", "value": "b"}],
            "auth_type": "headers", "oauth_mode": "", "oauth_provider_id": null, "vendor_id": "v"}),
        ],
        "langsmith-update-server" => vec![
            json!({"url": "https://y.example/", "headers": [{"key": "A", "value": "b"}],
            "auth_type": "", "oauth_mode": "", "oauth_provider_id": null}),
        ],
        "langsmith-register-provider" => vec![json!({"ls_user_id": "ada"})],
        "langsmith-create-tool-server" => vec![
            json!({"name": "n", "upstream_url": "https://x.example/", "connection": {"type": "oauth"}}),
        ],
        "langsmith-resolve-principal" => {
            vec![json!({"provider": "oidc", "issuer": "https://idp.example", "subject": "ada"})]
        }
        "langsmith-start-authorization" => vec![
            json!({"connection_id": "019bc0fd-8a38-4a17-83e9-4b02d86f31ae", "owner_type": "user",
            "owner_id": "ada"}),
        ],
        "langsmith-create-auth-session" => vec![
            json!({"provider_id": "019bc0fd-8a38-4a17-83e9-4b02d86f31ae", "scopes": ["a"],
            "strategy": "REUSE", "agent_id": "a", "token_id": "t", "is_default": true}),
        ],
        "kambrium-create-connection" => vec![
            json!({"mcp_server": "pipedrive", "access_type": "individual",
            "auth_method": "api_key", "api_key": "k", "agent_enabled": true, "disabled_tools": [1, 2]}),
            json!({"mcp_server": "pipedrive", "access_type": "read", "auth_method": "oauth"}),
        ],
        "kambrium-update-connection" => vec![
            json!({"access_type": "individual", "api_key": "k", "agent_enabled": true,
            "disabled_tools": [1, 2]}),
        ],
        _ => Vec::new(),
    }
}

async fn bombard(endpoint: &'static Endpoint, good: &[Value]) {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let authorization = admin.headers[0].1.clone();
    let made = admin
        .post(
            "/api/v1/mcp-servers",
            json!({"mcp_server": "pipedrive", "access_type": "individual", "api_key": "k"}),
        )
        .await;
    let number = made.json()["data"]["id"].to_string();
    let mcp = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let uuid = admin.get("/v1/deepagents/mcp-servers").await.json()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let parameters = [
        ("mcpServerId", mcp),
        ("mcp_server_id", uuid),
        ("server_id", number),
    ];
    let (method, path) = endpoint.routes[0];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ endpoint.name.len() as u64);
    for round in 0..10_000 {
        let good = &good[dice.below(good.len())];
        let body = dice.body(good);
        let sent = String::from_utf8_lossy(&body).into_owned();
        hawser.wire.arm(None);
        let request = lambda_http::http::Request::builder()
            .method(method)
            .uri(path.replace(['{', '}'], ""))
            .header("authorization", &authorization)
            .body(Body::from(body))
            .unwrap()
            .with_path_parameters(
                parameters
                    .iter()
                    .map(|(n, v)| ((*n).to_owned(), v.clone()))
                    .collect::<HashMap<_, _>>(),
            );
        let response = endpoint.serve(&hawser.app, request).await;
        let status = response.status().as_u16();
        let documented = [200, 201, 204, 400, 404, 409, 413, 417, 422].contains(&status);
        assert!(
            documented,
            "{} round {round}: {status} for {sent}",
            endpoint.name
        );
        if status == 201 && endpoint.name == "kambrium-create-connection" {
            // What a good body made goes again, or each round would count more connections.
            let Body::Text(text) = response.body() else {
                panic!("{} round {round}: no body", endpoint.name)
            };
            let made: Value = serde_json::from_str(text).unwrap();
            assert_eq!(
                admin
                    .delete(&format!("{path}/{}", made["data"]["id"]))
                    .await
                    .status,
                200
            );
        }
        if status >= 400 {
            let Body::Text(text) = response.body() else {
                panic!("{} round {round}: no body", endpoint.name)
            };
            serde_json::from_str::<Value>(text).unwrap();
            let changed = hawser
                .wire
                .operations()
                .iter()
                .any(|o| o == "TransactWriteItems");
            // A name that is taken shows only when the transaction is refused.
            assert!(
                !changed || status == 409,
                "{} round {round}: {status} and a write for {sent}",
                endpoint.name
            );
        }
    }
}

macro_rules! bombardments {
    ($($name:ident $endpoint:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let endpoint = ENDPOINTS.iter().find(|e| e.name == $endpoint).unwrap();
            bombard(endpoint, &good($endpoint)).await;
        }
    )*};
}

bombardments! {
    random_bodies_at_put_server "truefoundry-put-server";
    random_bodies_at_put_override "truefoundry-put-override";
    random_bodies_at_apply_manifest "truefoundry-apply-manifest";
    random_bodies_at_delete_manifest "truefoundry-delete-manifest";
    random_bodies_at_disconnect_subject "truefoundry-disconnect-subject";
    random_bodies_at_create_server "langsmith-create-server";
    random_bodies_at_update_server "langsmith-update-server";
    random_bodies_at_create_tool_server "langsmith-create-tool-server";
    random_bodies_at_resolve_principal "langsmith-resolve-principal";
    random_bodies_at_start_authorization "langsmith-start-authorization";
    random_bodies_at_register_provider "langsmith-register-provider";
    random_bodies_at_create_auth_session "langsmith-create-auth-session";
    random_bodies_at_create_connection "kambrium-create-connection";
    random_bodies_at_update_connection "kambrium-update-connection";
}

/// 10,000 random ids, queries and bodies at an endpoint that takes its input from the path and the query.
async fn bombard_path(endpoint: &'static Endpoint) {
    let hawser = Hawser::with_built_in_integrations().await;
    let authorization = hawser.admin("acme").headers[0].1.clone();
    let (method, path) = endpoint.routes[0];
    let mut dice = Dice(0x2545_f491_4f6c_dd1d ^ endpoint.name.len() as u64);
    for round in 0..10_000 {
        let id = match dice.below(4) {
            0 => "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE".to_owned(),
            1 => "019bc0fd-8a38-7a17-83e9-4b02d86f31ae".to_owned(),
            2 => dice.roll().to_string(),
            _ => dice.text(),
        };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for _ in 0..dice.below(4) {
            const NAMES: [&str; 24] = [
                "limit",
                "offset",
                "id",
                "name",
                "fqn",
                "resolveTools",
                "subjectId",
                "subjectType",
                "serverId",
                "before",
                "waitSeconds",
                "wait_seconds",
                "gatewayBaseURL",
                "redirectURL",
                "dryRun",
                "session",
                "state",
                "code",
                "error",
                "iss",
                "url",
                "force_refresh",
                "oauth_provider_id",
                "ls_user_id",
            ];
            query.append_pair(NAMES[dice.below(NAMES.len())], &dice.text());
        }
        // Where no gateway matches paths, they are as the client wrote them.
        let encoded: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let path = path.replace("{server}", &encoded);
        let uri = format!("{}?{}", path.replace(['{', '}'], ""), query.finish());
        hawser.wire.arm(None);
        let request = lambda_http::http::Request::builder()
            .method(method)
            .uri(&uri)
            .header("authorization", &authorization)
            .body(Body::from(dice.text()))
            .unwrap();
        let names = [
            "mcpServerId",
            "mcp_server_id",
            "server_id",
            "receiptId",
            "session_id",
            "provider",
        ];
        let names = names.map(str::to_owned);
        let parameters: HashMap<_, _> = names.into_iter().map(|name| (name, id.clone())).collect();
        let response = endpoint
            .serve(&hawser.app, request.with_path_parameters(parameters))
            .await;
        let status = response.status().as_u16();
        // Clients have credentials of their own there, and nobody registers where nobody signs in.
        let documented = match endpoint.name {
            "kambrium-issue-token" | "hawser-issue-token" | "hawser-revoke-token" => status == 401,
            "hawser-register-application" => status == 403,
            _ => false,
        };
        let documented = documented || [200, 204, 400, 404, 413, 422].contains(&status);
        assert!(
            documented,
            "{} round {round}: {status} for {id:?} {uri}",
            endpoint.name
        );
        let changed = hawser
            .wire
            .operations()
            .iter()
            .any(|o| o == "TransactWriteItems");
        assert!(
            !changed,
            "{} round {round}: a write for {id:?} {uri}",
            endpoint.name
        );
    }
}

macro_rules! path_bombardments {
    ($($name:ident $endpoint:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                bombard_path(ENDPOINTS.iter().find(|e| e.name == $endpoint).unwrap()).await;
            }
        )*

        const BY_PATH: &[&str] = &[$($endpoint),*];
    };
}

path_bombardments! {
    random_paths_at_truefoundry_list_servers "truefoundry-list-servers";
    random_paths_at_truefoundry_get_server "truefoundry-get-server";
    random_paths_at_truefoundry_delete_server "truefoundry-delete-server";
    random_paths_at_list_overrides "truefoundry-list-overrides";
    random_paths_at_get_auth_status "truefoundry-get-auth-status";
    random_paths_at_revoke_all "truefoundry-revoke-all";
    random_paths_at_authorize "truefoundry-authorize";
    random_paths_at_get_override_schema "truefoundry-get-override-schema";
    random_paths_at_get_cli_version "truefoundry-get-cli-version";
    random_paths_at_get_tenant "truefoundry-get-tenant";
    random_paths_at_langsmith_list_servers "langsmith-list-servers";
    random_paths_at_langsmith_get_server "langsmith-get-server";
    random_paths_at_langsmith_delete_server "langsmith-delete-server";
    random_paths_at_list_tool_servers "langsmith-list-tool-servers";
    random_paths_at_get_tool_server "langsmith-get-tool-server";
    random_paths_at_delete_tool_server "langsmith-delete-tool-server";
    random_paths_at_delete_credential "langsmith-delete-credential";
    random_paths_at_call_tool_server "langsmith-call-tool-server";
    random_paths_at_list_auth_connections "langsmith-list-auth-connections";
    random_paths_at_get_auth_session "langsmith-get-auth-session";
    random_paths_at_list_tools_of_a_url "langsmith-list-tools";
    random_paths_at_list_tools_of_a_connection "kambrium-list-tools";
    random_paths_at_list_integrations "kambrium-list-integrations";
    random_paths_at_list_connections "kambrium-list-connections";
    random_paths_at_get_connection "kambrium-get-connection";
    random_paths_at_delete_connection "kambrium-delete-connection";
    random_paths_at_issue_token "kambrium-issue-token";
    random_paths_at_finish_kambrium_consent "kambrium-finish-consent";
    random_paths_at_get_receipt "hawser-get-receipt";
    random_paths_at_list_receipts "hawser-list-receipts";
    random_paths_at_list_events "hawser-list-events";
    random_paths_at_offboard_subject "hawser-offboard-subject";
    random_paths_at_show_consent "hawser-show-consent";
    random_paths_at_start_consent "hawser-start-consent";
    random_paths_at_finish_consent "hawser-finish-consent";
    random_paths_at_client_metadata "hawser-client-metadata";
    random_paths_at_invoke "hawser-invoke";
    random_paths_at_list_logins "hawser-list-logins";
    random_paths_at_end_login "hawser-end-login";
    random_paths_at_issue_login_token "hawser-issue-token";
    random_paths_at_revoke_token "hawser-revoke-token";
    random_paths_at_list_token_keys "hawser-list-token-keys";
    random_paths_at_openapi "hawser-openapi";
    random_paths_at_protected_resource "hawser-protected-resource";
    random_paths_at_authorization_server "hawser-authorization-server";
    random_paths_at_register_application "hawser-register-application";
    random_paths_at_authorize_application "hawser-authorize";
    random_paths_at_allow_application "hawser-allow-application";
    random_paths_at_finish_sign_in "hawser-finish-sign-in";
}

#[test]
fn every_endpoint_gets_random_paths_or_random_bodies() {
    for endpoint in ENDPOINTS
        .iter()
        .filter(|endpoint| !endpoint.routes.is_empty())
    {
        let by_body = !good(endpoint.name).is_empty();
        assert_ne!(
            by_body,
            BY_PATH.contains(&endpoint.name),
            "{}",
            endpoint.name
        );
    }
}
#[tokio::test]
async fn huge_bodies_and_odd_paths_are_refused_everywhere() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let before = hawser.ground().items().await;
    let odd = [
        "%00",
        "%23",
        "..%2f..",
        "a%0d%0aEvil:1",
        "%ff%fe",
        "mcp-%23",
        "0",
        "-1",
        "9223372036854775808",
        "%F0%9F%98%80",
    ];
    for endpoint in ENDPOINTS {
        for (method, path) in endpoint.routes {
            for value in odd {
                let mut path = (*path).to_owned();
                for name in [
                    "{mcpServerId}",
                    "{mcp_server_id}",
                    "{server_id}",
                    "{receiptId}",
                    "{session_id}",
                    "{provider}",
                    "{server}",
                    "{name}",
                ] {
                    path = path.replace(name, value);
                }
                for body in [Vec::new(), vec![b'{'; 300_000], b"{\"a\":".to_vec()] {
                    let answer = admin.send(method, &path, &[], body).await;
                    assert!(answer.status < 500, "{method} {path}: {answer:?}");
                    let kind = answer.header("content-type").unwrap_or_default();
                    if kind.starts_with("text/html") {
                        let is_page = path == "/docs" || path.starts_with("/oauth/");
                        assert!(is_page, "a page at {method} {path}");
                    } else if answer.status >= 400 {
                        assert!(answer.json().is_object(), "{method} {path}: {answer:?}");
                    }
                }
            }
        }
    }
    assert_eq!(hawser.ground().items().await, before, "nothing changed");
}

#[tokio::test]
async fn what_would_not_fit_into_an_item_is_refused_before_the_store_does() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    // Short numbers in the request that are long ones when stored.
    let numbers = format!("[{}]", vec!["1e15"; 50_000].join(","));
    let body = format!(
        r#"{{"manifest":{{"type":"mcp-server/remote","name":"wiki","description":"d","url":"https://x.example/","tags":{{"n":{numbers}}}}}}}"#
    );
    assert!(body.len() < 262_144);
    let answer = admin
        .send("PUT", "/api/svc/v1/mcp", &[], body.into_bytes())
        .await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!("INVALID_REQUEST")),
        "{answer:?}"
    );
}
