//! `GET /mcp/{mcpServerId}/auth`: the overrides that the caller may see (TrueFoundry 3.6).

use super::manifest::REDACTED;
use super::permission::{Permission, has};
use super::problem::Problem;
use super::{Window, admit, query, server_id, subject};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::domain::credential::{Override, OverrideShape};
use hawser_core::operations::{credentials, servers};
use lambda_http::Body;
use serde_json::{Map, Value, json};

/// Returns 200 with a page. Managers see all rows, others their own: a filter, never a 403.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, window) = admit(
        app,
        request,
        query(request).and_then(|parameters| Window::read(&parameters)),
    )
    .await?;
    let server = servers::find(app, who, server_id(request))
        .await?
        .existing()?;
    let server = server.permit(|_, _| Ok::<_, Problem>(()))?;
    let mut rows = credentials::list_overrides(app, &server.caller, &server.found).await?;
    if !has(&server.caller, Some(&server.found), Permission::Manage) {
        rows.retain(|own| own.subject == *server.caller.subject());
    }
    Ok(json(200, &window.page(&rows, row)))
}

/// An `AuthOverrideRow`.
pub fn row(own: &Override) -> Value {
    let auth_data = match &own.shape {
        OverrideShape::Header => json!({"type": "header", "headerValue": REDACTED}),
        OverrideShape::KeyValue(names) => {
            let values: Map<_, _> = names
                .iter()
                .map(|name| (name.clone(), REDACTED.into()))
                .collect();
            json!({"type": "key_value", "values": values})
        }
    };
    json!({
        "subjectId": own.subject.id(),
        "subjectType": own.subject.kind().as_str(),
        "authData": auth_data,
        "updatedAt": own.updated_at.millis_z(),
        "updatedBySubject": subject(&own.updated_by),
    })
}
