//! Servers that tests register.

use super::{Answer, Caller, Hawser};
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A server under each of its names.
pub struct Registered {
    /// `mcp-` and the ULID.
    pub mcp: String,
    pub uuid: String,
    pub number: u64,
}

impl Registered {
    /// The end of the key of its partition.
    pub fn ulid(&self) -> &str {
        self.mcp.strip_prefix("mcp-").unwrap()
    }

    /// Whether an item lies in its partition.
    pub fn holds(&self, item: &Value) -> bool {
        item["PK"]
            .as_str()
            .unwrap()
            .ends_with(&format!("#S#{}", self.ulid()))
    }

    /// Its path under TrueFoundry, LangSmith and Kambrium.
    pub fn paths(&self) -> [String; 3] {
        [
            format!("/api/svc/v1/mcp/{}", self.mcp),
            format!("/v1/deepagents/mcp-servers/{}", self.uuid),
            format!("/api/v1/mcp-servers/{}", self.number),
        ]
    }
}

impl Caller {
    /// Registers a server with this authentication, and an override for each of these users; for callers who may do
    /// everything.
    pub async fn register(&self, name: &str, auth: Value, users: &[&str]) -> Registered {
        let manifest = json!({"type": "mcp-server/remote", "name": name, "description": "d",
                              "url": "https://x.example/mcp", "auth_data": auth});
        let made = self
            .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
            .await;
        assert_eq!(made.status, 200, "{made:?}");
        let mcp = made.json()["data"]["id"].as_str().unwrap().to_owned();
        for user in users {
            let answer = self.install(&mcp, "user", user).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        self.registered(&mcp).await
    }

    /// A server under each of its names.
    pub async fn registered(&self, mcp: &str) -> Registered {
        let server = self.get(&format!("/api/svc/v1/mcp/{mcp}")).await.json();
        let name = server["data"]["manifest"]["name"].as_str().unwrap();
        let named = |list: Value, field: &str| {
            list.as_array()
                .unwrap()
                .iter()
                .find(|one| one[field] == name)
                .unwrap()["id"]
                .clone()
        };
        let uuid = named(self.get("/v1/deepagents/mcp-servers").await.json(), "name");
        let number = named(
            self.get("/api/v1/mcp-servers").await.json()["data"].clone(),
            "mcp_server_name",
        );
        Registered {
            mcp: mcp.to_owned(),
            uuid: uuid.as_str().unwrap().to_owned(),
            number: number.as_u64().unwrap(),
        }
    }

    /// Gives a server `more` overrides like that of the user `ada`, as they are stored. Their values do not open.
    pub async fn multiply(&self, hawser: &Hawser, server: &Registered, more: usize) {
        let client = hawser.ground().dynamodb();
        let key = |sk: String| {
            let pk = format!("T#acme#S#{}", server.ulid());
            HashMap::from(
                [("PK", pk), ("SK", sk)].map(|(n, v)| (n.to_owned(), AttributeValue::S(v))),
            )
        };
        let one = client.get_item().table_name(hawser_local::TABLE);
        let one = one.set_key(Some(key("C#user#ada#override".to_owned())));
        let one = one.send().await.unwrap().item.unwrap();
        let like = |i: usize| {
            let mut item = one.clone();
            item.extend(key(format!("C#user#s{i}#override")));
            item.insert("subject_id".to_owned(), AttributeValue::S(format!("s{i}")));
            let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        };
        for start in (0..more).step_by(25) {
            let some = (start..more.min(start + 25)).map(like).collect();
            let write = client
                .batch_write_item()
                .request_items(hawser_local::TABLE, some);
            let left = write.send().await.unwrap().unprocessed_items;
            assert!(left.is_none_or(|left| left.is_empty()));
        }
    }

    /// Installs an override at a server.
    pub async fn install(&self, mcp: &str, kind: &str, subject: &str) -> Answer {
        let own = json!({"type": "header", "headerValue": "v"});
        let body = json!({"subjectId": subject, "subjectType": kind, "authOverride": own});
        self.put(&format!("/api/svc/v1/mcp/{mcp}/auth"), body).await
    }
}

/// Header authentication that each user fills in.
pub fn per_user() -> Value {
    json!({"type": "header", "headers": {"A": "{{KEY}}"}, "auth_level": "per_user"})
}
