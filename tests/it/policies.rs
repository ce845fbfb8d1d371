//! Each function's policy in template.yaml allows exactly the requests to the store that the function sends, and every read is
//! strongly consistent.

use crate::budget::fixture;
use crate::harness::{Answer, Browser, Caller, Hawser, Sent, ample};
use crate::issuer::{Fault, Issuer};
use crate::{application_sign_in, logins};
use data_encoding::BASE64;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::subject::Subject;
use hawser_core::operations::audit_log;
use hawser_core::operations::scheduler::process_due;
use hawser_core::table::audit_log::shards;
use hawser_functions::ENDPOINTS;
use hawser_local::template::Template;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const MCP: &str = "/api/svc/v1/mcp";

/// The actions that IAM asks for.
pub fn actions(sent: &[Sent]) -> BTreeSet<String> {
    let of = |sent: &Sent| match sent.operation.as_str() {
        "TransactWriteItems" => sent.body["TransactItems"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|item| item.as_object().unwrap().keys())
            .map(|kind| {
                if kind == "ConditionCheck" {
                    "ConditionCheckItem".to_owned()
                } else {
                    format!("{kind}Item")
                }
            })
            .collect(),
        operation => vec![operation.to_owned()],
    };
    sent.iter()
        .flat_map(of)
        .map(|action| format!("dynamodb:{action}"))
        .collect()
}

/// What each endpoint did.
#[derive(Default)]
pub struct Used {
    actions: BTreeMap<&'static str, BTreeSet<String>>,
    sent: Vec<Sent>,
}

impl Used {
    /// Notes what an endpoint took since the wire was armed.
    pub fn note(&mut self, endpoint: &'static str, hawser: &Hawser) {
        let sent = hawser.wire.sent();
        let of_endpoint = self.actions.entry(endpoint).or_default();
        of_endpoint.extend(actions(&sent));
        self.sent.extend(sent);
        hawser.wire.arm(None);
    }

    /// Makes a call that must succeed, and notes what it took.
    async fn call(
        &mut self,
        hawser: &Hawser,
        caller: &Caller,
        method: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        hawser.wire.arm(None);
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let answer = caller.send(method, path, &[], bytes).await;
        let is_asked_to_connect = answer.status == 428;
        assert!(
            answer.status < 400 || is_asked_to_connect,
            "{method} {path}: {answer:?}"
        );
        let router = Template::load().unwrap().router().unwrap();
        let (endpoint, _) = router.find(method, path.split('?').next().unwrap());
        let sent = hawser.wire.sent();
        self.actions
            .entry(endpoint.name)
            .or_default()
            .extend(actions(&sent));
        self.sent.extend(sent);
        answer
    }
}

/// The life of a connection under LangSmith's contract.
async fn connect_by_langsmith(used: &mut Used, hawser: &Hawser, caller: &Caller) {
    const BASE: &str = "/v1/deepagents";
    let issuer = Issuer::start().await;
    // So short that it is refreshed at every use.
    issuer.configure(|s| s.access_ttl = Some(30));
    let new = json!({"name": "oauth", "url": issuer.mcp_url(), "auth_type": "oauth"});
    let made = caller
        .post(&format!("{BASE}/mcp-servers"), new)
        .await
        .json();
    let server = format!("{BASE}/mcp-servers/{}", made["id"].as_str().unwrap());
    let register = format!("{server}/oauth-provider");
    used.call(hawser, caller, "POST", &register, json!({}))
        .await;
    // What is void is replaced.
    let moved = json!({"url": format!("{}?a=b", issuer.mcp_url())});
    used.call(hawser, caller, "PATCH", &server, moved).await;
    let provider = used
        .call(hawser, caller, "POST", &register, json!({}))
        .await
        .json();
    let provider = &provider["oauth_provider_id"];
    let ask = |strategy| json!({"provider_id": provider, "scopes": [], "strategy": strategy});
    let sessions = format!("{BASE}/auth-sessions");
    let begun = used
        .call(hawser, caller, "POST", &sessions, ask("CREATE"))
        .await
        .json();
    let mut person = Browser::new();
    let url = person
        .begin(begun["verification_url"].as_str().unwrap())
        .await;
    let callback = issuer.approve(&url).await;
    let callback = callback.strip_prefix(&hawser.url).unwrap();
    let browser = hawser.with(vec![("cookie", person.cookie())]);
    used.call(hawser, &browser, "GET", callback, Value::Null)
        .await;
    let session = format!("{sessions}/{}", begun["id"].as_str().unwrap());
    used.call(hawser, caller, "GET", &session, Value::Null)
        .await;
    issuer.expire(&issuer.issued().last().unwrap().access);
    let tools = format!("{BASE}/mcp/tools?url={}%3Fa%3Db", issuer.mcp_url());
    used.call(hawser, caller, "GET", &tools, Value::Null).await;
    let reused = used
        .call(hawser, caller, "POST", &sessions, ask("REUSE"))
        .await;
    assert_eq!(reused.status, 200, "{reused:?}");
    // The issuer does not know the client any more, so another is registered.
    let items = hawser.ground().items().await;
    let of_server = |item: &&Value| item["entity"] == "client" && item["subject_id"] == "root";
    for client in items.iter().filter(of_server) {
        let id = client["id"].as_str().unwrap();
        let server = serde_json::from_value(client["server"].clone()).unwrap();
        let (tenant, root) = (
            TenantId::parse("acme").unwrap(),
            Subject::parse("user:root"),
        );
        let table = &hawser.app.table;
        let rejected = table
            .reject_client(&tenant, server, root.as_ref(), id)
            .await;
        rejected.unwrap();
    }
    used.call(hawser, caller, "POST", &sessions, ask("CREATE"))
        .await;
    for path in [&server, &format!("{BASE}/mcp-servers")] {
        used.call(hawser, caller, "GET", path, Value::Null).await;
    }
    call_through_the_tool_gateway(used, hawser, caller, &issuer).await;
    used.call(hawser, caller, "DELETE", &server, Value::Null)
        .await;
}

/// The life of a connection under the tool gateway: a call that asks to connect, calls in a session that is opened and closed,
/// with a token that must be refreshed, and its end.
async fn call_through_the_tool_gateway(
    used: &mut Used,
    hawser: &Hawser,
    caller: &Caller,
    issuer: &Issuer,
) {
    let servers = "/v1/managed-tools/servers";
    let new = json!({"name": "gateway", "upstream_url": issuer.mcp_url(), "connection": {"type": "oauth"}});
    let made = used.call(hawser, caller, "POST", servers, new).await.json();
    let server = format!("{servers}/{}", made["id"].as_str().unwrap());
    let mcp = format!("{server}/mcp");
    let call = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method});
    used.call(hawser, caller, "GET", &server, Value::Null).await;
    let asked = used
        .call(hawser, caller, "POST", &mcp, call("tools/list"))
        .await
        .json();
    let mut person = Browser::new();
    let at_issuer = person
        .begin(asked["verification_url"].as_str().unwrap())
        .await;
    let page = person.open(&issuer.approve(&at_issuer).await).await;
    assert_eq!(page.status, 200, "{page:?}");
    issuer.fault(Fault {
        status: Some(200),
        headers: vec![("mcp-session-id", "theirs".to_owned())],
        body: "{}".to_owned(),
        ..Fault::once("/mcp")
    });
    let opened = used
        .call(hawser, caller, "POST", &mcp, call("initialize"))
        .await;
    issuer.expire(&issuer.issued().last().unwrap().access);
    used.call(hawser, caller, "POST", &mcp, call("tools/list"))
        .await;
    issuer.fault(Fault {
        status: Some(200),
        ..Fault::once("/mcp")
    });
    let mut headers = caller.headers.clone();
    headers.push(("mcp-session-id", opened.header("mcp-session-id").unwrap()));
    let in_session = hawser.with(headers);
    used.call(hawser, &in_session, "DELETE", &mcp, Value::Null)
        .await;
    let credential = format!("{server}/credential");
    used.call(hawser, caller, "DELETE", &credential, Value::Null)
        .await;
    let asked = json!({"connection_id": made["id"], "owner_type": "user", "owner_id": "root"});
    let sessions = "/v1/agent-auth/oauth-authorization-sessions";
    used.call(hawser, caller, "POST", sessions, asked).await;
    let would = format!("{server}?dryRun=true");
    for path in [&would, &server] {
        used.call(hawser, caller, "DELETE", path, Value::Null).await;
    }
}

#[tokio::test]
async fn each_policy_allows_exactly_what_its_function_does() {
    let issuer = Issuer::start().await;
    let hawser = Hawser::with_integrations(&json!({
        "pipedrive": {"display_name": "Pipedrive", "mcp_url": "https://mcp.pipedrive.example/mcp", "api_key": {}},
        "mail": {"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": {}},
    }))
    .await;
    let token = hawser.admin("acme");
    let all = json!({"roles": ["admin"], "scopes": ["mgmt.admin"], "permissions": ["mcp-servers:create", "mcp-servers:read",
                     "mcp-servers:update", "mcp-servers:delete", "mcp-servers:invoke"]});
    let key = hawser.api_key("acme", Some("user:root"), all).await;
    let router = Template::load().unwrap().router().unwrap();
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut consistent = Vec::new();
    for (round, caller) in [&token, &key].into_iter().enumerate() {
        let (mcp, uuid, number) = fixture(&token, "one").await;
        let (_, uuid2, number2) = fixture(&token, "two").await;
        let override_of = |value: &str| json!({"subjectId": "ada", "subjectType": "user", "authOverride": {"type": "header", "headerValue": value}});
        let manifest = json!({"type": "mcp-server/remote", "name": "one", "description": "d", "url": "https://y.example/mcp"});
        let body =
            json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "user"});
        let calls = [
            (
                "PUT",
                MCP.to_owned(),
                json!({"manifest": {"type": "mcp-server/remote", "name": format!("new-{round}"), "description": "d", "url": "https://y.example/"}}),
            ),
            (
                "PUT",
                MCP.to_owned(),
                json!({"manifest": {"type": "mcp-server/remote", "name": format!("new-{round}"), "description": "d", "url": "https://moved.example/"}}),
            ),
            (
                "PUT",
                "/api/svc/v1/apply".to_owned(),
                json!({"manifest": {"type": "mcp-server/remote", "name": format!("applied-{round}"), "description": "d", "url": "https://y.example/"}}),
            ),
            (
                "PUT",
                "/api/svc/v1/apply".to_owned(),
                json!({"manifest": {"type": "mcp-server/remote", "name": format!("applied-{round}"), "description": "d", "url": "https://moved.example/"}}),
            ),
            (
                "POST",
                "/api/svc/v1/delete?dryRun=true".to_owned(),
                json!({"manifest": {"type": "mcp-server/remote", "name": format!("applied-{round}")}}),
            ),
            (
                "POST",
                "/api/svc/v1/delete".to_owned(),
                json!({"manifest": {"type": "mcp-server/remote", "name": format!("applied-{round}")}}),
            ),
            (
                "GET",
                format!("{MCP}/{mcp}/auth-override/uischema"),
                Value::Null,
            ),
            ("GET", "/api/svc/v1/min-cli-version".to_owned(), Value::Null),
            (
                "GET",
                "/api/svc/v1/tenant-id?hostName=h".to_owned(),
                Value::Null,
            ),
            ("GET", MCP.to_owned(), Value::Null),
            ("GET", format!("{MCP}/{mcp}"), Value::Null),
            ("PUT", format!("{MCP}/{mcp}/auth"), override_of("v")),
            (
                "PUT",
                format!("{MCP}/{mcp}/auth"),
                override_of("<REDACTED>"),
            ),
            ("GET", format!("{MCP}/{mcp}/auth"), Value::Null),
            (
                "GET",
                format!("{MCP}/{mcp}/auth/status?subjectId=ada&subjectType=user"),
                Value::Null,
            ),
            (
                "DELETE",
                "/v1/subjects/user/ada/credentials".to_owned(),
                Value::Null,
            ),
            ("PUT", format!("{MCP}/{mcp}/auth"), override_of("v")),
            ("DELETE", format!("{MCP}/{mcp}/auth"), body),
            ("PUT", format!("{MCP}/{mcp}/auth"), override_of("v")),
            (
                "PUT",
                MCP.to_owned(),
                json!({"manifest": manifest, "force": true}),
            ),
            (
                "POST",
                "/v1/deepagents/mcp-servers".to_owned(),
                json!({"name": format!("ls-{round}"), "url": "https://z.example"}),
            ),
            ("GET", "/v1/deepagents/mcp-servers".to_owned(), Value::Null),
            (
                "GET",
                format!("/v1/deepagents/mcp-servers/{uuid2}"),
                Value::Null,
            ),
            (
                "PATCH",
                format!("/v1/deepagents/mcp-servers/{uuid2}?dryRun=true"),
                json!({"url": "https://other.example/"}),
            ),
            (
                "PATCH",
                format!("/v1/deepagents/mcp-servers/{uuid2}"),
                json!({"url": "https://other.example/", "headers": [{"key": "A", "value": "b"}]}),
            ),
            (
                "GET",
                "/api/v1/mcp-servers/available".to_owned(),
                Value::Null,
            ),
            (
                "POST",
                "/api/v1/mcp-servers".to_owned(),
                json!({"mcp_server": "pipedrive", "access_type": "read", "api_key": "k"}),
            ),
            ("GET", "/api/v1/mcp-servers".to_owned(), Value::Null),
            ("GET", format!("/api/v1/mcp-servers/{number}"), Value::Null),
            (
                "PUT",
                format!("/api/v1/mcp-servers/{number2}"),
                json!({"access_type": "read"}),
            ),
            ("DELETE", format!("{MCP}/{mcp}?dryRun=true"), Value::Null),
            (
                "DELETE",
                format!("/v1/deepagents/mcp-servers/{uuid2}?dryRun=true"),
                Value::Null,
            ),
            (
                "DELETE",
                format!("/api/v1/mcp-servers/{number}?dryRun=true"),
                Value::Null,
            ),
            ("DELETE", format!("{MCP}/{mcp}"), Value::Null),
            (
                "DELETE",
                format!("/v1/deepagents/mcp-servers/{uuid2}"),
                Value::Null,
            ),
            (
                "POST",
                "/v1/managed-tools/servers".to_owned(),
                json!({"name": format!("mt-{round}"), "upstream_url": "https://z.example"}),
            ),
            ("GET", "/v1/managed-tools/servers".to_owned(), Value::Null),
            ("GET", "/v1/agent-auth/connections".to_owned(), Value::Null),
            (
                "POST",
                "/v1/agent-auth/principals".to_owned(),
                json!({"provider": "oidc", "subject": "ada"}),
            ),
            ("GET", "/v1/receipts".to_owned(), Value::Null),
            ("GET", "/v1/receipts/x".to_owned(), Value::Null),
            ("GET", "/v1/audit".to_owned(), Value::Null),
            ("GET", "/nowhere".to_owned(), Value::Null),
        ];
        let _ = uuid;
        for (method, path, body) in calls {
            hawser.wire.arm(None);
            let bytes = if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            };
            let answer = caller.send(method, &path, &[], bytes).await;
            assert!(
                answer.status < 300 || path == "/nowhere" || path == "/v1/receipts/x",
                "{method} {path}: {answer:?}"
            );
            let (endpoint, _) = router.find(method, path.split('?').next().unwrap());
            used.entry(endpoint.name)
                .or_default()
                .extend(actions(&hawser.wire.sent()));
            consistent.extend(hawser.wire.sent());
            hawser.wire.arm(None);
            while process_due(&hawser.app, ample()).await.unwrap() {}
            for worker in ["workers-purge", "workers-sweep"] {
                used.entry(worker)
                    .or_default()
                    .extend(actions(&hawser.wire.sent()));
            }
        }
        // An update of a connection that is one of Kambrium's own, with its key.
        let made = caller
            .post(
                "/api/v1/mcp-servers",
                json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k"}),
            )
            .await;
        let data = made.json()["data"].clone();
        let id = data["id"].as_u64().unwrap();
        let client = &data["oauth2_credentials"];
        let [client, secret] =
            ["client_id", "client_secret"].map(|name| client[name].as_str().unwrap());
        let basic = BASE64.encode(format!("{client}:{secret}").as_bytes());
        let headers = [("authorization", format!("Basic {basic}"))];
        let form = b"grant_type=client_credentials".to_vec();
        hawser.wire.arm(None);
        let nobody = hawser.with(headers.to_vec());
        let issued = nobody.send("POST", "/oauth2/token", &[], form).await;
        assert_eq!(issued.status, 200, "{issued:?}");
        used.entry("kambrium-issue-token")
            .or_default()
            .extend(actions(&hawser.wire.sent()));
        consistent.extend(hawser.wire.sent());
        for (method, body) in [
            ("PUT", json!({"api_key": "l"}).to_string()),
            ("DELETE", String::new()),
        ] {
            hawser.wire.arm(None);
            let answer = caller
                .send(
                    method,
                    &format!("/api/v1/mcp-servers/{id}"),
                    &[],
                    body.into_bytes(),
                )
                .await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let (endpoint, _) = router.find(method, &format!("/api/v1/mcp-servers/{id}"));
            used.entry(endpoint.name)
                .or_default()
                .extend(actions(&hawser.wire.sent()));
            consistent.extend(hawser.wire.sent());
        }
        // A consent, and its end.
        let manifest = json!({"type": "mcp-server/remote", "name": format!("oauth-{round}"), "description": "d",
                              "url": issuer.mcp_url(), "auth_data": {"type": "oauth2"}});
        let made = token.put(MCP, json!({"manifest": manifest})).await;
        let path = format!("{MCP}/{}", made.json()["data"]["id"].as_str().unwrap());
        let mut note = |method: &str, path: &str| {
            let (endpoint, _) = router.find(method, path);
            let sent = hawser.wire.sent();
            used.entry(endpoint.name)
                .or_default()
                .extend(actions(&sent));
            consistent.extend(sent);
            hawser.wire.arm(None);
        };
        hawser.wire.arm(None);
        let authorize = format!("{path}/authorize");
        // Once with an issuer that cannot be used.
        let asked = caller.get(&authorize).await.json();
        note("GET", &authorize);
        let mut browser = Browser::new();
        issuer.configure(|s| s.s256 = false);
        let endpoint = asked["authorization_endpoint"].as_str().unwrap();
        let page = browser.open(endpoint).await;
        note("GET", "/oauth/start");
        let page = browser.press(endpoint, &page).await;
        assert_eq!(page.status, 502, "{page:?}");
        note("POST", "/oauth/start");
        issuer.configure(|s| s.s256 = true);
        let asked = caller.get(&authorize).await.json();
        note("GET", &authorize);
        let endpoint = asked["authorization_endpoint"].as_str().unwrap();
        let page = browser.open(endpoint).await;
        note("GET", "/oauth/start");
        let at_issuer = browser.press(endpoint, &page).await.location.unwrap();
        note("POST", "/oauth/start");
        let page = browser.open(&issuer.approve(&at_issuer).await).await;
        assert_eq!(page.status, 200, "{page:?}");
        note("GET", "/oauth/callback");
        // Calls: in a session that is opened and closed, and with a token that must be refreshed.
        let proxy = format!("/mcp/{}", path.rsplit('/').next().unwrap());
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize"});
        issuer.fault(Fault {
            status: Some(200),
            headers: vec![("mcp-session-id", "theirs".to_owned())],
            body: "{}".to_owned(),
            ..Fault::once("/mcp")
        });
        let opened = caller.post(&proxy, message.clone()).await;
        note("POST", &proxy);
        let session = opened.header("mcp-session-id").unwrap();
        issuer.expire(&issuer.issued().last().unwrap().access);
        assert_eq!(caller.post(&proxy, message.clone()).await.status, 200);
        note("POST", &proxy);
        issuer.fault(Fault {
            status: Some(200),
            ..Fault::once("/mcp")
        });
        let headers = [("mcp-session-id", session.as_str())];
        let closed = caller.send("DELETE", &proxy, &headers, Vec::new()).await;
        assert_eq!(closed.status, 200, "{closed:?}");
        note("DELETE", &proxy);
        let tokens = format!("{path}/auth/tokens");
        let revoked = caller.delete(&tokens).await;
        revoked.is(200, json!({"deletedCount": 1}));
        note("DELETE", &tokens);
        let call =
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}});
        for message in [message, call] {
            assert_eq!(caller.post(&proxy, message).await.status, 200);
            note("POST", &proxy);
        }
        while process_due(&hawser.app, ample()).await.unwrap() {}
        let sent = actions(&hawser.wire.sent());
        for worker in ["workers-purge", "workers-sweep"] {
            used.entry(worker).or_default().extend(sent.clone());
        }
        for shard in shards() {
            let (waiting, _) = hawser.app.table.unchained(shard, None).await.unwrap();
            hawser.wire.arm(None);
            audit_log::chain(&hawser.app, waiting).await.unwrap();
            let sent = actions(&hawser.wire.sent());
            for worker in ["workers-chain", "workers-sweep"] {
                used.entry(worker).or_default().extend(sent.clone());
            }
        }
        // Connections by consent, one of them denied.
        for denied in [false, true] {
            let body =
                json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
            hawser.wire.arm(None);
            let made = caller.post("/api/v1/mcp-servers", body).await;
            assert_eq!(made.status, 201, "{made:?}");
            used.entry("kambrium-create-connection")
                .or_default()
                .extend(actions(&hawser.wire.sent()));
            consistent.extend(hawser.wire.sent());
            let data = made.json()["data"].clone();
            let mut browser = Browser::new();
            let url = &browser
                .begin(data["authorization_url"].as_str().unwrap())
                .await;
            let back = if denied {
                issuer.deny(url).await
            } else {
                issuer.approve(url).await
            };
            let path = back.strip_prefix(&hawser.url).unwrap();
            hawser.wire.arm(None);
            assert_eq!(browser.open(&back).await.status, 200);
            let (endpoint, _) = router.find("GET", path.split('?').next().unwrap());
            used.entry(endpoint.name)
                .or_default()
                .extend(actions(&hawser.wire.sent()));
            consistent.extend(hawser.wire.sent());
            let mut paths = vec![
                "/api/v1/mcp-servers".to_owned(),
                format!("/api/v1/mcp-servers/{}", data["id"]),
            ];
            if !denied {
                issuer.expire(&issuer.issued().last().unwrap().access);
                paths.push(format!("/api/v1/mcp-servers/{}/tools", data["id"]));
            }
            for path in paths {
                hawser.wire.arm(None);
                let answer = caller.get(&path).await;
                assert_eq!(answer.status, 200, "{path}: {answer:?}");
                let (endpoint, _) = router.find("GET", &path);
                used.entry(endpoint.name)
                    .or_default()
                    .extend(actions(&hawser.wire.sent()));
                consistent.extend(hawser.wire.sent());
            }
            let gone = caller
                .delete(&format!("/api/v1/mcp-servers/{}", data["id"]))
                .await;
            assert_eq!(gone.status, 200, "{gone:?}");
        }
        // A deployment that has a document of its own.
        let public = Hawser::configured(hawser.ground(), |config| {
            config.client_metadata_url = Some("https://hawser.example/client".to_owned());
        })
        .await;
        public.wire.arm(None);
        let document = public.anonymous().get("/oauth/client-metadata.json").await;
        assert_eq!(document.status, 200, "{document:?}");
        let sent = public.wire.sent();
        used.entry("hawser-client-metadata")
            .or_default()
            .extend(actions(&sent));
        consistent.extend(sent);
        let mut oauth = Used::default();
        connect_by_langsmith(&mut oauth, &hawser, caller).await;
        logins::use_endpoints(&mut oauth, &hawser).await;
        application_sign_in::use_endpoints(&mut oauth).await;
        for (name, actions) in oauth.actions {
            used.entry(name).or_default().extend(actions);
        }
        consistent.extend(oauth.sent);
        for name in ["two", "one"] {
            let left = token.get(&format!("{MCP}?name={name}")).await.json();
            if let Some(id) = left["data"][0]["id"].as_str() {
                token.delete(&format!("{MCP}/{id}")).await;
            }
        }
        hawser.run_workers().await;
    }
    let template = Template::load().unwrap();
    let mut wrong = Vec::new();
    for name in
        ENDPOINTS
            .iter()
            .map(|e| e.name)
            .chain(["workers-chain", "workers-purge", "workers-sweep"])
    {
        let allowed: BTreeSet<_> = template
            .actions(name)
            .into_iter()
            .filter(|a| a.starts_with("dynamodb:"))
            .collect();
        let used = used.get(name).cloned().unwrap_or_default();
        if used != allowed {
            wrong.push((name, used, allowed));
        }
    }
    assert_eq!(wrong, [], "what it does, what it may");
    for sent in consistent {
        match sent.operation.as_str() {
            "Query" if sent.body.get("IndexName").is_none() => {
                assert_eq!(sent.body["ConsistentRead"], true, "{sent:?}")
            }
            "BatchGetItem" => assert_eq!(
                sent.body["RequestItems"]["hawser"]["ConsistentRead"], true,
                "{sent:?}"
            ),
            _ => {}
        }
    }
}
