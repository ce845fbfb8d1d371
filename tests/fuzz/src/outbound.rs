//! What MCP servers, issuers and operators say.

use crate::network::Canned;
use crate::run;
use hawser_core::catalogue;
use hawser_core::domain::issuance::{Client, ClientSource};
use hawser_core::egress::Egress;
use hawser_core::oauth::token::{self, Credentials, Endpoint};
use hawser_core::oauth::{challenge as challenges, discovery, registration};
use hawser_core::sse::Events;
use hawser_functions::hawser::invoke::filtered;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

/// The header by which a server says what it wants.
pub fn challenge(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    let _ = challenges::bearer(&headers);
}

/// Metadata of a server and of its issuer, an issuer's registration and its tokens.
pub fn metadata(data: &[u8]) {
    let (chosen, rest) = data.split_first().unwrap_or((&0, &[]));
    let egress = Egress::in_process(Canned::new(rest));
    match chosen % 4 {
        0 => {
            if let Ok(found) = run(discovery::protected_resource(
                &egress,
                "https://x.example/mcp",
            )) {
                // The document's own spelling is kept, and a host has no case.
                let resource = reqwest::Url::parse(&found.resource);
                let resource = resource.unwrap_or_else(|_| panic!("{}", found.resource));
                assert_eq!(resource.origin().ascii_serialization(), "https://x.example");
            }
        }
        1 => {
            if let Ok(found) = run(discovery::issuer(&egress, "https://as.example")) {
                let spellings = ["https://as.example", "https://as.example/"];
                assert!(spellings.contains(&found.issuer.as_str()));
                for url in [&found.authorization_endpoint, &found.token_endpoint] {
                    assert!(egress.check(url).is_ok(), "{url}");
                }
            }
        }
        2 => {
            let metadata = r#"{"issuer":"https://as.example","authorization_endpoint":"https://as.example/a",
                "token_endpoint":"https://as.example/t","registration_endpoint":"https://as.example/r",
                "code_challenge_methods_supported":["S256"]}"#;
            let canned = Canned::new(&[b"\0\n", metadata.as_bytes()].concat());
            let issuer = run(discovery::issuer(
                &Egress::in_process(canned),
                "https://as.example",
            ));
            let issuer = issuer.unwrap_or_else(|_| panic!("good metadata is refused"));
            let scopes = ["a".to_owned()];
            let made = registration::register(&egress, &issuer, "https://h.example/cb", &scopes);
            if let Ok(made) = run(made) {
                assert!(!made.client_id.is_empty());
            }
        }
        _ => {
            let client = Client::new("c".to_owned(), Vec::new(), ClientSource::PreRegistered);
            let at = Endpoint {
                url: "https://as.example/t",
                credentials: Credentials {
                    client: &client,
                    secret: None,
                },
                resource: None,
                extra: &[],
            };
            if let Ok(tokens) = run(token::refresh(&egress, &at, &"rt".into())) {
                let sendable =
                    HeaderValue::from_str(secrecy::ExposeSecret::expose_secret(&tokens.access));
                assert!(sendable.is_ok());
                assert!(
                    tokens
                        .expires_in
                        .is_none_or(|life| (0..=315_360_000).contains(&life))
                );
            }
        }
    }
}

/// A stream of events, in pieces: as the whole, and nothing lost.
pub fn sse(data: &[u8]) {
    const LIMIT: usize = 1 << 16;
    let (size, rest) = data.split_first().unwrap_or((&1, &[]));
    let size = usize::from(*size).max(1);
    let whole = {
        let mut events = Events::new(LIMIT);
        events.push(rest).map(|mut all| {
            all.extend(events.take());
            all
        })
    };
    let mut events = Events::new(LIMIT);
    let mut pieces = Vec::new();
    for piece in rest.chunks(size) {
        match events.push(piece) {
            Ok(some) => pieces.extend(some),
            Err(_) => {
                assert!(whole.is_err());
                return;
            }
        }
    }
    pieces.extend(events.take());
    if let Ok(whole) = whole {
        let bytes = |all: &[hawser_core::sse::Event]| -> Vec<u8> {
            all.iter()
                .cloned()
                .flat_map(|one| one.into_bytes())
                .collect()
        };
        assert_eq!(bytes(&pieces), rest, "nothing is lost");
        assert_eq!(bytes(&whole), rest);
        for event in &whole {
            if event.data().is_some() {
                assert_eq!(event.with_data("x").data().as_deref(), Some("x"));
            }
        }
    }
    // What hides tools rewrites such a stream.
    for piece in [rest, &rest[..rest.len() / 2]] {
        let shown = filtered(&[piece]);
        assert!(!contains(&shown, b"hidden-tool"), "a hidden tool is shown");
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    let named = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .any(|data| {
                let data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
                let tools = data["result"]["tools"].as_array();
                let name = String::from_utf8_lossy(part);
                tools.is_some_and(|tools| tools.iter().any(|tool| tool["name"] == *name))
            })
    };
    named(text)
}

/// The operator's integrations.
pub fn catalogue(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match catalogue::read(&text, false) {
        Ok(offers) => assert!(offers.keys().all(|name| catalogue::is_name(name))),
        Err(faults) => assert!(!faults.to_string().is_empty()),
    }
}
