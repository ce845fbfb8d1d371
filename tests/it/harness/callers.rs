//! Who calls Hawser, and what is answered.

use super::{Hawser, Seen, hold, now};
use hawser_core::auth::Use;
use hawser_core::auth::api_key::{mint_api_key, mint_personal};
use hawser_core::domain::api_key::ApiKey;
use hawser_core::domain::caller;
use hawser_core::domain::event::Action;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::subject::Subject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

impl Hawser {
    /// A caller with a token of exactly these claims.
    pub fn claims(&self, claims: Value) -> Caller {
        let token = self.ground.identity.token(claims).unwrap();
        self.with(vec![("authorization", format!("Bearer {token}"))])
    }

    /// A user of a tenant with further claims.
    pub fn caller(&self, tenant: &str, subject: &str, more: Value) -> Caller {
        let end = self.app.now().seconds() + 100 * 24 * 3600;
        let mut claims = json!({"tenantName": tenant, "sub": subject, "exp": end});
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.claims(claims)
    }

    /// A user of a tenant as operations know it.
    pub async fn authenticated_caller(&self, tenant: &str, subject: &str) -> caller::Caller {
        let claims = json!({"tenantName": tenant, "sub": subject, "exp": now() + 600});
        let token = self.ground.identity.token(claims).unwrap();
        let who = self
            .app
            .present_token(&token, Use::Management)
            .await
            .unwrap();
        self.app.identify(who).await.unwrap()
    }

    /// A caller who may do everything in a tenant under every contract.
    pub fn admin(&self, tenant: &str) -> Caller {
        let permissions =
            ["create", "read", "update", "delete", "invoke"].map(|p| format!("mcp-servers:{p}"));
        let all = json!({"roles": ["admin"], "permissions": permissions, "scope": "mgmt.read mgmt.write mgmt.admin"});
        self.caller(tenant, "root", all)
    }

    /// A caller with a fresh API key of `owner` (such as `user:ada`; `None` for a service key). `grants` may hold `roles`,
    /// `teams`, `permissions`, `scopes`, and `expires_in` seconds.
    pub async fn api_key(&self, tenant: &str, owner: Option<&str>, grants: Value) -> Caller {
        let tenant = TenantId::parse(tenant).unwrap();
        let made = mint_api_key(&tenant, self.app.now()).unwrap();
        let text = self.add_key(&tenant, owner, grants, made).await;
        self.with(vec![("x-api-key", text)])
    }

    /// A caller with a fresh personal access token of `owner`. `grants` may also hold `bound_to`, its
    /// connection, and `expires_in`, in seconds.
    pub async fn personal(&self, tenant: &str, owner: &str, grants: Value) -> Caller {
        let tenant = TenantId::parse(tenant).unwrap();
        let made = mint_personal(self.app.now()).unwrap();
        let text = self.add_key(&tenant, Some(owner), grants, made).await;
        self.with(vec![("authorization", format!("Bearer {text}"))])
    }

    async fn add_key(
        &self,
        tenant: &TenantId,
        owner: Option<&str>,
        grants: Value,
        (id, text, secret_hash): (String, SecretString, String),
    ) -> String {
        let list = |name: &str| serde_json::from_value(grants[name].clone()).unwrap_or_default();
        let now = self.app.now();
        let key = ApiKey {
            id,
            secret_hash,
            owner: owner.map(|owner| Subject::parse(owner).unwrap()),
            email: None,
            label: None,
            roles: list("roles"),
            teams: list("teams"),
            permissions: list("permissions"),
            scopes: list("scopes"),
            personal: text.expose_secret().starts_with("pat_"),
            bound_to: grants["bound_to"].as_u64(),
            created_at: now,
            expires_at: grants["expires_in"]
                .as_i64()
                .map(|life| now.plus_seconds(life)),
        };
        let made = self.event(tenant, Action::KeyCreated).of_key(&key.id);
        let table = &self.app.table;
        table.add_api_key(tenant, &key, &made).await.unwrap();
        text.expose_secret().to_owned()
    }

    pub fn anonymous(&self) -> Caller {
        self.with(Vec::new())
    }

    /// A caller who sends exactly these headers.
    pub fn with(&self, headers: Vec<(&'static str, String)>) -> Caller {
        Caller {
            url: self.url.clone(),
            http: self.http.clone(),
            headers,
        }
    }
}

/// Someone who sends requests.
#[derive(Clone)]
pub struct Caller {
    url: String,
    http: reqwest::Client,
    pub headers: Vec<(&'static str, String)>,
}

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    headers: Vec<(String, String)>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
    }

    /// Asserts status and body together.
    #[track_caller]
    pub fn is(&self, status: u16, body: Value) {
        assert_eq!((self.status, self.json()), (status, body));
    }
}

impl Caller {
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.url));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await.unwrap();
        let headers = response.headers().iter();
        let headers = headers
            .map(|(n, v)| {
                (
                    n.to_string(),
                    String::from_utf8_lossy(v.as_bytes()).into_owned(),
                )
            })
            .collect();
        let answer = Answer {
            status: response.status().as_u16(),
            headers,
            text: response.text().await.unwrap(),
        };
        hold(&Seen {
            method,
            path: path.split('?').next().unwrap_or_default(),
            status: answer.status,
            headers: &answer.headers,
            body: &answer.text,
        });
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Vec::new()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], Vec::new()).await
    }

    pub async fn delete_with(&self, path: &str, body: Value) -> Answer {
        self.send("DELETE", path, &[], body.to_string().into_bytes())
            .await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &[], body.to_string().into_bytes())
            .await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, &[], body.to_string().into_bytes())
            .await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, &[], body.to_string().into_bytes())
            .await
    }
}
