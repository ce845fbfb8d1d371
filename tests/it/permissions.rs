//! Who may do what: every endpoint of the index, asked by every kind of caller. An endpoint without a row fails, and so does a
//! refusal that changes anything.

use crate::harness::{Caller, Hawser, Registered, now, of_trail, per_user};
use crate::logins;
use hawser_functions::ENDPOINTS;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The kinds of callers, in the order of the columns below.
const KINDS: [&str; 20] = [
    "nobody",
    "a made-up token",
    "a token that is over",
    "an API key that nobody made",
    "another tenant's admin",
    "a user",
    "a manager of servers",
    "an admin",
    "mcp-servers:create",
    "mcp-servers:read",
    "mcp-servers:update",
    "mcp-servers:delete",
    "mcp-servers:invoke",
    "mgmt.read",
    "mgmt.write",
    "mgmt.admin",
    "a user's key without rights",
    "a service key with all permissions",
    "a token for this connection alone",
    "a token for another connection alone",
];

/// What each kind is answered to a call that names no server: bound credentials alone do.
const AT_NO_SERVER: [u16; 20] = [
    401, 401, 401, 401, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 502,
    401,
];
/// The same where an integration is named. The server was not made from one.
const AT_AN_INTEGRATION: [u16; 20] = [
    401, 401, 401, 401, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 404,
    401,
];

/// What each kind is answered at each endpoint.
const ROWS: [(&str, [u16; 20]); 64] = [
    (
        "truefoundry-put-server",
        [
            401, 401, 401, 401, 200, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-list-servers",
        [
            401, 401, 401, 401, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 401, 401,
        ],
    ),
    (
        "truefoundry-get-server",
        [
            401, 401, 401, 401, 404, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-delete-server",
        [
            401, 401, 401, 401, 404, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-put-override",
        [
            401, 401, 401, 401, 404, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-list-overrides",
        [
            401, 401, 401, 401, 404, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 401, 401,
        ],
    ),
    (
        "truefoundry-disconnect-subject",
        [
            401, 401, 401, 401, 404, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-get-auth-status",
        [
            401, 401, 401, 401, 404, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-revoke-all",
        [
            401, 401, 401, 401, 404, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-authorize",
        [
            401, 401, 401, 401, 404, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 401, 401,
        ],
    ),
    (
        "truefoundry-apply-manifest",
        [
            401, 401, 401, 401, 200, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-delete-manifest",
        [
            401, 401, 401, 401, 404, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "truefoundry-get-override-schema",
        [
            401, 401, 401, 401, 404, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 401, 401,
        ],
    ),
    (
        "truefoundry-get-cli-version",
        [
            200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 200, 200,
        ],
    ),
    (
        "truefoundry-get-tenant",
        [
            200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 200, 200,
        ],
    ),
    (
        "langsmith-create-server",
        [
            401, 401, 401, 403, 201, 403, 403, 403, 201, 403, 403, 403, 403, 403, 403, 403, 403,
            201, 401, 401,
        ],
    ),
    (
        "langsmith-list-servers",
        [
            401, 401, 401, 403, 200, 403, 403, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403,
            200, 401, 401,
        ],
    ),
    (
        "langsmith-get-server",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403,
            200, 401, 401,
        ],
    ),
    (
        "langsmith-update-server",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 403, 200, 403, 403, 403, 403, 403, 403,
            200, 401, 401,
        ],
    ),
    (
        "langsmith-delete-server",
        [
            401, 401, 401, 403, 204, 403, 403, 403, 403, 403, 403, 204, 403, 403, 403, 403, 403,
            204, 401, 401,
        ],
    ),
    (
        "langsmith-register-provider",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 403, 403, 403, 400, 403, 403, 403, 403,
            400, 401, 401,
        ],
    ),
    (
        "langsmith-create-auth-session",
        [
            401, 401, 401, 403, 400, 403, 403, 403, 403, 403, 403, 403, 400, 403, 403, 403, 403,
            400, 401, 401,
        ],
    ),
    (
        "langsmith-get-auth-session",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 403, 403, 403, 404, 403, 403, 403, 403,
            404, 401, 401,
        ],
    ),
    (
        "langsmith-list-tools",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 404, 403, 403, 403, 403, 403, 403, 403,
            404, 401, 401,
        ],
    ),
    (
        "langsmith-create-tool-server",
        [
            401, 401, 401, 403, 201, 403, 403, 403, 201, 403, 403, 403, 403, 403, 403, 403, 403,
            201, 401, 401,
        ],
    ),
    (
        "langsmith-list-tool-servers",
        [
            401, 401, 401, 403, 200, 403, 403, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403,
            200, 401, 401,
        ],
    ),
    (
        "langsmith-list-auth-connections",
        [
            401, 401, 401, 403, 200, 403, 403, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403,
            200, 401, 401,
        ],
    ),
    (
        "langsmith-get-tool-server",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403,
            200, 401, 401,
        ],
    ),
    (
        "langsmith-delete-tool-server",
        [
            401, 401, 401, 403, 204, 403, 403, 403, 403, 403, 403, 204, 403, 403, 403, 403, 403,
            204, 401, 401,
        ],
    ),
    (
        "langsmith-delete-credential",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 403, 403, 403, 204, 403, 403, 403, 403,
            204, 401, 401,
        ],
    ),
    (
        "langsmith-call-tool-server",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 403, 403, 403, 428, 403, 403, 403, 403,
            428, 401, 401,
        ],
    ),
    (
        "langsmith-resolve-principal",
        [
            401, 401, 401, 403, 200, 403, 403, 403, 403, 403, 403, 403, 200, 403, 403, 403, 403,
            200, 401, 401,
        ],
    ),
    (
        "langsmith-start-authorization",
        [
            401, 401, 401, 403, 404, 403, 403, 403, 403, 403, 403, 403, 400, 403, 403, 403, 403,
            400, 401, 401,
        ],
    ),
    (
        "kambrium-list-integrations",
        [
            401, 401, 401, 401, 200, 403, 403, 403, 403, 403, 403, 403, 403, 200, 403, 200, 403,
            403, 200, 200,
        ],
    ),
    (
        "kambrium-create-connection",
        [
            401, 401, 401, 401, 201, 403, 403, 403, 403, 403, 403, 403, 403, 403, 201, 201, 403,
            403, 403, 403,
        ],
    ),
    (
        "kambrium-list-connections",
        [
            401, 401, 401, 401, 200, 403, 403, 403, 403, 403, 403, 403, 403, 200, 403, 200, 403,
            403, 200, 200,
        ],
    ),
    (
        "kambrium-get-connection",
        [
            401, 401, 401, 401, 404, 403, 403, 403, 403, 403, 403, 403, 403, 404, 403, 200, 403,
            403, 200, 404,
        ],
    ),
    (
        "kambrium-update-connection",
        [
            401, 401, 401, 401, 404, 403, 403, 403, 403, 403, 403, 403, 403, 403, 404, 200, 403,
            403, 200, 404,
        ],
    ),
    (
        "kambrium-delete-connection",
        [
            401, 401, 401, 401, 404, 403, 403, 403, 403, 403, 403, 403, 403, 403, 404, 200, 403,
            403, 200, 404,
        ],
    ),
    (
        "kambrium-list-tools",
        [
            401, 401, 401, 401, 404, 403, 403, 403, 403, 403, 403, 403, 403, 404, 403, 502, 403,
            403, 502, 404,
        ],
    ),
    (
        "kambrium-finish-consent",
        [
            400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400,
            400, 400, 400,
        ],
    ),
    (
        "kambrium-issue-token",
        [
            401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401,
            401, 401, 401,
        ],
    ),
    (
        "hawser-get-receipt",
        [
            401, 401, 401, 401, 404, 404, 200, 200, 404, 404, 404, 404, 404, 404, 404, 404, 404,
            404, 401, 401,
        ],
    ),
    (
        "hawser-list-receipts",
        [
            401, 401, 401, 401, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 401, 401,
        ],
    ),
    (
        "hawser-offboard-subject",
        [
            401, 401, 401, 401, 200, 403, 200, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "hawser-list-events",
        [
            401, 401, 401, 401, 200, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 401, 401,
        ],
    ),
    (
        "hawser-show-consent",
        [
            400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400,
            400, 400, 400,
        ],
    ),
    (
        "hawser-start-consent",
        [
            400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400,
            400, 400, 400,
        ],
    ),
    (
        "hawser-finish-consent",
        [
            400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400,
            400, 400, 400,
        ],
    ),
    (
        "hawser-client-metadata",
        [
            404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404,
            404, 404, 404,
        ],
    ),
    (
        "hawser-invoke",
        [
            401, 401, 401, 401, 200, 403, 502, 502, 403, 403, 403, 403, 502, 403, 403, 403, 403,
            502, 502, 401,
        ],
    ),
    (
        "hawser-list-logins",
        [
            401, 401, 401, 401, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 401, 401,
        ],
    ),
    (
        "hawser-end-login",
        [
            401, 401, 401, 401, 404, 404, 200, 200, 404, 404, 404, 404, 404, 404, 404, 404, 404,
            404, 401, 401,
        ],
    ),
    (
        "hawser-issue-token",
        [
            400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400,
            400, 400, 400,
        ],
    ),
    (
        "hawser-revoke-token",
        [
            400, 401, 401, 400, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 400,
            400, 401, 401,
        ],
    ),
    (
        "hawser-list-token-keys",
        [
            200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 200, 200,
        ],
    ),
    (
        "hawser-openapi",
        [
            200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 200, 200,
        ],
    ),
    (
        "hawser-protected-resource",
        [
            200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
            200, 200, 200,
        ],
    ),
    (
        "hawser-authorization-server",
        [
            404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404,
            404, 404, 404,
        ],
    ),
    (
        "hawser-register-application",
        [
            403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403,
            403, 403, 403,
        ],
    ),
    (
        "hawser-authorize",
        [
            404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404,
            404, 404, 404,
        ],
    ),
    (
        "hawser-allow-application",
        [
            404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404,
            404, 404, 404,
        ],
    ),
    (
        "hawser-finish-sign-in",
        [
            400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400,
            400, 400, 400,
        ],
    ),
    (
        "hawser-unrouted",
        [
            404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404,
            404, 404, 404,
        ],
    ),
];

/// A server, and what else a request may name.
struct Scene<'a> {
    hawser: &'a Hawser,
    server: Registered,
    name: String,
    receipt: String,
    login: String,
}

impl<'a> Scene<'a> {
    /// What an endpoint is asked about.
    async fn new(hawser: &'a Hawser, name: String, endpoint: &str) -> Self {
        let admin = hawser.admin("acme");
        let mut login = String::new();
        if endpoint == "hawser-end-login" {
            // The newest is first.
            let ada = logins::sign_in(hawser, "user:ada").await.caller(hawser);
            let all = logins::listed(&ada).await;
            login = all[0]["id"].as_str().unwrap().to_owned();
        }
        // Whether a call is let through shows where it then needs nothing more: nobody is there to answer it.
        if endpoint == "hawser-invoke" {
            let server = admin.register(&name, Value::Null, &[]).await;
            return Self {
                hawser,
                server,
                name,
                receipt: String::new(),
                login,
            };
        }
        let server = admin.register(&name, per_user(), &["ada", "bob"]).await;
        let body =
            json!({"authSource": "auth-override", "subjectId": "bob", "subjectType": "user"});
        let path = format!("/api/svc/v1/mcp/{}/auth", server.mcp);
        let ended = admin.delete_with(&path, body).await;
        let receipt = ended.json()["data"]["receiptId"]
            .as_str()
            .unwrap()
            .to_owned();
        Self {
            hawser,
            server,
            name,
            receipt,
            login,
        }
    }

    async fn caller(&self, kind: usize) -> Caller {
        let hawser = self.hawser;
        let user = |more: Value| hawser.caller("acme", "eve", more);
        let bound = |number: u64| {
            json!({"scope": "mgmt.read mgmt.write mgmt.admin mcp.read mcp.write mcp.tools.execute",
                   "mcp_server_id": number, "roles": ["admin"]})
        };
        let permissions = ["create", "read", "update", "delete", "invoke"];
        let permissions = permissions.map(|one| format!("mcp-servers:{one}"));
        match kind {
            0 => hawser.anonymous(),
            1 => hawser.with(vec![("authorization", "Bearer a.b.c".to_owned())]),
            2 => hawser.claims(
                json!({"tenantName": "acme", "sub": "root", "exp": now() - 600,
                                      "roles": ["admin"], "permissions": permissions}),
            ),
            3 => {
                let other = hawser.api_key("acme", None, json!({})).await.headers[0]
                    .1
                    .clone();
                let made_up: String = other.chars().rev().collect();
                hawser.with(vec![("x-api-key", made_up)])
            }
            4 => hawser.admin("globex"),
            5 => user(json!({})),
            6 => user(json!({"roles": ["mcp-server-manager"]})),
            7 => user(json!({"roles": ["admin"]})),
            8..=12 => user(json!({"permissions": [permissions[kind - 8]]})),
            13 => user(json!({"scope": "mgmt.read"})),
            14 => user(json!({"scope": "mgmt.write"})),
            15 => user(json!({"scope": "mgmt.admin"})),
            16 => hawser.api_key("acme", Some("user:eve"), json!({})).await,
            17 => {
                let all = json!({"permissions": permissions});
                hawser.api_key("acme", None, all).await
            }
            18 => hawser.caller("acme", "root", bound(self.server.number)),
            19 => hawser.caller("acme", "root", bound(self.server.number + 1000)),
            _ => panic!("no such kind"),
        }
    }

    /// A route of an endpoint with this server's names in it.
    fn path(&self, route: &str) -> String {
        let values = [
            ("{mcpServerId}", self.server.mcp.clone()),
            ("{mcp_server_id}", self.server.uuid.clone()),
            ("{server_id}", self.server.number.to_string()),
            ("{server}", self.server.mcp.clone()),
            ("{name}", self.name.clone()),
            ("{receiptId}", self.receipt.clone()),
            (
                "{session_id}",
                format!(
                    "{}0000000000000000{}",
                    self.server.ulid(),
                    self.server.ulid()
                ),
            ),
            ("{provider}", "mail".to_owned()),
            ("{integration}", "mail".to_owned()),
            ("{loginId}", self.login.clone()),
            ("{subjectType}", "user".to_owned()),
            ("{subjectId}", "ada".to_owned()),
        ];
        let path = values
            .into_iter()
            .fold(route.to_owned(), |path, (name, value)| {
                path.replace(name, &value)
            });
        assert!(!path.contains('{'), "{path}: say what this stands for");
        path
    }

    /// What an endpoint is sent so that only the caller can be wrong: query and body.
    fn request(&self, endpoint: &str) -> (&'static str, String) {
        let ada = json!({"subjectId": "ada", "subjectType": "user"});
        let mut own = ada.clone();
        own["authOverride"] = json!({"type": "header", "headerValue": "v"});
        let mut end = ada;
        end["authSource"] = "auth-override".into();
        let manifest = json!({"type": "mcp-server/remote", "name": format!("{}-new", self.name),
                              "description": "d", "url": "https://x.example/mcp"});
        let (query, body) = match endpoint {
            "truefoundry-put-server" | "truefoundry-apply-manifest" => {
                ("", json!({"manifest": manifest}))
            }
            "truefoundry-delete-manifest" => (
                "",
                json!({"manifest": {"type": "mcp-server/remote", "name": self.name}}),
            ),
            "truefoundry-get-tenant" => ("?hostName=hawser.example", Value::Null),
            "truefoundry-put-override" => ("", own),
            "truefoundry-disconnect-subject" => ("", end),
            "truefoundry-get-auth-status" => ("?subjectId=ada&subjectType=user", Value::Null),
            "langsmith-create-server" => (
                "",
                json!({"name": format!("{}-new", self.name), "url": "https://x.example/"}),
            ),
            "langsmith-create-tool-server" => (
                "",
                json!({"name": format!("{}-new", self.name), "upstream_url": "https://x.example/"}),
            ),
            "langsmith-resolve-principal" => ("", json!({"provider": "oidc", "subject": "ada"})),
            "langsmith-start-authorization" => (
                "",
                json!({"connection_id": self.server.uuid, "owner_type": "user", "owner_id": "eve"}),
            ),
            "langsmith-call-tool-server" => (
                "",
                json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}),
            ),
            "langsmith-update-server" => ("", json!({"name": format!("{}-more", self.name)})),
            "langsmith-register-provider" => ("", json!({})),
            "langsmith-create-auth-session" => (
                "",
                json!({"provider_id": "019bc0fd-8a38-7a17-83e9-4b02d86f31ae", "scopes": [],
                       "strategy": "CREATE"}),
            ),
            "langsmith-list-tools" => ("?url=https://unknown.example/", Value::Null),
            "kambrium-create-connection" => (
                "",
                json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k"}),
            ),
            "kambrium-update-connection" => ("", json!({"agent_enabled": false})),
            "hawser-offboard-subject" => ("", json!({"subjectType": "user", "subjectId": "ada"})),
            "hawser-invoke" => (
                "",
                json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}),
            ),
            _ => ("", Value::Null),
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        (query, body)
    }
}

/// All but the audit log and what a test made for its callers.
async fn contents(hawser: &Hawser) -> Vec<Value> {
    let mut items = hawser.ground().items().await;
    items.retain(|item| !of_trail(item) && item["entity"] != "api-key");
    items
}

/// What every kind of caller is answered at a route.
async fn ask(hawser: &Hawser, endpoint: &str, method: &str, route: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (kind, name) in KINDS.iter().enumerate() {
        let scene = Scene::new(hawser, format!("server-{kind}"), endpoint).await;
        let caller = scene.caller(kind).await;
        let (query, body) = scene.request(endpoint);
        let path = format!("{}{query}", scene.path(route));
        let before = contents(hawser).await;
        let answer = caller.send(method, &path, &[], body.into()).await;
        let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        // A call that finds no server is told in the body of a 200, and there is no server that would answer one with a 200.
        if endpoint == "hawser-invoke" && answer.status == 200 {
            let error =
                json!({"code": -32001, "message": "MCP server not found or not accessible"});
            assert_eq!(said["error"], error, "{name} at {path}: {answer:?}");
        }
        if answer.status >= 400 || said["error"]["code"].is_i64() {
            let same = contents(hawser).await == before;
            assert!(
                same,
                "{name} changed something by {method} {path}: {answer:?}"
            );
        }
        statuses.push(answer.status);
    }
    statuses
}

async fn hold(contract: &str) {
    let rows: BTreeMap<_, _> = ROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for endpoint in ENDPOINTS
        .iter()
        .filter(|one| one.name.starts_with(contract))
    {
        let nowhere = [("GET", "/nowhere")];
        let routes = if endpoint.routes.is_empty() {
            &nowhere
        } else {
            endpoint.routes
        };
        for (method, route) in routes {
            let hawser = Hawser::with_built_in_integrations().await;
            let answered = ask(&hawser, endpoint.name, method, route).await;
            let row = match *route {
                "/mcp" => Some(&AT_NO_SERVER),
                route if route.contains("{integration}") => Some(&AT_AN_INTEGRATION),
                _ => rows.get(endpoint.name),
            };
            if row.map(|row| row.to_vec()) != Some(answered.clone()) {
                wrong.push(format!(
                    "(\"{}\", {answered:?}), // {method} {route}",
                    endpoint.name
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "not as the rows say:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_endpoint_has_a_row_and_every_row_an_endpoint() {
    let mut rows: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
    let mut endpoints: Vec<_> = ENDPOINTS.iter().map(|endpoint| endpoint.name).collect();
    rows.sort_unstable();
    endpoints.sort_unstable();
    assert_eq!(rows, endpoints);
}

#[tokio::test]
async fn truefoundry_answers_each_kind_of_caller_as_its_row_says() {
    hold("truefoundry-").await;
}

#[tokio::test]
async fn langsmith_answers_each_kind_of_caller_as_its_row_says() {
    hold("langsmith-").await;
}

#[tokio::test]
async fn kambrium_answers_each_kind_of_caller_as_its_row_says() {
    hold("kambrium-").await;
}

#[tokio::test]
async fn what_is_of_no_contract_answers_each_kind_of_caller_as_its_row_says() {
    hold("hawser-").await;
}
