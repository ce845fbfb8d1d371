//! Issuers that answer as real ones do: in odd shapes, with odd statuses, from odd places, and to clients that prove
//! themselves in one way alone. Each has to be connected, kept and revoked all the same.

use crate::harness::{Browser, Caller, Hawser};
use crate::issuer::{BASIC_WITH_ID, Fault, Issuer, Settings, StaticClient};
use crate::upstream;
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";
const RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource/mcp";
const ROOT_RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource";
const METADATA: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
const BASIC: &str = "client_secret_basic";
const POST: &str = "client_secret_post";

type Change = fn(&mut Settings);

/// Hawser, an issuer, and a server of its own that ada connects to.
struct Stage {
    hawser: Hawser,
    issuer: Issuer,
    admin: Caller,
    id: String,
}

impl Stage {
    async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(json!({}), change).await
    }

    /// With more of `auth_data`.
    async fn with(auth: Value, change: impl FnOnce(&mut Settings)) -> Self {
        let (hawser, issuer) = (Hawser::start_by_hand().await, Issuer::start().await);
        let redirect = format!("{}/oauth/callback", hawser.url);
        issuer.configure(|settings| {
            settings.static_clients.push(StaticClient {
                id: "known".to_owned(),
                secret: Some("known secret".to_owned()),
                redirect_uris: vec![redirect],
            });
            change(settings);
        });
        let mut stage = Self {
            admin: hawser.admin("acme"),
            id: String::new(),
            hawser,
            issuer,
        };
        stage.put(auth).await;
        stage
    }

    async fn put(&mut self, auth: Value) {
        let mut data = json!({"type": "oauth2"});
        data.as_object_mut()
            .unwrap()
            .extend(auth.as_object().unwrap().clone());
        let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d",
                              "url": self.issuer.mcp_url(), "auth_data": data});
        let made = self.admin.put(MCP, json!({"manifest": manifest})).await;
        assert_eq!(made.status, 200, "{made:?}");
        self.id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    }

    fn user(&self, name: &str) -> Caller {
        upstream::user(&self.hawser, name)
    }

    /// Goes through a consent of a user; the page it ends on.
    async fn consent(&self, user: &str) -> String {
        let path = format!("{MCP}/{}/authorize", self.id);
        let answer = self.user(user).get(&path).await;
        let url = answer.json()["authorization_endpoint"].clone();
        let url = url.as_str().unwrap_or_else(|| panic!("{answer:?}"));
        let mut browser = Browser::new();
        let page = browser.start(url).await;
        let Some(at_issuer) = page.location else {
            return page.text;
        };
        let back = self.issuer.approve_as(&at_issuer, user).await;
        browser.open(&back).await.text
    }

    async fn connect(&self, user: &str, why: &str) {
        let page = self.consent(user).await;
        assert!(page.contains("<h1>Connected</h1>"), "{why}: {page}");
    }

    async fn is_connected(&self, user: &str) -> bool {
        let path = format!(
            "{MCP}/{}/auth/status?subjectId={user}&subjectType=user",
            self.id
        );
        self.admin.get(&path).await.json()["status"] == "authenticated"
    }

    /// Whether a call of a user is answered by the server, which takes none without a token of its issuer. If not, it is for want
    /// of one.
    async fn is_served(&self, user: &str) -> bool {
        let answer = upstream::ask(&self.user(user), &self.id).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let said = answer.json();
        if said.get("error").is_none() {
            assert_eq!(said["result"]["subject"], user, "{answer:?}");
            return true;
        }
        let is_lack =
            said["error"]["code"] == -32001 && said["error"]["data"]["reason"].is_string();
        assert!(is_lack, "{answer:?}");
        false
    }

    /// Disconnects a user, and lets the revocation come to its end; the outcomes on the receipt.
    async fn disconnect(&self, user: &str) -> Value {
        let body = json!({"authSource": "oauth", "subjectId": user, "subjectType": "user"});
        let path = format!("{MCP}/{}/auth", self.id);
        let answer = self.admin.delete_with(&path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let id = answer.json()["data"]["receiptId"].clone();
        for _ in 0..3 {
            self.hawser.run_workers().await;
            self.hawser.pass(120);
        }
        let path = format!("/v1/receipts/{}", id.as_str().unwrap());
        self.admin.get(&path).await.json()["data"]["outcomes"].clone()
    }

    /// How the client proved itself at the token endpoint, request by request, since the log was cleared.
    fn ways(&self) -> Vec<&'static str> {
        let log = self.issuer.log().into_iter();
        let asked = log.filter(|one| one.path == "/token");
        asked
            .map(|one| {
                let has_id = one.field("client_id").is_some();
                match (one.header("authorization"), one.field("client_secret")) {
                    (Some(_), _) if has_id => BASIC_WITH_ID,
                    (Some(_), _) => BASIC,
                    (None, Some(_)) => POST,
                    (None, None) => "none",
                }
            })
            .collect()
    }

    /// A whole life: consent, call, refresh, call, disconnect, after which no token lives.
    async fn live(&self, why: &str) {
        self.connect("ada", why).await;
        assert!(self.is_served("ada").await, "{why}");
        self.hawser.pass(4000);
        let access = self.issuer.issued().pop().unwrap().access;
        self.issuer.expire(&access);
        assert!(self.is_served("ada").await, "{why}: refreshed");
        assert!(self.is_connected("ada").await, "{why}");
        assert_eq!(self.disconnect("ada").await, json!({"revoked": 1}), "{why}");
        assert_eq!(self.issuer.live_tokens(), Vec::<String>::new(), "{why}");
    }
}

// Tokens

#[tokio::test]
async fn a_good_answer_is_good_with_any_2xx() {
    for status in [200, 201, 202, 203, 206] {
        let stage = Stage::new(|settings| settings.token_status = status).await;
        stage.live(&status.to_string()).await;
    }
}

#[tokio::test]
async fn one_odd_member_of_a_token_answer_costs_that_member() {
    for (member, value) in [
        ("token_type", None),
        ("token_type", Some(Value::Null)),
        ("token_type", Some(json!(["Bearer"]))),
        ("expires_in", None),
        ("expires_in", Some(json!("3600"))),
        ("expires_in", Some(json!(3599.5))),
        ("expires_in", Some(json!({"seconds": 3600}))),
        ("expires_in", Some(json!("in an hour"))),
        ("scope", Some(json!(["mcp:read", "mcp:write"]))),
        ("scope", Some(json!(7))),
        ("scope", Some(Value::Null)),
        ("id_token", Some(json!({"not": ["a", "token"]}))),
        ("error", Some(Value::Null)),
        ("error", Some(json!(""))),
    ] {
        let why = format!("{member} = {value:?}");
        let stage = Stage::new(|settings| settings.odd.push(("token", member, value))).await;
        stage.live(&why).await;
    }
}

/// The issuer rotates, and something is odd beside the new refresh token: it serves from then on, and nothing that was received
/// is left at the issuer in the end.
#[tokio::test]
async fn a_rotated_refresh_token_is_never_lost() {
    for (member, value) in [
        ("access_token", None),
        ("access_token", Some(Value::Null)),
        ("access_token", Some(json!(""))),
        ("access_token", Some(json!({"value": "x"}))),
        ("access_token", Some(json!("not\nto be sent"))),
        ("token_type", Some(json!("DPoP"))),
    ] {
        let why = format!("{member} = {value:?}");
        let stage = Stage::new(|_| {}).await;
        stage.connect("ada", &why).await;
        stage.hawser.pass(4000);
        stage
            .issuer
            .configure(|settings| settings.odd.push(("token", member, value)));
        assert!(!stage.is_served("ada").await, "{why}");
        assert_eq!(stage.issuer.issued().len(), 2, "{why}");
        stage.issuer.configure(|settings| settings.odd.clear());
        stage.hawser.run_workers().await;
        stage.hawser.pass(60);
        assert!(stage.is_served("ada").await, "{why}");
        assert_eq!(stage.issuer.families_killed(), 0, "{why}");
        assert_eq!(
            stage.disconnect("ada").await,
            json!({"revoked": 1}),
            "{why}"
        );
        assert_eq!(stage.issuer.live_tokens(), Vec::<String>::new(), "{why}");
    }
}

/// Tokens that cannot be used are revoked, whatever they came with and whenever.
#[tokio::test]
async fn tokens_that_cannot_be_used_are_revoked() {
    let changes: [(&str, Change); 6] = [
        ("an outage that answers", |s| s.token_status = 503),
        ("a refusal that answers", |s| s.token_status = 400),
        ("a redirect that answers", |s| s.token_status = 302),
        ("an error beside tokens", |s| {
            s.odd.push(("token", "error", Some(json!("odd"))))
        }),
        ("tokens of another type", |s| {
            s.odd.push(("token", "token_type", Some(json!("mac"))))
        }),
        ("no access token", |s| {
            s.odd.push(("token", "access_token", None))
        }),
    ];
    for (why, change) in changes {
        let stage = Stage::new(change).await;
        let page = stage.consent("ada").await;
        assert!(page.contains("Not connected"), "{why}: {page}");
        assert!(!stage.is_connected("ada").await, "{why}");
        let pair = stage.issuer.issued().pop().unwrap();
        stage.hawser.run_workers().await;
        assert!(!stage.issuer.is_active(&pair.refresh.unwrap()), "{why}");
        assert!(!stage.issuer.is_active(&pair.access), "{why}");
    }
    // At a refresh an answer that is none takes nothing along that is still in use.
    for (why, change) in &changes[..4] {
        let stage = Stage::new(|settings| settings.rotate = false).await;
        stage.connect("ada", why).await;
        stage.hawser.pass(4000);
        stage.issuer.configure(change);
        assert!(!stage.is_served("ada").await, "{why}");
        let first = stage.issuer.issued().swap_remove(0);
        stage.hawser.run_workers().await;
        assert!(stage.issuer.is_active(&first.refresh.unwrap()), "{why}");
        assert_eq!(
            stage.disconnect("ada").await,
            json!({"revoked": 1}),
            "{why}"
        );
        assert_eq!(stage.issuer.live_tokens(), Vec::<String>::new(), "{why}");
    }
}

/// An answer that is a form is not supported; what it holds is revoked.
#[tokio::test]
async fn tokens_in_a_form_encoded_answer_are_revoked() {
    let stage = Stage::new(|_| {}).await;
    stage.connect("ada", "to have tokens that live").await;
    let pair = stage.issuer.issued().pop().unwrap();
    let form = format!(
        "access_token={}&token_type=bearer&refresh_token={}",
        pair.access,
        pair.refresh.as_ref().unwrap()
    );
    stage.issuer.fault(Fault {
        status: Some(200),
        headers: vec![(
            "content-type",
            "application/x-www-form-urlencoded".to_owned(),
        )],
        body: form,
        ..Fault::once("/token")
    });
    let page = stage.consent("bob").await;
    assert!(page.contains("Not connected"), "{page}");
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens(), Vec::<String>::new());
}

// Clients

/// However an issuer takes clients: each is tried once, and what served is used first from then on.
#[tokio::test]
async fn a_client_proves_itself_in_the_way_that_is_taken() {
    let dynamic = json!({});
    let known = json!({"client_id": "known", "client_secret": "known secret"});
    for (auth, listed, taken, first) in [
        (&dynamic, vec!["none", BASIC, POST], POST, vec![POST]),
        (
            &dynamic,
            vec!["none", BASIC, POST],
            BASIC,
            vec![POST, BASIC],
        ),
        (&dynamic, vec![BASIC, POST], POST, vec![POST]),
        (&dynamic, vec![BASIC], BASIC, vec![BASIC]),
        (
            &dynamic,
            vec![BASIC],
            BASIC_WITH_ID,
            vec![BASIC, BASIC_WITH_ID],
        ),
        (&known, vec![BASIC, POST], BASIC, vec![POST, BASIC]),
        (
            &known,
            vec![BASIC, POST],
            BASIC_WITH_ID,
            vec![POST, BASIC, BASIC_WITH_ID],
        ),
        (
            &known,
            vec![BASIC],
            BASIC_WITH_ID,
            vec![BASIC, BASIC_WITH_ID],
        ),
        (&known, vec![POST], POST, vec![POST]),
    ] {
        let why = format!("{listed:?} is listed, {taken} taken");
        let stage = Stage::with(auth.clone(), |settings| {
            settings.client_auth = listed;
            settings.taken_auth = [("/token", taken), ("/revoke", taken)].into();
        })
        .await;
        stage.connect("bob", &why).await;
        assert_eq!(stage.ways(), first, "{why}");
        assert_eq!(stage.issuer.clients().len(), usize::from(auth == &dynamic));
        assert_eq!(
            stage.disconnect("bob").await,
            json!({"revoked": 1}),
            "{why}"
        );
        stage.issuer.clear_log();
        stage.live(&why).await;
        assert_eq!(stage.ways(), [taken, taken], "{why}: remembered");
    }
}

/// Nobody says which methods there are: HTTP Basic is what that means, and the other one is tried.
#[tokio::test]
async fn without_a_list_of_methods_both_ways_to_authenticate_are_tried() {
    let member = "token_endpoint_auth_methods_supported";
    for taken in [BASIC, POST] {
        let stage = Stage::new(|settings| {
            settings.odd.push(("issuer", member, None));
            settings.taken_auth = [("/token", taken), ("/revoke", taken)].into();
        })
        .await;
        stage.live(taken).await;
        assert_eq!(stage.ways().first(), Some(&BASIC));
        assert_eq!(stage.ways().last(), Some(&taken));
    }
}

/// Endpoints that an operator configured: nothing is known, and most read the form.
#[tokio::test]
async fn with_configured_endpoints_both_ways_to_authenticate_are_tried() {
    for (taken, first) in [(POST, vec![POST]), (BASIC, vec![POST, BASIC])] {
        let mut stage = Stage::new(|settings| {
            settings.taken_auth = [("/token", taken)].into();
        })
        .await;
        let url = stage.issuer.url.clone();
        stage
            .put(json!({"client_id": "known", "client_secret": "known secret",
                        "authorization_url": format!("{url}/authorize"), "token_url": format!("{url}/token")}))
            .await;
        stage.issuer.configure(|settings| settings.iss = false);
        stage.connect("ada", taken).await;
        assert_eq!(stage.ways(), first);
        assert!(stage.is_served("ada").await);
    }
}

/// A refresh that is refused in every way takes nothing, and the grant goes on as soon as the client is known again.
#[tokio::test]
async fn a_client_that_is_refused_in_every_way_loses_nothing() {
    for (status, body) in [
        (401, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"invalid_client"}"#),
        (401, ""),
    ] {
        let stage = Stage::new(|_| {}).await;
        stage.connect("ada", body).await;
        stage.hawser.pass(4000);
        stage.issuer.clear_log();
        stage.issuer.fault(Fault {
            status: Some(status),
            body: body.to_owned(),
            ..Fault::always("/token")
        });
        assert!(!stage.is_served("ada").await);
        assert_eq!(stage.ways(), [POST, BASIC]);
        stage.issuer.clear_faults();
        stage.hawser.pass(60);
        assert!(stage.is_served("ada").await, "{status} {body}");
    }
}

// Names and places

#[tokio::test]
async fn an_issuer_is_found_with_and_without_its_final_slash() {
    for (asked, said) in [("", ""), ("/", ""), ("", "/"), ("/", "/")] {
        let stage = Stage::new(|_| {}).await;
        let url = stage.issuer.url.clone();
        stage.issuer.configure(|settings| {
            let listed = json!([format!("{url}{asked}")]);
            let name = format!("{url}{said}");
            settings.wrong_iss = Some(name.clone());
            settings
                .odd
                .push(("resource", "authorization_servers", Some(listed)));
            settings.odd.push(("issuer", "issuer", Some(json!(name))));
        });
        stage.live(&format!("{asked:?} {said:?}")).await;
        // In its answers the issuer is named as its metadata names it.
        let other = if said.is_empty() { "/" } else { "" };
        stage.issuer.configure(|settings| {
            settings.wrong_iss = Some(format!("{url}{other}"));
        });
        let page = stage.consent("bob").await;
        assert!(page.contains("Not connected"), "{asked:?} {said:?}: {page}");
    }
    for said in ["//", "/t", "/t/"] {
        let stage = Stage::new(|_| {}).await;
        let name = format!("{}{said}", stage.issuer.url);
        stage
            .issuer
            .configure(|settings| settings.odd.push(("issuer", "issuer", Some(json!(name)))));
        let page = stage.consent("ada").await;
        assert!(!page.contains("<h1>Connected</h1>"), "{said}: {page}");
        assert_eq!(stage.issuer.count("GET", "/authorize"), 0);
    }
}

#[tokio::test]
async fn odd_optional_metadata_costs_what_it_is_about() {
    for (document, member, value) in [
        ("issuer", "registration_endpoint", json!("")),
        ("issuer", "revocation_endpoint", json!("")),
        ("issuer", "revocation_endpoint", json!("/revoke")),
        ("issuer", "revocation_endpoint", json!({"url": 1})),
        ("issuer", "scopes_supported", json!("mcp:read mcp:write")),
        ("issuer", "scopes_supported", json!({"mcp:read": true})),
        ("issuer", "response_types_supported", Value::Null),
        ("issuer", "response_types_supported", json!("code")),
        ("issuer", "grant_types_supported", json!(7)),
        (
            "issuer",
            "token_endpoint_auth_methods_supported",
            Value::Null,
        ),
        (
            "issuer",
            "authorization_response_iss_parameter_supported",
            json!("true"),
        ),
        (
            "issuer",
            "client_id_metadata_document_supported",
            json!("false"),
        ),
        ("issuer", "jwks_uri", json!([[]])),
        ("resource", "scopes_supported", json!("mcp:read mcp:write")),
        ("resource", "scopes_supported", Value::Null),
        ("resource", "bearer_methods_supported", json!("header")),
        ("resource", "resource_name", json!(["a", {"b": 1}])),
        ("registration", "scope", Value::Null),
        ("registration", "client_secret_expires_at", Value::Null),
        ("registration", "client_secret_expires_at", json!("never")),
        ("registration", "registration_client_uri", json!(7)),
        ("registration", "token_endpoint_auth_method", json!([POST])),
        (
            "registration",
            "grant_types",
            json!("authorization_code refresh_token"),
        ),
        ("registration", "client_id_issued_at", json!({})),
    ] {
        let why = format!("{document}: {member} = {value}");
        let known = json!({"client_id": "known", "client_secret": "known secret"});
        // Without registration it takes the operator's client.
        let auth = match member {
            "registration_endpoint" => known,
            _ => json!({}),
        };
        let stage = Stage::with(auth, |settings| {
            settings.odd.push((document, member, Some(value)));
        })
        .await;
        stage.connect("ada", &why).await;
        assert!(stage.is_served("ada").await, "{why}");
        let expected = match member {
            "revocation_endpoint" => json!({"unsupported": 1}),
            _ => json!({"revoked": 1}),
        };
        assert_eq!(stage.disconnect("ada").await, expected, "{why}");
    }
}

#[tokio::test]
async fn resource_and_issuers_may_be_a_list_or_a_text() {
    let stage = Stage::new(|_| {}).await;
    let (resource, issuer) = (stage.issuer.mcp_url(), stage.issuer.url.clone());
    for (user, member, value) in [
        ("ada", "resource", json!([resource])),
        ("bob", "authorization_servers", json!(issuer)),
        ("eve", "authorization_servers", json!([null, issuer])),
    ] {
        let why = format!("{member} = {value}");
        stage
            .issuer
            .configure(|s| s.odd = vec![("resource", member, Some(value))]);
        stage.connect(user, &why).await;
    }
    stage.issuer.configure(|settings| {
        let two = json!([resource, "https://other.example/mcp"]);
        settings.odd = vec![("resource", "resource", Some(two))];
    });
    let page = stage.consent("dan").await;
    assert!(!page.contains("<h1>Connected</h1>"), "{page}");
}

/// One place is broken, in whatever way; the document is at the next one.
#[tokio::test]
async fn a_broken_place_does_not_hide_the_next_one() {
    let broken = |path: &'static str, status: u16| match status {
        0 => Fault {
            drop: true,
            ..Fault::always(path)
        },
        status => Fault {
            status: Some(status),
            body: "<html>Bad Gateway</html>".to_owned(),
            ..Fault::always(path)
        },
    };
    for status in [0, 200, 401, 404, 429, 500, 502, 503, 504] {
        let stage = Stage::new(|settings| {
            settings.resource_metadata_at.push(ROOT_RESOURCE_METADATA);
            settings.metadata_at.push(OPENID);
        })
        .await;
        stage.issuer.fault(broken(RESOURCE_METADATA, status));
        stage.issuer.fault(broken(METADATA, status));
        stage.connect("ada", &status.to_string()).await;
    }
    // Where the next one has nothing either, what is broken may be what is missing.
    for path in [RESOURCE_METADATA, METADATA] {
        let stage = Stage::new(|_| {}).await;
        stage.issuer.fault(broken(path, 502));
        let page = stage.consent("ada").await;
        assert!(page.contains("does not answer"), "{path}: {page}");
        assert_eq!(stage.issuer.count("GET", "/authorize"), 0);
    }
}

/// A server of revision 2025-03-26 publishes no resource metadata: its own origin is the issuer, if that says so.
#[tokio::test]
async fn without_resource_metadata_the_origin_is_asked() {
    for slash in ["", "/"] {
        let stage = Stage::new(|settings| settings.resource_metadata_at.clear()).await;
        let name = format!("{}{slash}", stage.issuer.url);
        stage.issuer.configure(|settings| {
            settings.wrong_iss = Some(name.clone());
            settings.odd.push(("issuer", "issuer", Some(json!(name))));
        });
        stage.live(slash).await;
    }
    let foreign = |settings: &mut Settings| {
        let other = json!("https://other.example");
        settings.odd.push(("issuer", "issuer", Some(other)));
    };
    let below = |settings: &mut Settings| {
        settings.metadata_at = vec!["/.well-known/oauth-authorization-server/mcp"];
    };
    let nowhere = |settings: &mut Settings| settings.metadata_at.clear();
    let changes: [(&str, Change); 3] =
        [("foreign", foreign), ("below", below), ("nowhere", nowhere)];
    for (why, change) in changes {
        let stage = Stage::new(|settings| {
            settings.resource_metadata_at.clear();
            change(settings);
        })
        .await;
        let page = stage.consent("ada").await;
        assert!(!page.contains("<h1>Connected</h1>"), "{why}: {page}");
        assert_eq!(stage.issuer.count("GET", "/authorize"), 0, "{why}");
    }
}
