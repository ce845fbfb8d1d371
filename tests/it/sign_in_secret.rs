//! The secret of the client at the identity provider, where the operator names it by its ARN: read from its store by whoever asks
//! the provider, and anew when the provider refuses it.

use crate::harness::{Ground, Hawser, ample, stopped};
use crate::identity_provider::{CLIENT, Provider, SECRET};
use crate::integrations::Stores;
use crate::logins::*;
use hawser_core::domain::integration::SecretReference;
use hawser_core::operations::scheduler::process_due;
use hawser_core::state::config::{ProviderSecret, SignInPlace};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:sign-in-AbCdEf";

struct Stage {
    hawser: Hawser,
    provider: Provider,
    stores: Stores,
}

impl Stage {
    async fn set() -> Self {
        let (provider, stores) = (Provider::start(), Stores::start().await);
        let mut settings = provider.settings();
        if let SignInPlace::Provider(config) = &mut settings.place {
            let reference = SecretReference::parse_arn(&format!("{ARN}#client")).unwrap();
            config.secret = Some(ProviderSecret::Reference(reference));
        }
        let reached = stores.reached();
        let hawser = Hawser::restarted(
            Ground::new().await,
            |config| config.sign_in = settings,
            |app| {
                stopped(app);
                app.secret_stores = reached;
            },
        );
        let hawser = hawser.await;
        let end = hawser.app.now().seconds() + 2 * DAY;
        provider.vouches_for(Some(json!({
            "iss": provider.issuer, "aud": CLIENT, "sub": "ada", "exp": end,
        })));
        Self {
            hawser,
            provider,
            stores,
        }
    }

    fn holds(&self, secret: &str) {
        let kept = json!({"client": secret}).to_string();
        let answer = json!({"ARN": ARN, "Name": "sign-in", "SecretString": kept});
        self.stores.answers(200, answer);
    }

    /// How often the secret was read since it was last asked.
    fn reads(&self) -> usize {
        let asked = self.stores.asked();
        for (operation, body) in &asked {
            assert_eq!(operation, "secretsmanager.getsecretvalue");
            assert_eq!(body["SecretId"], ARN);
        }
        asked.len()
    }

    async fn login(&self) -> (Tokens, String) {
        let mut allowed = allowed(&self.hawser, "acme", "user:ada").await;
        allowed.provider_token = Some("provider-refresh".into());
        let tokens = signed_in_as(&self.hawser, allowed).await;
        let id = only(&tokens.caller(&self.hawser)).await;
        (tokens, id)
    }

    async fn end(&self, id: &str) -> Value {
        let path = format!("/v1/logins/{id}");
        let ended = self.hawser.admin("acme").delete(&path).await;
        assert_eq!(ended.status, 200, "{ended:?}");
        ended.json()["data"]["id"].clone()
    }

    async fn outcomes(&self, receipt: &Value) -> Value {
        let path = format!("/v1/receipts/{}", receipt.as_str().unwrap());
        let answer = self.hawser.admin("acme").get(&path).await.json();
        answer["data"]["outcomes"].clone()
    }
}

#[tokio::test]
async fn who_asks_the_provider_reads_the_secret_from_its_store_and_keeps_it_for_a_while() {
    let stage = Stage::set().await;
    stage.holds(SECRET);
    let (mut tokens, id) = stage.login().await;
    assert_eq!(stage.reads(), 0, "nobody has asked the provider");
    for (pass, reads) in [(0, 1), (299, 0), (1, 1)] {
        stage.hawser.pass(pass);
        tokens = Tokens::of(&refresh(&stage.hawser, &tokens.refresh).await);
        assert_eq!(stage.reads(), reads, "after {pass} seconds");
    }
    assert_eq!(stage.provider.asked().len(), 3);
    // The worker that revokes asks as the same client.
    stage.hawser.pass(300);
    let receipt = stage.end(&id).await;
    assert_eq!(stage.reads(), 0, "whoever ends a login asks nobody");
    while process_due(&stage.hawser.app, ample()).await.unwrap() {}
    assert_eq!(stage.reads(), 1);
    assert_eq!(stage.outcomes(&receipt).await, json!({"revoked": 1}));
    stage.hawser.run_workers().await;
}

#[tokio::test]
async fn a_secret_that_the_provider_refuses_is_read_anew() {
    let stage = Stage::set().await;
    stage.holds("the-one-before");
    let (_, id) = stage.login().await;
    let first = stage.end(&id).await;
    while process_due(&stage.hawser.app, ample()).await.unwrap() {}
    assert_eq!(stage.reads(), 2, "and it is still the same");
    assert_eq!(stage.outcomes(&first).await, Value::Null);
    // What was kept of it is the one before.
    stage.holds(SECRET);
    let (_, id) = stage.login().await;
    let second = stage.end(&id).await;
    while process_due(&stage.hawser.app, ample()).await.unwrap() {}
    assert_eq!(stage.reads(), 1);
    assert_eq!(stage.outcomes(&second).await, json!({"revoked": 1}));
    assert_eq!(stage.outcomes(&first).await, Value::Null, "not due yet");
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_waited_for_and_never_said() {
    let stage = Stage::set().await;
    stage
        .stores
        .answers(500, json!({"__type": "InternalServiceError"}));
    let (tokens, id) = stage.login().await;
    Tokens::of(&refresh(&stage.hawser, &tokens.refresh).await);
    assert_eq!(stage.provider.asked().len(), 0);
    let receipt = stage.end(&id).await;
    while process_due(&stage.hawser.app, ample()).await.unwrap() {}
    assert_eq!(stage.outcomes(&receipt).await, Value::Null);
    stage.holds(SECRET);
    stage.hawser.pass(60);
    while process_due(&stage.hawser.app, ample()).await.unwrap() {}
    assert_eq!(stage.outcomes(&receipt).await, json!({"revoked": 1}));
    let stored = Value::from(stage.hawser.ground().items().await).to_string();
    assert!(!stored.contains(SECRET));
}
