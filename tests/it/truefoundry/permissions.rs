//! Who may call, and what.

use super::{
    MCP, UNKNOWN, disconnect, install, is, manifest, not_manager, per_user, refused, register,
    status, unknown_server,
};
use crate::harness::{Answer, Caller, Hawser, now};
use serde_json::{Value, json};

fn denied(permission: &str) -> (u16, Value) {
    refused(
        403,
        "PERMISSION_DENIED",
        &format!("This call needs the permission {permission}."),
    )
}

#[tokio::test]
async fn who_may_do_what_is_the_matrix_of_roles() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let collaborators = json!([
        {"subject": "user:mia@acme.example", "role_id": "mcp-server-manager"},
        {"subject": "team:docs", "role_id": "mcp-server-user"},
        {"subject": "team:everyone", "role_id": "mcp-server-viewer"},
        {"subject": "serviceaccount:robot", "role_id": "mcp-server-manager"},
    ]);
    let tenant_role = |role: &str| hawser.caller("acme", role, json!({"roles": [role]}));
    let robot = hawser.caller(
        "acme",
        "r-1",
        json!({"subjectType": "serviceaccount", "username": "robot"}),
    );
    let account = hawser.caller("acme", "a-1", json!({"subjectType": "virtualaccount"}));
    // create, read, manage others, delete
    let cases: Vec<(&str, Caller, [bool; 4])> = vec![
        ("admin", admin.clone(), [true, true, true, true]),
        (
            "manager",
            tenant_role("mcp-server-manager"),
            [true, true, true, true],
        ),
        (
            "user",
            tenant_role("mcp-server-user"),
            [false, true, false, false],
        ),
        (
            "viewer",
            tenant_role("mcp-server-viewer"),
            [false, true, false, false],
        ),
        ("member", tenant_role("member"), [false, true, false, false]),
        (
            "collaborating manager",
            hawser.caller("acme", "mia", json!({"email": "Mia@Acme.Example"})),
            [false, true, true, true],
        ),
        ("collaborating account", robot, [false, true, true, true]),
        (
            "collaborating team",
            hawser.caller("acme", "d", json!({"teams": ["docs"]})),
            [false, true, false, false],
        ),
        (
            "an account is not everyone",
            account,
            [false, false, false, false],
        ),
        (
            "API key of an admin",
            hawser
                .api_key("acme", Some("user:key"), json!({"roles": ["admin"]}))
                .await,
            [true, true, true, true],
        ),
        (
            "API key without roles",
            hawser.api_key("acme", None, json!({})).await,
            [false, false, false, false],
        ),
    ];
    for (who, caller, [create, read, manage, delete]) in cases {
        let mut body = json!({"manifest": manifest("shared", per_user())});
        body["manifest"]["collaborators"] = collaborators.clone();
        let id = admin.put(MCP, body).await.json()["data"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        install(&admin, &id, "zoe", "k").await;
        let check = |what: &str, answer: Answer, allowed: bool, refusal: (u16, Value)| {
            if allowed {
                assert_eq!(answer.status, 200, "{who}: {what}: {answer:?}")
            } else {
                is(&answer, refusal)
            }
        };
        let new = caller
            .put(
                MCP,
                json!({"manifest": manifest("brand-new", Value::Null), "dryRun": true}),
            )
            .await;
        check("create", new, create, denied("CREATE_MCP_SERVER"));
        check(
            "read",
            caller.get(&format!("{MCP}/{id}")).await,
            read,
            denied("READ_MCP_SERVER"),
        );
        check(
            "status of another",
            status(&caller, &id, "zoe").await,
            manage,
            not_manager(),
        );
        check(
            "override of another",
            install(&caller, &id, "zoe", "k").await,
            manage,
            not_manager(),
        );
        check(
            "disconnect of another",
            disconnect(&caller, &id, "zoe", "auth-override").await,
            manage,
            not_manager(),
        );
        let dry = json!({"manifest": manifest("shared", per_user()), "dryRun": true});
        check(
            "update",
            caller.put(MCP, dry).await,
            manage,
            denied("MANAGE_MCP_SERVER"),
        );
        check(
            "delete",
            caller.delete(&format!("{MCP}/{id}")).await,
            delete,
            denied("DELETE_MCP_SERVER"),
        );
        admin.delete(&format!("{MCP}/{id}")).await;
    }
}

#[tokio::test]
async fn everyone_acts_for_oneself_and_nobody_for_another_tenant() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    let ada = hawser.caller("acme", "ada", json!({}));
    assert_eq!(install(&ada, &id, "ada", "k").await.status, 200);
    status(&ada, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
    is(&status(&ada, &id, "Ada").await, not_manager());
    let account =
        json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "virtualaccount"});
    is(
        &ada.delete_with(&format!("{MCP}/{id}/auth"), account).await,
        not_manager(),
    );
    let stranger = hawser.admin("other");
    for answer in [
        stranger.get(&format!("{MCP}/{id}")).await,
        stranger.delete(&format!("{MCP}/{id}")).await,
        status(&stranger, &id, "ada").await,
        install(&stranger, &id, "ada", "k").await,
        disconnect(&stranger, &id, "ada", "auth-override").await,
    ] {
        is(&answer, unknown_server());
    }
    let twin = hawser.caller("other", "ada", json!({}));
    is(
        &disconnect(&twin, &id, "ada", "auth-override").await,
        unknown_server(),
    );
    assert_eq!(
        disconnect(&ada, &id, "ada", "auth-override").await.status,
        200
    );
}

#[tokio::test]
async fn bad_credentials_are_401_before_anything_else() {
    let hawser = Hawser::start().await;
    let key = hawser
        .api_key("acme", None, json!({"roles": ["admin"]}))
        .await;
    let key = key.headers[0].1.clone();
    let end = now() + 600;
    let token = |claims: Value| hawser.claims(claims);
    let bearer = |text: &str| hawser.with(vec![("authorization", text.to_owned())]);
    let callers = vec![
        ("nothing", hawser.anonymous()),
        ("another scheme", bearer("Basic YTpi")),
        ("no token", bearer("Bearer ")),
        ("rubbish", bearer("Bearer abc.def.ghi")),
        (
            "rubbish beside a good key",
            hawser.with(vec![
                ("authorization", "Bearer x".to_owned()),
                ("x-api-key", key.clone()),
            ]),
        ),
        (
            "expired",
            token(json!({"tenantName": "acme", "sub": "a", "exp": now() - 120})),
        ),
        ("no end", token(json!({"tenantName": "acme", "sub": "a"}))),
        (
            "not yet",
            token(json!({"tenantName": "acme", "sub": "a", "exp": end, "nbf": now() + 300})),
        ),
        ("no tenant", token(json!({"sub": "a", "exp": end}))),
        (
            "empty tenant",
            token(json!({"tenantName": "", "sub": "a", "exp": end})),
        ),
        (
            "no subject",
            token(json!({"tenantName": "acme", "exp": end})),
        ),
        (
            "subject type",
            token(json!({"tenantName": "acme", "sub": "a", "exp": end, "subjectType": "team"})),
        ),
        (
            "issuer",
            token(json!({"tenantName": "acme", "sub": "a", "exp": end, "iss": "other"})),
        ),
        (
            "audience",
            token(json!({"tenantName": "acme", "sub": "a", "exp": end, "aud": "other"})),
        ),
        (
            "no key",
            hawser.with(vec![("x-api-key", "hwk_x".to_owned())]),
        ),
        (
            "wrong secret",
            hawser.with(vec![(
                "x-api-key",
                format!("{}aaaa", &key[..key.len() - 4]),
            )]),
        ),
        (
            "other tenant's key",
            hawser.with(vec![(
                "x-api-key",
                key.replacen("hwk_mfrw2zi", "hwk_nf2gq2lt", 1),
            )]),
        ),
    ];
    for (why, caller) in callers {
        for answer in [
            caller.get(MCP).await,
            caller.send("PUT", MCP, &[], vec![b'x'; 300_000]).await,
            caller.delete(&format!("{MCP}/{UNKNOWN}")).await,
            caller.delete(&format!("{MCP}/{UNKNOWN}/auth")).await,
            caller.get(&format!("{MCP}/{UNKNOWN}/auth/status")).await,
        ] {
            assert_eq!(
                answer.header("www-authenticate").as_deref(),
                Some("Bearer"),
                "{why}"
            );
            is(
                &answer,
                refused(401, "UNAUTHORIZED", "Valid credentials are required."),
            );
        }
    }
    assert_eq!(
        hawser.with(vec![("x-api-key", key)]).get(MCP).await.status,
        200
    );
}

#[tokio::test]
async fn tokens_bound_to_one_connection_are_none_of_this_contract() {
    let hawser = Hawser::start().await;
    let bound = hawser.caller(
        "acme",
        "ada",
        json!({"roles": ["admin"], "mcp_server_id": 1}),
    );
    assert_eq!(bound.get(MCP).await.status, 401);
    assert_eq!(bound.get("/v1/deepagents/mcp-servers").await.status, 401);
}
