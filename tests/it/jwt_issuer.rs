//! `hawser serve --jwt-issuer`: tokens of an OpenID Connect issuer whose key set is found by its metadata.

use crate::harness::{Ground, Hawser, now};
use hawser_core::auth::jwt::{ClaimNames, KeySet, TokenConfig};
use hawser_core::domain::id::TenantId;
use hawser_local::identity::Identity;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

/// Publishes these documents on loopback; `BASE` in them is where.
fn publish(documents: &[(&'static str, Value)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let documents: Vec<_> = documents
        .iter()
        .map(|(path, document)| (*path, document.to_string().replace("BASE", &base)))
        .collect();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            let mut line = first.clone();
            while line.trim_end() != "" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            let path = first.split(' ').nth(1).unwrap();
            let found = documents.iter().find(|(p, _)| *p == path);
            let (status, body) = found.map_or((404, ""), |(_, text)| (200, text.as_str()));
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    base
}

async fn status(issuer: &str, keys: KeySet, identity: &Identity) -> u16 {
    let tokens = TokenConfig {
        issuer: issuer.to_owned(),
        audiences: vec!["hawser".to_owned()],
        audience_by_client_id: false,
        keys,
        claims: ClaimNames::default(),
        default_tenant: TenantId::parse("acme"),
    };
    let hawser = Hawser::configured(Ground::new().await, |config| config.tokens.push(tokens)).await;
    let ours = hawser.caller("acme", "root", json!({"roles": ["admin"]}));
    assert_eq!(
        ours.get("/api/svc/v1/mcp").await.status,
        200,
        "our own tokens serve on"
    );
    let claims = json!({"iss": issuer, "sub": "ada", "exp": now() + 600, "roles": ["admin"]});
    let token = identity.token(claims).unwrap();
    let theirs = hawser.with(vec![("authorization", format!("Bearer {token}"))]);
    theirs.get("/api/svc/v1/mcp").await.status
}

#[tokio::test]
async fn an_issuer_is_known_by_its_metadata() {
    let theirs = Identity::ephemeral().unwrap();
    let metadata = "/realms/acme/.well-known/openid-configuration";
    let keys = ("/realms/acme/keys", theirs.key_set());
    let good = json!({"issuer": "BASE/realms/acme", "jwks_uri": "BASE/realms/acme/keys"});
    let base = publish(&[(metadata, good.clone()), keys.clone()]);
    let issuer = format!("{base}/realms/acme");
    assert_eq!(status(&issuer, KeySet::Discovered, &theirs).await, 200);
    let url = KeySet::Url(format!("{base}/realms/acme/keys"));
    assert_eq!(status(&issuer, url, &theirs).await, 200);
    let other = Identity::ephemeral().unwrap();
    assert_eq!(
        status(&issuer, KeySet::Discovered, &other).await,
        401,
        "signed by another"
    );

    for wrong in [
        json!({"issuer": "BASE/realms/other", "jwks_uri": "BASE/realms/acme/keys"}),
        json!({"issuer": "BASE/realms/acme", "jwks_uri": "http://issuer.example/keys"}),
        json!({"issuer": "BASE/realms/acme", "jwks_uri": "file:///etc/passwd"}),
        json!({"issuer": "BASE/realms/acme"}),
        json!([]),
    ] {
        let base = publish(&[(metadata, wrong.clone()), keys.clone()]);
        let issuer = format!("{base}/realms/acme");
        assert_eq!(
            status(&issuer, KeySet::Discovered, &theirs).await,
            503,
            "{wrong}"
        );
    }
}
