//! Bodies as they are sent: compressed, and with a byte order mark, under every contract alike. And every answer names its request.

use crate::harness::Hawser;
use crate::upstream::{Upstream, register};
use serde_json::{Value, json};
use std::io::Write;

const GZIP: &[(&str, &str)] = &[("content-encoding", "gzip")];

/// A call of each contract with a body, and what it is answered with.
fn calls() -> [(&'static str, &'static str, Value, u16); 8] {
    let remote = json!({"manifest": {"type": "mcp-server/remote", "name": "wiki", "description": "d",
                                     "url": "https://wiki.example/mcp"}});
    let server = json!({"name": "search", "url": "https://search.example/mcp"});
    let tool_server = json!({"name": "notes", "upstream_url": "https://notes.example/mcp"});
    let principal = json!({"provider": "oidc", "subject": "ada"});
    let named = json!({"manifest": {"type": "mcp-server/remote", "name": "wiki"}});
    let connection = json!({"mcp_server": "pipedrive", "access_type": "read", "api_key": "k-1"});
    let subject = json!({"subjectType": "user", "subjectId": "ada"});
    [
        ("PUT", "/api/svc/v1/mcp", remote.clone(), 200),
        ("PUT", "/api/svc/v1/apply", remote, 200),
        ("POST", "/api/svc/v1/delete", named, 200),
        ("POST", "/v1/deepagents/mcp-servers", server, 201),
        ("POST", "/v1/managed-tools/servers", tool_server, 201),
        ("POST", "/v1/agent-auth/principals", principal, 200),
        ("POST", "/api/v1/mcp-servers", connection, 201),
        ("POST", "/v1/subjects/offboard", subject, 200),
    ]
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

#[tokio::test]
async fn a_body_may_be_compressed_or_marked() {
    for mark in ["", "\u{feff}"] {
        for is_compressed in [true, false] {
            let hawser = Hawser::with_built_in_integrations().await;
            let admin = hawser.admin("acme");
            for (method, path, body, status) in calls() {
                let text = format!("{mark}{body}");
                let (headers, bytes) = match is_compressed {
                    true => (GZIP, compressed(text.as_bytes())),
                    false => (&[][..], text.into_bytes()),
                };
                let answer = admin.send(method, path, headers, bytes).await;
                assert_eq!(answer.status, status, "{path}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_said_to_be_gzip_and_is_not_is_no_json() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    for (method, path, body, _) in calls() {
        let cut = compressed(body.to_string().as_bytes());
        for bytes in [b"nonsense".to_vec(), cut[..cut.len() / 2].to_vec()] {
            let answer = admin.send(method, path, GZIP, bytes).await;
            assert!([400, 422].contains(&answer.status), "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_bomb_is_a_body_that_is_too_large() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let bomb = compressed(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    for (method, path, _, _) in calls() {
        let answer = admin.send(method, path, GZIP, bomb.clone()).await;
        let expected = if path.starts_with("/v1/subjects") {
            400
        } else {
            413
        };
        assert_eq!(answer.status, expected, "{path}: {answer:?}");
    }
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "open", &upstream.url, json!({})).await;
    let answer = admin.send("POST", &format!("/mcp/{mcp}"), GZIP, bomb).await;
    assert_eq!(answer.status, 413, "{answer:?}");
}

#[tokio::test]
async fn another_coding_is_refused_in_the_words_of_the_contract() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    for coding in ["br", "gzip, gzip", "deflate", "nonsense"] {
        for (method, path, body, _) in calls() {
            let headers = [("content-encoding", coding)];
            let answer = admin
                .send(method, path, &headers, body.to_string().into_bytes())
                .await;
            assert_eq!(answer.status, 415, "{path}: {answer:?}");
            assert_eq!(answer.header("accept-encoding").as_deref(), Some("gzip"));
        }
    }
    let nothing = admin
        .send(
            "GET",
            "/v1/receipts",
            &[("content-encoding", "br")],
            Vec::new(),
        )
        .await;
    assert_eq!(nothing.status, 200);
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let mut names = Vec::new();
    for (method, path, headers) in [
        ("GET", "/v1/receipts", &[][..]),
        ("HEAD", "/v1/receipts", &[]),
        ("GET", "/v1/receipts/none", &[]),
        ("GET", "/nowhere", &[]),
        ("PATCH", "/api/v1/mcp-servers", &[]),
        ("POST", "/mcp/none", &[]),
        ("GET", "/oauth/start", &[]),
        ("GET", "/v1/receipts", &[("host", "evil.example")]),
    ] {
        let answer = admin.send(method, path, headers, Vec::new()).await;
        let name = answer.header("hawser-request-id").unwrap_or_default();
        assert_eq!(name.len(), 16, "{method} {path}: {answer:?}");
        names.push(name);
    }
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
