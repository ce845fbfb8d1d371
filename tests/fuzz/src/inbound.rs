//! What callers, browsers and MCP clients send.

use crate::run;
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::BASE64URL_NOPAD;
use hawser_core::App;
use hawser_core::auth::client_token::{client_id, parse_client_id};
use hawser_core::auth::jwt::{ClaimNames, KeySet, TokenConfig, Verifier};
use hawser_core::domain::id::{ServerId, Sortable, TenantId, parse_hyphenated};
use hawser_core::domain::subject::Subject;
use hawser_core::domain::time::Timestamp;
use hawser_core::operations::consent::parse_session_id;
use hawser_core::state::config::{Config, KeyServiceConfig};
use hawser_functions::hawser::invoke::{Looked, look_into};
use hawser_functions::{ENDPOINTS, Request};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey};
use lambda_http::http::HeaderValue;
use lambda_http::{Body, RequestExt};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

const ISSUER: &str = "https://issuer.example";

struct Keys {
    signing: EncodingKey,
    set: JwkSet,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        // The same one in every run, so that what was found is found again.
        let seed = [7; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let signing = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        let mut key = Jwk::from_encoding_key(&signing, Algorithm::EdDSA).unwrap();
        key.common.key_id = Some("k".to_owned());
        let set = JwkSet { keys: vec![key] };
        Keys { signing, set }
    })
}

/// Whose tokens are accepted.
fn tokens() -> TokenConfig {
    TokenConfig {
        issuer: ISSUER.to_owned(),
        audiences: vec!["hawser".to_owned()],
        audience_by_client_id: false,
        keys: KeySet::Inline(keys().set.clone()),
        claims: ClaimNames::default(),
        default_tenant: None,
    }
}

/// An application whose store answers nothing: bodies are read before it is asked.
fn app() -> &'static App {
    static APP: OnceLock<App> = OnceLock::new();
    APP.get_or_init(|| {
        let mut config = Config::bare("none", KeyServiceConfig::Key("00".repeat(32).into()));
        config.tokens = vec![tokens()];
        config.public_urls = vec!["https://hawser.example".to_owned()];
        let store = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
            .retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
            // Without credentials nothing is even sent.
            .endpoint_url("http://127.0.0.1:1");
        let client = aws_sdk_dynamodb::Client::from_conf(store.build());
        App::new(config, client, |_| unreachable!()).unwrap()
    })
}

/// A token of someone who may do everything.
fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let permissions = ["create", "read", "update", "delete", "invoke"];
        let claims = json!({
            "iss": ISSUER, "aud": "hawser", "exp": 99_999_999_999_u64, "sub": "root", "tenantName": "acme",
            "roles": ["admin"], "permissions": permissions.map(|one| format!("mcp-servers:{one}")),
            "scope": "mgmt.read mgmt.write mgmt.admin",
        });
        signed(&json!({"alg": "EdDSA", "kid": "k"}), &claims.to_string())
    })
}

fn signed(header: &Value, claims: &str) -> String {
    let header = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
    let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(claims.as_bytes()));
    let key = &keys().signing;
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, Algorithm::EdDSA);
    format!("{signed}.{}", signature.unwrap())
}

/// The first byte chooses, the rest is given to what was chosen.
fn choice(data: &[u8]) -> (usize, &[u8]) {
    data.split_first()
        .map_or((0, data), |(first, rest)| (usize::from(*first), rest))
}

/// Sends what is left of the input to the endpoint that it chooses: up to a line break as the query, then as the body.
pub fn bodies(data: &[u8]) {
    let (chosen, rest) = choice(data);
    let endpoint = &ENDPOINTS[chosen % ENDPOINTS.len()];
    let Some((method, path)) = endpoint.routes.first() else {
        return;
    };
    let (query, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (&rest[..0], rest),
    };
    let query: String = query
        .iter()
        .filter(|b| b.is_ascii_graphic() && **b != b'#')
        .map(|b| char::from(*b))
        .collect();
    let ulid = "01J00000000000000000000000";
    let values = [
        ("mcpServerId", format!("mcp-{ulid}")),
        (
            "mcp_server_id",
            "019bc0fd-8a38-7a17-83e9-4b02d86f31ae".to_owned(),
        ),
        ("server_id", "1".to_owned()),
        ("server", "1".to_owned()),
        ("name", "wiki".to_owned()),
        ("receiptId", ulid.to_owned()),
        ("session_id", ulid.to_owned()),
        ("provider", "mail".to_owned()),
        ("subjectType", "user".to_owned()),
        ("subjectId", "ada".to_owned()),
    ];
    let mut full = (*path).to_owned();
    let mut parameters = HashMap::new();
    for (name, value) in values {
        full = full.replace(&format!("{{{name}}}"), &value);
        parameters.insert(name.to_owned(), value);
    }
    let Ok(uri) = format!("https://hawser.example{full}?{query}").parse() else {
        return;
    };
    let mut request = Request::new(Body::Binary(body.to_vec()));
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = uri;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", token())).unwrap();
    request.headers_mut().insert("authorization", bearer);
    let answer = run(endpoint.serve(app(), request.with_path_parameters(parameters)));
    assert_ne!(answer.status(), 101);
    let text = format!("{:?}", answer.body());
    assert!(!text.contains("s3cret-") || text.len() < rest.len() * 8 + 4096);
}

/// Text as a token, or signed header and claims.
pub fn jwt(data: &[u8]) {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    let verifier = VERIFIER.get_or_init(|| {
        Verifier::new(tokens(), false).unwrap_or_else(|_| panic!("the token settings are refused"))
    });
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let (chosen, rest) = choice(data);
    let text = String::from_utf8_lossy(rest);
    if chosen % 2 == 0 {
        assert!(
            run(verifier.verify(&text, now)).is_err(),
            "nobody has signed this"
        );
        return;
    }
    let (header, claims) = text.split_once('\n').unwrap_or(("", &text));
    let mut full = json!({"alg": "EdDSA", "kid": "k"});
    if let Ok(Value::Object(more)) = serde_json::from_str(header) {
        for (name, value) in more
            .into_iter()
            .filter(|(name, _)| name != "alg" && name != "kid")
        {
            full[name] = value;
        }
    }
    let token = signed(&full, claims);
    if let Ok(caller) = run(verifier.verify(&token, now)) {
        let said: Value = serde_json::from_str(claims).unwrap();
        assert_eq!(said["tenantName"], caller.tenant.as_str());
        assert!(full.get("crit").is_none());
        let vouched = matches!(said.get("email_verified"), None | Some(Value::Bool(true)))
            || said["email_verified"] == "true";
        assert!(vouched || caller.email.is_none() && caller.username.is_none());
        assert!(caller.roles.is_empty() || said["roles"].is_array());
    }
}

/// A body that is looked into: whatever it is read as, it is that for everybody.
pub fn jsonrpc(data: &[u8]) {
    // Another reader takes the last of two members of one name, and reads no number, however large.
    let read = |what| {
        let last: BTreeMap<String, &RawValue> = serde_json::from_slice(data).expect(what);
        last
    };
    let method = |last: &BTreeMap<String, &RawValue>| -> Option<String> {
        serde_json::from_str(last.get("method")?.get()).ok()
    };
    match look_into(data) {
        Looked::Call(tool) => {
            let last = read("a call that is no JSON");
            assert_eq!(method(&last).as_deref(), Some("tools/call"));
            let params: BTreeMap<String, &RawValue> =
                serde_json::from_str(last["params"].get()).expect("parameters that are no object");
            let name: String =
                serde_json::from_str(params["name"].get()).expect("a tool without a name");
            assert_eq!(name, tool);
        }
        Looked::Tools => {
            assert_eq!(
                method(&read("a question that is no JSON")).as_deref(),
                Some("tools/list")
            );
        }
        Looked::Other => {
            let method = method(&read("a message that is no JSON"));
            assert_ne!(method.as_deref(), Some("tools/call"));
            assert_ne!(method.as_deref(), Some("tools/list"));
        }
        Looked::Unclear => {}
    }
}

/// Names of things: what can be read is written the same way again.
pub fn ids(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(id) = ServerId::parse_prefixed(&text) {
        assert_eq!(ServerId::parse_prefixed(&id.prefixed()), Some(id));
        assert_eq!(ServerId::parse_uuid(&id.uuid().to_string()), Some(id));
    }
    if let Some(id) = ServerId::parse_ulid(&text) {
        assert_eq!(ServerId::parse_ulid(&id.ulid()), Some(id));
    }
    if let Some(id) = ServerId::parse_uuid(&text) {
        assert_eq!(ServerId::parse_ulid(&id.ulid()), Some(id));
    }
    if let Some(id) = Sortable::parse_ulid(&text) {
        assert_eq!(
            Sortable::parse_ulid(&id.ulid()).map(Sortable::ulid),
            Some(id.ulid())
        );
    }
    if let Some(id) = parse_hyphenated(&text) {
        assert_eq!(parse_hyphenated(&id.to_string()), Some(id));
    }
    if let Some(tenant) = TenantId::parse(&text) {
        assert_eq!(tenant.as_str(), text);
        let server = ServerId::parse_ulid("01J00000000000000000000000").unwrap();
        let read = parse_client_id(&client_id(&tenant, server));
        assert_eq!(read.map(|(tenant, _)| tenant), Some(tenant));
    }
    if let Some((tenant, server)) = parse_client_id(&text) {
        assert_eq!(
            parse_client_id(&client_id(&tenant, server)),
            Some((tenant, server))
        );
    }
    if let Some(subject) = Subject::parse(&text) {
        let again = format!("{}:{}", subject.kind().as_str(), subject.id());
        assert_eq!(Subject::parse(&again), Some(subject));
    }
    if let Some((server, session)) = parse_session_id(&text) {
        let again = format!("{}{session}", server.ulid());
        assert_eq!(parse_session_id(&again), Some((server, session)));
    }
}

/// Where a list goes on, in the query of each endpoint that lists; and the states of consents.
pub fn cursors(data: &[u8]) {
    let lists = [
        "hawser-list-events",
        "hawser-list-receipts",
        "truefoundry-list-servers",
        "truefoundry-list-overrides",
        "hawser-finish-consent",
        "kambrium-finish-consent",
        "hawser-start-consent",
        "langsmith-list-tool-servers",
        "langsmith-list-auth-connections",
    ];
    let (chosen, rest) = choice(data);
    let name = lists[chosen % lists.len()];
    let at = ENDPOINTS.iter().position(|one| one.name == name).unwrap();
    let mut input = vec![u8::try_from(at).unwrap()];
    let names = [
        "before=",
        "limit=",
        "offset=",
        "state=",
        "session=",
        "serverId=",
        "subjectId=",
        "code=x&state=",
        "cursor=",
        "page_size=",
    ];
    let (named, rest) = choice(rest);
    input.extend_from_slice(names[named % names.len()].as_bytes());
    input.extend(rest.iter().filter(|byte| **byte != b'\n'));
    input.push(b'\n');
    bodies(&input);
}
