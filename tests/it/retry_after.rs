//! Every 503 of Hawser's own says when to ask again.

use crate::harness::{Cut, Hawser};
use hawser_functions::ENDPOINTS;
use std::path::Path;

#[tokio::test]
async fn every_503_says_when_to_ask_again() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let token = admin.headers[0].1.strip_prefix("Bearer ").unwrap();
    let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/events");
    let mut unavailable = Vec::new();
    hawser.wire.arm(Some(Cut::Before(0)));
    for endpoint in ENDPOINTS {
        let text = std::fs::read_to_string(events.join(format!("{}.json", endpoint.name))).unwrap();
        let event = serde_json::from_str(&text.replace("TOKEN", token)).unwrap();
        let (status, headers) = if endpoint.streams() {
            let prelude = endpoint
                .stream_event(&hawser.app, event)
                .await
                .metadata_prelude;
            (i64::from(prelude.status_code.as_u16()), prelude.headers)
        } else {
            let answer = endpoint.answer_event(&hawser.app, event).await;
            (answer.status_code, answer.headers)
        };
        // These documents need no table, and a token of no form is over without it (RFC 7009 2.2).
        let needs_no_table = [
            "truefoundry-get-cli-version",
            "truefoundry-get-tenant",
            "langsmith-resolve-principal",
            "hawser-client-metadata",
            "hawser-openapi",
            "hawser-protected-resource",
            "hawser-authorization-server",
            "hawser-revoke-token",
        ]
        .contains(&endpoint.name);
        assert!(
            status >= 400 || needs_no_table,
            "{}: {status}",
            endpoint.name
        );
        if status == 503 {
            assert_eq!(headers["retry-after"], "5", "{}", endpoint.name);
            unavailable.push(endpoint.name);
        }
    }
    // Kambrium's contract has none; its token endpoint has, but not for a client of no form.
    for name in [
        "truefoundry-delete-server",
        "langsmith-list-servers",
        "hawser-offboard-subject",
        "hawser-list-events",
        "hawser-list-token-keys",
        "hawser-invoke",
    ] {
        assert!(
            unavailable.contains(&name),
            "{name} is not among {unavailable:?}"
        );
    }
}
