//! An API key sent as a bearer token (Inbound 1.4).

use crate::harness::{Caller, Hawser, per_user};
use hawser_functions::ENDPOINTS;
use serde_json::json;

/// The same key as a bearer token.
fn as_bearer(hawser: &Hawser, key: &Caller) -> Caller {
    let bearer = format!("Bearer {}", key.headers[0].1);
    hawser.with(vec![("authorization", bearer)])
}

#[tokio::test]
async fn a_key_opens_as_a_bearer_token_what_it_opens_in_its_own_header() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &["ada"]).await;
    let grants = json!({"roles": ["admin"], "permissions": ["mcp-servers:read", "mcp-servers:invoke"],
                        "scopes": ["mgmt.read", "mgmt.write"]});
    let key = hawser.api_key("acme", Some("user:ada"), grants).await;
    let bearer = as_bearer(&hawser, &key);
    // Applications authenticate there, and no callers.
    let of_applications = ["hawser-issue-token", "hawser-revoke-token"];
    for endpoint in ENDPOINTS {
        if of_applications.contains(&endpoint.name) {
            continue;
        }
        for (method, path) in endpoint.routes {
            let own = key.send(method, path, &[], Vec::new()).await;
            let sent = bearer.send(method, path, &[], Vec::new()).await;
            assert_eq!(own.status, sent.status, "{method} {path}: {sent:?}");
            let is_for_clients = endpoint.name == "kambrium-issue-token";
            assert_eq!(
                sent.status == 401,
                is_for_clients,
                "{method} {path}: {sent:?}"
            );
        }
    }
    for path in [
        "/api/svc/v1/mcp",
        "/v1/deepagents/mcp-servers",
        "/api/v1/mcp-servers",
        "/v1/audit",
    ] {
        assert_eq!(bearer.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_key_that_is_no_good_is_refused_in_either_header() {
    let hawser = Hawser::start().await;
    let grants = json!({"roles": ["admin"], "expires_in": 60});
    let key = hawser.api_key("acme", Some("user:ada"), grants).await;
    let text = &key.headers[0].1;
    for wrong in [
        "hwk_".to_owned(),
        "hwk_x".to_owned(),
        format!("{}aaaa", &text[..text.len() - 4]),
        text.replacen("hwk_mfrw2zi", "hwk_nf2gq2lt", 1),
    ] {
        let own = hawser.with(vec![("x-api-key", wrong)]);
        let bearer = as_bearer(&hawser, &own);
        for path in [
            "/api/svc/v1/mcp",
            "/v1/deepagents/mcp-servers",
            "/api/v1/mcp-servers",
            "/v1/audit",
            "/mcp/1",
        ] {
            let (own, sent) = (own.get(path).await, bearer.get(path).await);
            assert!(matches!(sent.status, 401 | 403), "{path}: {sent:?}");
            assert_eq!((own.status, own.text), (sent.status, sent.text), "{path}");
        }
    }
}
