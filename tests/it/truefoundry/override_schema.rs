//! What an override of a server has to supply.

use super::{
    MCP, UNKNOWN, client_credentials, global, is, oauth, per_user, register, unknown_server,
};
use crate::harness::Hawser;
use serde_json::{Value, json};

#[tokio::test]
async fn the_form_is_what_an_override_is_accepted_by() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let member = hawser.caller("acme", "ada", json!({}));
    let two = json!({"type": "header", "auth_level": "per_user",
                     "headers": {"X-B": "{{B_KEY}}", "X-A": "k {{A_KEY}}", "X-C": "{{B_KEY}}"}});
    let parameter = |name: &str| json!({"name": name, "required": true});
    for (name, auth, types, parameters) in [
        ("none", Value::Null, json!([]), json!([])),
        (
            "passthrough",
            json!({"type": "passthrough"}),
            json!([]),
            json!([]),
        ),
        ("global", global(), json!(["header"]), json!([])),
        (
            "per-user",
            per_user(),
            json!(["header", "key_value"]),
            json!([parameter("API_KEY")]),
        ),
        (
            "two",
            two,
            json!(["key_value"]),
            json!([parameter("A_KEY"), parameter("B_KEY")]),
        ),
        ("oauth", oauth(), json!(["header"]), json!([])),
        (
            "own-client",
            client_credentials(),
            json!(["header"]),
            json!([]),
        ),
    ] {
        let id = register(&admin, name, auth).await;
        let path = format!("{MCP}/{id}/auth-override/uischema");
        let expected = json!({"data": {"overrideTypes": types, "parameters": parameters}});
        is(&member.get(&path).await, (200, expected));
        is(&hawser.admin("beta").get(&path).await, unknown_server());
    }
    for id in [UNKNOWN, "wiki"] {
        let path = format!("{MCP}/{id}/auth-override/uischema");
        is(&member.get(&path).await, unknown_server());
    }
}
