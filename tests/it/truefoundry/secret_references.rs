//! `tfy-secret://` in the place of a secret: read from the operator's store, for the caller's own tenant.

use super::apply_manifest::APPLY;
use super::{MCP, is, is_invalid, manifest, per_user, refused, register};
use crate::harness::{Answer, Caller, Ground, Hawser};
use crate::integrations::Stores;
use hawser_core::domain::id::{ServerId, TenantId};
use hawser_core::domain::secret_mapping::SecretMapping;
use hawser_core::domain::server::Place;
use hawser_core::operations::servers::open;
use hawser_core::table::servers;
use serde_json::{Value, json};

const SECRET: &str = "from-the-store-s3cret";

async fn mapped(mapping: &str) -> (Hawser, Stores) {
    let stores = Stores::start().await;
    let (reached, mapping) = (stores.reached(), SecretMapping::parse(mapping).unwrap());
    let ground = Ground::new().await;
    let hawser = Hawser::by_hand_changed(ground, |app| {
        app.secret_stores = reached;
        app.secret_mapping = Some(mapping);
    })
    .await;
    (hawser, stores)
}

async fn with_parameters() -> (Hawser, Stores) {
    let both = mapped("ssm:/hawser/{tenant}/{group}/{name}").await;
    both.1.answers(200, json!({"Parameter": {"Value": SECRET}}));
    both
}

fn header(value: &str) -> Value {
    json!({"type": "header", "headers": {"Authorization": value}})
}

fn asked(names: &[&str]) -> Vec<(String, Value)> {
    let one = |name: &&str| {
        let body = json!({"Name": name, "WithDecryption": true});
        ("amazonssm.getparameter".to_owned(), body)
    };
    names.iter().map(one).collect()
}

async fn put(caller: &Caller, name: &str, auth: Value) -> Answer {
    caller
        .put(MCP, json!({"manifest": manifest(name, auth)}))
        .await
}

#[track_caller]
fn is_unresolved(answer: &Answer, path: &str, why: &str) {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["code"]),
        (422, &json!("UNSUPPORTED")),
        "{body}"
    );
    let message = format!("A secret reference is not followed: {path} {why}.");
    assert_eq!(
        body["message"], message,
        "the command line shows no more than this"
    );
    assert_eq!(body["details"][0], json!({"path": path, "message": why}));
}

/// The secrets of a server as calls have them, one a line.
async fn stored(hawser: &Hawser, caller: &Caller, name: &str) -> String {
    let listed = caller.get(&format!("{MCP}?name={name}")).await.json();
    let id = ServerId::parse_prefixed(listed["data"][0]["id"].as_str().unwrap()).unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let read = hawser.app.table.read(vec![servers::key(&tenant, id)]).await;
    let server = read.unwrap().server(&tenant, id).unwrap().unwrap();
    let secrets = open(&hawser.app, &tenant, &server).await.unwrap();
    let places = [
        Place::Header("Authorization"),
        Place::AdditionalHeader("X-A"),
        Place::ClientSecret,
        Place::TokenParam("audience"),
    ];
    let values = places.into_iter().filter_map(|place| secrets.get(place));
    values.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_reference_is_read_when_the_manifest_is_applied_and_never_shown() {
    let (hawser, stores) = with_parameters().await;
    let admin = hawser.admin("acme");
    let made = put(&admin, "wiki", header("Bearer tfy-secret://acme:mail/KEY")).await;
    is_unresolved(
        &made,
        "manifest.auth_data.headers.Authorization",
        "must be tfy-secret://TENANT:GROUP:NAME",
    );
    let wiki = manifest("wiki", header("Bearer tfy-secret://acme:mail:KEY"));
    let body = json!({"manifest": wiki, "dryRun": false, "force": false});
    let made = admin.put(APPLY, body.clone()).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(stores.asked(), asked(&["/hawser/acme/mail/KEY"]));
    assert!(!made.text.contains(SECRET), "{made:?}");
    let held = stored(&hawser, &admin, "wiki").await;
    assert!(held.contains(&format!("Bearer {SECRET}")), "{held}");
    for item in hawser.ground().items().await {
        assert!(!item.to_string().contains(SECRET), "{item}");
    }
    // The same secret again is the same manifest; another one is a change.
    let before = made.json()["data"]["updatedAt"].clone();
    hawser.pass(10);
    let same = admin.put(APPLY, body.clone()).await;
    assert_eq!(same.json()["data"]["updatedAt"], before);
    stores.answers(200, json!({"Parameter": {"Value": "another"}}));
    let changed = admin.put(APPLY, body).await;
    assert_ne!(changed.json()["data"]["updatedAt"], before);
    assert!(
        stored(&hawser, &admin, "wiki")
            .await
            .contains("Bearer another")
    );
}

#[tokio::test]
async fn a_placeholder_stands_beside_neither_a_reference_nor_the_marker() {
    let (hawser, stores) = with_parameters().await;
    for value in [
        "Bearer {{API_KEY}} tfy-secret://acme:mail:KEY",
        "{{API_KEY}}<REDACTED>",
    ] {
        let auth = json!({"type": "header", "auth_level": "per_user",
                          "headers": {"Authorization": "{{API_KEY}}", "X-A": value}});
        let answer = put(&hawser.admin("acme"), "wiki", auth).await;
        is_invalid(&answer, &["manifest.auth_data.headers.X-A"]);
    }
    assert_eq!(stores.asked(), []);
}

#[tokio::test]
async fn each_secret_is_read_once_wherever_it_stands() {
    let (hawser, stores) = with_parameters().await;
    let admin = hawser.admin("acme");
    let mut full = manifest(
        "wiki",
        json!({"type": "oauth2", "grant_type": "client_credentials", "client_id": "c",
        "token_url": "https://as.example/token", "client_secret": "tfy-secret://acme:as:SECRET",
        "additional_token_params": {"audience": "tfy-secret://acme:as:AUDIENCE"}}),
    );
    full["additional_headers"] = json!({"X-A": "tfy-secret://acme:as:SECRET"});
    let made = admin.put(MCP, json!({"manifest": full})).await;
    assert_eq!(made.status, 200, "{made:?}");
    let mut names: Vec<_> = stores.asked();
    names.sort_by_key(|(_, body)| body["Name"].to_string());
    assert_eq!(
        names,
        asked(&["/hawser/acme/as/AUDIENCE", "/hawser/acme/as/SECRET"])
    );
    assert_eq!(
        stored(&hawser, &admin, "wiki")
            .await
            .matches(SECRET)
            .count(),
        3
    );
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    let own = json!({"type": "header", "headerValue": "Bearer tfy-secret://acme:ada:TOKEN"});
    let body = json!({"subjectId": "ada", "subjectType": "user", "authOverride": own});
    let installed = admin.put(&format!("{MCP}/{id}/auth"), body).await;
    assert_eq!(installed.status, 200, "{installed:?}");
    assert_eq!(stores.asked(), asked(&["/hawser/acme/ada/TOKEN"]));
    assert!(!installed.text.contains(SECRET), "{installed:?}");
}

#[tokio::test]
async fn a_reference_reaches_no_secret_of_another_tenant() {
    let (hawser, stores) = with_parameters().await;
    let path = "manifest.auth_data.headers.Authorization";
    for (tenant, reference, why) in [
        (
            "acme",
            "tfy-secret://beta:mail:KEY",
            "refers to a secret of another tenant",
        ),
        (
            "acme",
            "tfy-secret://ACME:mail:KEY",
            "refers to a secret of another tenant",
        ),
        (
            "acme",
            "tfy-secret://acme:../beta/mail:KEY",
            "refers to a secret that cannot be read",
        ),
        (
            "acme",
            "tfy-secret://acme:mail:../../beta/mail/KEY",
            "refers to a secret that cannot be read",
        ),
        // A tenant whose name would be two segments.
        (
            "acme/beta",
            "tfy-secret://acme/beta:mail:KEY",
            "refers to a secret that cannot be read",
        ),
    ] {
        let answer = put(&hawser.admin(tenant), "wiki", header(reference)).await;
        is_unresolved(&answer, path, why);
        assert_eq!(stores.asked(), [], "{reference}");
    }
}

#[tokio::test]
async fn naming_a_secret_takes_a_role_in_the_whole_tenant() {
    let (hawser, stores) = with_parameters().await;
    let admin = hawser.admin("acme");
    let mut wiki = manifest("wiki", per_user());
    wiki["collaborators"] = json!([{"subject": "user:ada", "role_id": "mcp-server-manager"}]);
    let made = admin.put(MCP, json!({"manifest": wiki})).await;
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    let needed = "This call needs the permission CREATE_MCP_SERVER.";
    let expected = || refused(403, "PERMISSION_DENIED", needed);
    // She manages the server, and could send the secret to an address of her own.
    let ada = hawser.caller("acme", "ada", json!({"username": "ada"}));
    wiki["additional_headers"] = json!({"X-A": "tfy-secret://acme:mail:KEY"});
    is(&ada.put(MCP, json!({"manifest": wiki})).await, expected());
    // Anybody may have an override of their own, but not one of the tenant's secrets.
    let bob = hawser.caller("acme", "bob", json!({}));
    let own = json!({"type": "header", "headerValue": "tfy-secret://acme:mail:KEY"});
    let body = json!({"subjectId": "bob", "subjectType": "user", "authOverride": own});
    is(
        &bob.put(&format!("{MCP}/{id}/auth"), body).await,
        expected(),
    );
    assert_eq!(stores.asked(), []);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_a_word_that_says_so() {
    let (hawser, stores) = with_parameters().await;
    let admin = hawser.admin("acme");
    let path = "manifest.auth_data.headers.Authorization";
    let reference = || header("tfy-secret://acme:mail:KEY");
    for (status, kind) in [(400, "ParameterNotFound"), (400, "AccessDeniedException")] {
        stores.answers(status, json!({"__type": kind, "message": SECRET}));
        let answer = put(&admin, "wiki", reference()).await;
        is_unresolved(&answer, path, "refers to a secret that cannot be read");
        assert!(!answer.text.contains(SECRET), "{answer:?}");
    }
    stores.answers(500, json!({"__type": "InternalServerError"}));
    assert_eq!(put(&admin, "wiki", reference()).await.status, 503);
    for unfit in ["with\nbreak", " outer", "a {{KEY}}"] {
        stores.answers(200, json!({"Parameter": {"Value": unfit}}));
        let answer = put(&admin, "wiki", reference()).await;
        is_unresolved(&answer, path, "leads to a secret that cannot stand here");
    }
    assert_eq!(admin.get(MCP).await.json()["pagination"]["total"], 0);
    // It is shown, so it can be no secret.
    let shown = json!({"type": "oauth2", "client_id": "tfy-secret://acme:as:ID"});
    assert_eq!(put(&admin, "wiki", shown).await.status, 422);
}

#[tokio::test]
async fn without_a_mapping_a_reference_is_refused_before_anything_else_is_read() {
    let hawser = Hawser::start().await;
    let why = "refers to a secret, but the operator has not set where secrets are";
    let member = hawser.caller("acme", "ada", json!({}));
    let answer = put(&member, "wiki", header("tfy-secret://acme:mail:KEY")).await;
    is_unresolved(&answer, "manifest.auth_data.headers.Authorization", why);
    let id = register(&hawser.admin("acme"), "wiki", per_user()).await;
    let own = json!({"type": "header", "headerValue": "tfy-secret://acme:mail:KEY"});
    let body = json!({"subjectId": "ada", "subjectType": "user", "authOverride": own});
    let answer = member.put(&format!("{MCP}/{id}/auth"), body).await;
    is_unresolved(&answer, "authOverride.headerValue", why);
}

#[tokio::test]
async fn a_member_of_a_secret_serves_as_well() {
    let (hawser, stores) = mapped("secretsmanager:hawser/{tenant}/{group}#{name}").await;
    let admin = hawser.admin("acme");
    let held = json!({"KEY": SECRET, "OTHER": "no"}).to_string();
    stores.answers(200, json!({"SecretString": held}));
    let made = put(&admin, "wiki", header("tfy-secret://acme:mail:KEY")).await;
    assert_eq!(made.status, 200, "{made:?}");
    let expected = (
        "secretsmanager.getsecretvalue".to_owned(),
        json!({"SecretId": "hawser/acme/mail"}),
    );
    assert_eq!(stores.asked(), [expected]);
    assert!(stored(&hawser, &admin, "wiki").await.contains(SECRET));
}
