//! Showing a registration as this contract's object (TrueFoundry 4 and 10). Never needs a secret value.

use super::super::subject;
use super::{Manifest, REDACTED};
use hawser_core::domain::address;
use hawser_core::domain::id::{ServerId, TenantId};
use hawser_core::domain::json::{Exact, Members, raw};
use hawser_core::domain::server::{Auth, AuthLevel, OauthConfig, Server};
use hawser_core::domain::subject::Actor;
use hawser_core::domain::time::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// What an `MCPServer` is made of, stored or previewed by a dry run.
#[derive(Debug)]
pub struct Registration<'a> {
    name: &'a str,
    url: String,
    description: &'a str,
    auth: &'a Auth,
    additional_headers: Option<&'a [String]>,
    rest: &'a Map<String, Value>,
    tags: Option<&'a Exact>,
    created_by: &'a Actor,
    /// Id, created, updated; a dry-run create has none.
    stored: Option<(ServerId, Timestamp, Timestamp)>,
}

impl<'a> From<&'a Server> for Registration<'a> {
    fn from(server: &'a Server) -> Self {
        Self {
            name: &server.name,
            url: server.shown_url(),
            description: server.description.as_deref().unwrap_or(&server.name),
            auth: &server.auth,
            additional_headers: server.additional_headers.as_deref(),
            rest: &server.manifest,
            tags: server.tags.as_ref(),
            created_by: &server.created_by,
            stored: Some((server.id, server.created_at, server.updated_at)),
        }
    }
}

impl<'a> Registration<'a> {
    /// What a create would have made.
    pub fn for_dry_run(manifest: &'a Manifest, created_by: &'a Actor) -> Self {
        Self {
            name: &manifest.name,
            url: address::redacted(&manifest.url),
            description: &manifest.description,
            auth: &manifest.auth,
            additional_headers: manifest.additional_headers.as_deref(),
            rest: &manifest.rest,
            tags: manifest.tags.as_ref(),
            created_by,
            stored: None,
        }
    }

    /// The `MCPServer` object (TrueFoundry 4.1).
    pub fn mcp_server(&self, tenant: &TenantId, gateway_url: Option<&str>) -> Box<RawValue> {
        let mut object = Members::default();
        let mut set = |name: &str, value: Value| object.0.push((name.to_owned(), raw(&value)));
        if let Some((id, _, _)) = self.stored {
            set("id", id.prefixed().into());
        }
        set(
            "fqn",
            format!("{}:mcp-server:{}", tenant.as_str(), self.name).into(),
        );
        set("tenantName", tenant.as_str().into());
        set("accountId", tenant.as_str().into());
        set("createdBySubject", subject(self.created_by));
        if let Some((_, created, updated)) = self.stored {
            set("createdAt", created.millis_z().into());
            set("updatedAt", updated.millis_z().into());
        }
        if let Some(base) = gateway_url {
            set(
                "proxyUrl",
                format!("{base}/mcp/v1/{}/mcp", self.name).into(),
            );
        }
        set(
            "isAuthOverrideSupported",
            matches!(self.auth, Auth::Headers { .. } | Auth::Oauth(_)).into(),
        );
        object
            .0
            .push(("manifest".to_owned(), raw(&self.manifest())));
        raw(&object)
    }

    /// The manifest, normalised and redacted (TrueFoundry 5.5, 10).
    pub fn manifest(&self) -> Members {
        let mut manifest = Members::default();
        let mut set = |name: &str, value: &Value| manifest.0.push((name.to_owned(), raw(value)));
        let mut rest = self.rest.clone();
        set("type", &"mcp-server/remote".into());
        set("name", &self.name.into());
        if let Some(display_name) = rest.shift_remove("display_name") {
            set("display_name", &display_name);
        }
        set("description", &self.description.into());
        set("url", &self.url.as_str().into());
        set(
            "collaborators",
            &rest
                .shift_remove("collaborators")
                .unwrap_or_else(|| json!([])),
        );
        if let Some(auth) = auth_data(self.auth) {
            set("auth_data", &auth);
        }
        if let Some(names) = self.additional_headers {
            set("additional_headers", &redacted(names.iter()));
        }
        for (name, value) in &rest {
            set(name, value);
        }
        if let Some(tags) = self.tags {
            manifest.0.push(("tags".to_owned(), tags.get()));
        }
        manifest
    }
}

fn auth_data(auth: &Auth) -> Option<Value> {
    match auth {
        Auth::None | Auth::LegacyProvider { .. } => None,
        Auth::Passthrough => Some(json!({"type": "passthrough"})),
        Auth::Headers { level, headers } => {
            let shown = headers.iter().map(|h| {
                (
                    h.name.clone(),
                    h.template.as_deref().unwrap_or(REDACTED).into(),
                )
            });
            let level = match level {
                AuthLevel::Global => "global",
                AuthLevel::PerUser => "per_user",
            };
            Some(
                json!({"type": "header", "headers": shown.collect::<Map<_, _>>(), "auth_level": level}),
            )
        }
        Auth::Oauth(oauth) => Some(oauth2(oauth)),
    }
}

fn oauth2(oauth: &OauthConfig) -> Value {
    let mut object = Map::from_iter([("type".to_owned(), "oauth2".into())]);
    if let Ok(Value::Object(fields)) = serde_json::to_value(oauth) {
        object.extend(fields);
    }
    object.shift_remove("has_client_secret");
    object.shift_remove("token_params");
    if oauth.has_client_secret {
        object.insert("client_secret".to_owned(), REDACTED.into());
    }
    if let Some(names) = &oauth.token_params {
        object.insert("additional_token_params".to_owned(), redacted(names.iter()));
    }
    object.into()
}

fn redacted<'a>(names: impl Iterator<Item = &'a String>) -> Value {
    names
        .map(|name| (name.clone(), Value::from(REDACTED)))
        .collect::<Map<_, _>>()
        .into()
}
