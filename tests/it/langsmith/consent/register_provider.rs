//! Registering a provider.

use super::{
    SESSIONS, begun, no_provider, not_enabled, provider, provider_path, register, shown_provider,
    state, user,
};
use crate::harness::{Browser, Hawser};
use crate::issuer::{FOREIGN, Fault, Issuer};
use crate::langsmith::{SERVERS, UNKNOWN, at, error, invalid_body, invalid_path, is, not_found};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn undiscovered(why: &str) -> Value {
    let detail = format!("Check the OAuth support of the MCP server: {why}");
    error(400, "oauth_discovery_failed", &detail)
}

fn away() -> Value {
    let detail = "Try again later: the MCP server or its authorization server did not answer";
    error(503, "upstream_unavailable", detail)
}

#[tokio::test]
async fn parallel_registrations_give_one_provider_and_a_repeat_asks_nobody() {
    let hawser = Hawser::start().await;
    let issuer = Issuer::start().await;
    let ada = user(&hawser, "ada");
    let server = register(&ada, &issuer.mcp_url()).await;
    let calls = (0..8).map(|_| {
        let (ada, server) = (ada.clone(), server.clone());
        tokio::spawn(async move { provider(&ada, &server).await })
    });
    let mut ids = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        ids.insert(call.await.unwrap());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    issuer.clear_log();
    issuer.fault(Fault::answering("", 503));
    assert_eq!(provider(&ada, &server).await, *ids.first().unwrap());
    // Without a body it is the same.
    let empty = ada
        .send("POST", &provider_path(&server), &[], Vec::new())
        .await;
    is(&empty, json!({"oauth_provider_id": ids.first()}));
    assert_eq!(issuer.log().len(), 0);

    // Nothing is left behind.
    issuer.clear_faults();
    assert_eq!(ada.delete(&at(&server)).await.status, 204);
    hawser.run_workers().await;
    assert_eq!(issuer.clients(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_whose_protection_is_unusable_gets_no_provider() {
    let all = |status: u16| Fault::answering("", status);
    let refused = Fault {
        status: Some(400),
        body: json!({"error": "invalid_client_metadata", "error_description": FOREIGN}).to_string(),
        ..Fault::always("/register")
    };
    let dropped = Fault {
        drop: true,
        ..Fault::always("")
    };
    type Break = Box<dyn Fn(&Issuer)>;
    let fault = |fault: Fault| -> Break { Box::new(move |issuer| issuer.fault(fault.clone())) };
    let cases: [(Break, Value); 6] = [
        (
            fault(all(404)),
            undiscovered("no authorization server was found"),
        ),
        (
            Box::new(|issuer| issuer.configure(|s| s.s256 = false)),
            undiscovered("its metadata is not usable"),
        ),
        (fault(all(503)), away()),
        (fault(dropped), away()),
        (
            fault(refused),
            undiscovered("it refused the client registration"),
        ),
        (
            Box::new(|issuer| issuer.configure(|s| s.dynamic_registration = false)),
            undiscovered("it refused the client registration"),
        ),
    ];
    let hawser = Hawser::start().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    for (spoil, expected) in cases {
        let issuer = Issuer::start().await;
        let server = register(&ada, &issuer.mcp_url()).await;
        let bobs = provider(&bob, &server).await;
        spoil(&issuer);
        let answer = ada.post(&provider_path(&server), json!({})).await;
        assert!(!answer.text.contains(FOREIGN), "{answer:?}");
        is(&answer, expected.clone());
        assert_eq!(shown_provider(&ada, &server).await, Value::Null);
        // A provider that is there already needs no registration, but the rest, which its session's page finds out.
        let session = json!({"provider_id": bobs, "scopes": [], "strategy": "REUSE"});
        let (id, url) = begun(&bob.post(SESSIONS, session).await);
        let page = Browser::new().start(&url).await;
        assert!(!page.text.contains(FOREIGN), "{page:?}");
        let (status, state_after) = if expected["detail"].to_string().contains("registration") {
            (303, "PENDING")
        } else if expected["status"] == 503 {
            (503, "CONNECTION_REQUIRED")
        } else {
            (502, "CONNECTION_REQUIRED")
        };
        assert_eq!(page.status, status, "{page:?}");
        assert_eq!(state(&bob, &id).await, state_after);
        assert_eq!(ada.delete(&at(&server)).await.status, 204);
    }
}

#[tokio::test]
async fn only_servers_of_per_user_oauth_take_providers() {
    let hawser = Hawser::start().await;
    let ada = user(&hawser, "ada");
    for (name, more) in [
        ("plain", json!({})),
        ("headers", json!({"auth_type": "headers"})),
        (
            "legacy",
            json!({"auth_type": "oauth", "oauth_provider_id": UNKNOWN}),
        ),
    ] {
        let mut server = json!({"name": name, "url": "https://mcp.example.com/"});
        server
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = ada.post(SERVERS, server).await.json();
        let path = provider_path(made["id"].as_str().unwrap());
        is(&ada.post(&path, json!({})).await, not_enabled());
    }
    // The id of a legacy provider is nobody's.
    let body = json!({"provider_id": UNKNOWN, "scopes": [], "strategy": "REUSE"});
    is(&ada.post(SESSIONS, body).await, no_provider());
}

#[tokio::test]
async fn what_is_wrong_in_a_registration_is_said() {
    let hawser = Hawser::start().await;
    let ada = user(&hawser, "ada");
    let unknown = provider_path(UNKNOWN);
    for body in ["{", "[]", "null", "7", "\"a\"", "{\"ls_user_id\": 7}"] {
        let answer = ada.send("POST", &unknown, &[], body.into()).await;
        is(&answer, invalid_body());
        let answer = ada
            .send("POST", &provider_path("7"), &[], body.into())
            .await;
        is(&answer, invalid_path());
    }
    for body in ["", "{}", "{\"ls_user_id\": null}", "{\"else\": 7}"] {
        let answer = ada.send("POST", &unknown, &[], body.into()).await;
        is(&answer, not_found());
    }
}
