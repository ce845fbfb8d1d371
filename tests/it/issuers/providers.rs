//! Providers that revoke in their own way.

use super::{MCP, RESOURCE, ROOT, SECRET, Scene, assert_revoked, parameters};
use crate::harness::{Browser, Hawser};
use crate::issuer::{Fault, Issuer};
use serde_json::json;

/// A provider's way, where its stand-in has it, and whether there are refresh tokens.
fn ways() -> [(&'static str, &'static str, bool); 3] {
    [
        ("github", "/applications", false),
        ("hubspot", "/oauth/v1/refresh-tokens", true),
        ("slack", "/api/auth.revoke", false),
    ]
}

#[tokio::test]
async fn providers_without_a_standard_endpoint_revoke_in_their_own_way() {
    for (method, path, refresh) in ways() {
        let scene = Scene::set().await;
        scene.publish(ROOT, None);
        scene.protected_by(&[]);
        scene
            .issuer
            .configure(|settings| settings.refresh_tokens = refresh);
        let auth = scene.configured(
            json!({"revocation": {"method": method}, "revocation_url": scene.at(path)}),
        );
        let id = scene.register(auth).await;
        let pair = scene.connect(&id).await;
        let receipt = scene.disconnect(&id).await;
        assert_revoked(&receipt);
        let presented = receipt["presented"].as_array().unwrap();
        if method == "hubspot" {
            // Documented: what the refresh token has fetched goes on until it ends, and the receipt says so.
            assert_eq!(scene.issuer.live_tokens(), [pair.access]);
            assert_eq!(presented[0]["outcome"], "revoked", "{receipt}");
            assert_eq!(presented[1]["outcome"], "unsupported", "{receipt}");
            assert_eq!(presented[1]["reason"], "tokenKind", "{receipt}");
        } else {
            scene.assert_dead();
            assert_eq!(presented.len(), 1, "{receipt}");
        }
        assert_eq!(scene.issuer.count("POST", "/revoke"), 0);
        assert!(
            !receipt.to_string().contains("rt-") && !receipt.to_string().contains("at-"),
            "{receipt}"
        );
    }
}

#[tokio::test]
async fn a_provider_that_does_not_confirm_has_not_revoked() {
    let ok = |body: &str| (200, body.to_owned());
    for (method, path, answer, outcome) in [
        ("github", "/applications/operator/token", ok(""), "failed"),
        (
            "github",
            "/applications/operator/token",
            (404, "<html>".to_owned()),
            "failed",
        ),
        (
            "github",
            "/applications/operator/token",
            (422, "{}".to_owned()),
            "failed",
        ),
        (
            "slack",
            "/api/auth.revoke",
            ok(r#"{"ok":true,"revoked":false}"#),
            "failed",
        ),
        (
            "slack",
            "/api/auth.revoke",
            ok(r#"{"ok":false,"error":"invalid_auth"}"#),
            "failed",
        ),
        ("slack", "/api/auth.revoke", ok("<html>"), "failed"),
        ("rfc7009", "/revoke", ok(r#"{"error":"unknown"}"#), "failed"),
        ("rfc7009", "/revoke", ok(r#"{"ok":false}"#), "failed"),
        (
            "rfc7009",
            "/revoke",
            ok(r#"{"error":{"code":500}}"#),
            "failed",
        ),
        (
            "rfc7009",
            "/revoke",
            ok(r#"{"error":"unsupported_token_type"}"#),
            "unsupported",
        ),
    ] {
        let scene = Scene::set().await;
        scene
            .issuer
            .configure(|settings| settings.refresh_tokens = false);
        scene.issuer.fault(Fault {
            status: Some(answer.0),
            body: answer.1.clone(),
            ..Fault::always(path)
        });
        let base = path.strip_suffix("/operator/token").unwrap_or(path);
        let auth = scene.configured(
            json!({"revocation": {"method": method}, "revocation_url": scene.at(base)}),
        );
        let id = scene.register(auth).await;
        scene.connect(&id).await;
        let receipt = scene.disconnect(&id).await;
        let expected = json!({outcome: 1});
        assert_eq!(
            receipt["outcomes"], expected,
            "{method} {answer:?}: {receipt}"
        );
        assert!(!receipt.to_string().contains("\"revoked\""), "{receipt}");
        assert_eq!(scene.issuer.live_tokens().len(), 1);
    }
}

#[tokio::test]
async fn a_refresh_token_that_a_provider_cannot_revoke_is_no_success() {
    for (method, path) in [("github", "/applications"), ("slack", "/api/auth.revoke")] {
        let scene = Scene::set().await;
        let auth = scene.configured(
            json!({"revocation": {"method": method}, "revocation_url": scene.at(path)}),
        );
        let id = scene.register(auth).await;
        let pair = scene.connect(&id).await;
        let receipt = scene.disconnect(&id).await;
        assert_eq!(receipt["outcomes"], json!({"unsupported": 1}), "{receipt}");
        assert_eq!(receipt["presented"][0]["reason"], "tokenKind");
        assert_eq!(receipt["presented"][1]["outcome"], "revoked");
        assert_eq!(scene.issuer.live_tokens(), [pair.refresh.unwrap()]);
    }
}

#[tokio::test]
async fn a_catalogue_names_the_way_also_for_grants_that_are_older() {
    for (method, path, refresh) in ways() {
        let issuer = Issuer::start().await;
        let oauth = json!({
            "client_id": "operator", "client_secret": SECRET,
            "authorization_endpoint": format!("{}/authorize", issuer.url),
            "token_endpoint": format!("{}/token", issuer.url),
            "revocation_endpoint": format!("{}{path}", issuer.url), "revocation": {"method": method},
            "include_resource": true,
        });
        let mail = json!({"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": oauth});
        let hawser = Hawser::with_integrations(&json!({"mail": mail})).await;
        let scene = Scene::of(hawser, issuer);
        scene
            .issuer
            .configure(|settings| settings.refresh_tokens = refresh);
        scene.publish(ROOT, None);
        scene.publish(RESOURCE, None);
        let ada = scene.hawser.caller(
            "acme",
            "ada",
            json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"]}),
        );
        let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
        let made = ada.post("/api/v1/mcp-servers", body).await;
        let url = made.json()["data"]["authorization_url"].clone();
        let mut browser = Browser::new();
        let at_issuer = browser.begin(url.as_str().unwrap()).await;
        let asked = parameters(&at_issuer);
        assert_eq!(asked["resource"], scene.issuer.mcp_url());
        let back = scene.issuer.approve(&at_issuer).await;
        assert_eq!(browser.open(&back).await.status, 200);
        // As a grant is that was given before the catalogue said anything.
        let servers = ada.get(MCP).await.json();
        let id = servers["data"][0]["id"].as_str().unwrap().to_owned();
        let receipt = scene.disconnect(&id).await;
        assert_revoked(&receipt);
        let left = usize::from(method == "hubspot");
        assert_eq!(scene.issuer.live_tokens().len(), left, "{method}");
    }
}
