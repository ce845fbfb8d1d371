//! Providers that revoke in ways of their own, as their documentation has it. They know the tokens and the clients of the issuer
//! beside them.

use super::endpoints::{basic, empty, json};
use super::{Logged, Reply, State};
use serde_json::{Value, json};

impl State {
    /// The answer to a request for one of their endpoints.
    pub(super) fn provider(&mut self, call: &Logged) -> Option<Result<Reply, Reply>> {
        let segments: Vec<_> = call.path.split('/').skip(1).collect();
        let answer = match (call.method.as_str(), &segments[..]) {
            ("DELETE", ["applications", client, "token"]) => self.github(client, call),
            ("DELETE", ["oauth", "v1", "refresh-tokens", token]) => self.hubspot(token),
            ("POST", ["api", "auth.revoke"]) => self.slack(call),
            _ => return None,
        };
        Some(Ok(answer))
    }

    /// GitHub, "Delete an app token": HTTP Basic of the app, the access token in a JSON body, 204.
    fn github(&mut self, client: &str, call: &Logged) -> Reply {
        let known = call.header("authorization").and_then(basic);
        let is_app = known.is_some_and(|(id, secret)| {
            let apps = &self.settings.static_clients;
            id == client
                && apps
                    .iter()
                    .any(|app| app.id == id && app.secret.as_deref() == Some(&*secret))
        });
        let told = |status, message: &str| json(status, &json!({"message": message}));
        if !is_app {
            return told(401, "Bad credentials");
        }
        let body: Value = serde_json::from_str(&call.body).unwrap_or_default();
        let Some(token) = body["access_token"].as_str() else {
            return told(422, "Validation Failed");
        };
        match self.end_access(client, token) {
            true => empty(204),
            false => told(404, "Not Found"),
        }
    }

    /// HubSpot, "Delete a refresh token": 204, and access tokens live on.
    fn hubspot(&mut self, token: &str) -> Reply {
        let mut live = self.issued.iter_mut().filter(|one| one.refresh_live);
        match live.find(|one| one.refresh.as_deref() == Some(token)) {
            Some(one) => {
                one.refresh_live = false;
                empty(204)
            }
            None => json(
                404,
                &json!({"status": "error", "category": "OBJECT_NOT_FOUND"}),
            ),
        }
    }

    /// Slack, `auth.revoke`: 200 to everything.
    fn slack(&mut self, call: &Logged) -> Reply {
        let token = call.bearer().unwrap_or_default().to_owned();
        let owner = self.issued.iter().find(|one| one.access == token);
        let client = owner.map(|one| one.client_id.clone()).unwrap_or_default();
        let body = match self.end_access(&client, &token) {
            true => json!({"ok": true, "revoked": true}),
            false if !client.is_empty() => json!({"ok": false, "error": "token_revoked"}),
            false => json!({"ok": false, "error": "invalid_auth"}),
        };
        json(200, &body)
    }

    /// Ends a living access token of a client; whether there was one.
    fn end_access(&mut self, client: &str, token: &str) -> bool {
        let mut live = self.issued.iter_mut().filter(|one| one.access_works());
        let one = live.find(|one| one.client_id == client && one.access == token);
        one.map(|one| one.access_live = false).is_some()
    }
}
