//! A server at which tests write by hand, as two processes would that do not know of each other.

use crate::harness::{Cut, Hawser};
use hawser_core::domain::credential::{Credential, Grant, Stored};
use hawser_core::domain::event::{Action, Event, Worker};
use hawser_core::domain::id::{ServerId, Sortable, TenantId};
use hawser_core::domain::reason::Reason;
use hawser_core::domain::receipt::Receipt;
use hawser_core::domain::revocation::Revocation;
use hawser_core::domain::session::Session;
use hawser_core::domain::subject::Subject;
use hawser_core::table::credentials::{Granting, WriteOutcome, record_keys};
use hawser_core::table::reasons::StoredReason;
use serde_json::json;

/// A server of tenant `acme`, and what is written at it by hand.
pub struct Scene {
    pub hawser: Hawser,
    pub tenant: TenantId,
    pub subject: Subject,
    pub mcp: String,
    pub id: ServerId,
}

impl Scene {
    pub async fn new() -> Self {
        let hawser = Hawser::start().await;
        let auth = json!({"type": "oauth2"});
        let mcp = hawser.admin("acme").register("wiki", auth, &[]).await.mcp;
        Self {
            tenant: TenantId::parse("acme").unwrap(),
            subject: Subject::parse("user:ada").unwrap(),
            id: ServerId::parse_prefixed(&mcp).unwrap(),
            hawser,
            mcp,
        }
    }

    pub fn event(&self, action: Action) -> Event {
        self.hawser.event(&self.tenant, action)
    }

    pub async fn grant(&self) -> Option<Grant> {
        let keys = record_keys(&self.tenant, self.id, &self.subject);
        let found = self.hawser.app.table.read(keys.into()).await.unwrap();
        found.grant(&self.tenant, self.id, &self.subject).unwrap()
    }

    pub fn new_grant(&self, version: &str) -> Grant {
        serde_json::from_value(json!({
            "server": self.id, "subject_type": "user", "subject_id": "ada", "auth_revision": 1, "version": version,
            "issuance": {"issuer": "https://as.example", "token_endpoint": "https://as.example/token",
                         "client": {"id": "c", "auth": "none", "source": "metadata_document"}},
            "scopes": [], "obtained_at": 0, "lifetime": null, "expires_at": null, "refreshable": true,
            "last_refresh": null, "sealed": [1, 2, 3],
        }))
        .unwrap()
    }

    /// A consent in this phase, written down.
    pub async fn session(&self, phase: &str) -> Session {
        let now = self.hawser.app.now();
        // Each in a place of its own.
        let origin = json!({"kambrium": {"integration": Sortable::new(now).unwrap()}});
        let session: Session = serde_json::from_value(json!({
            "id": Sortable::new(now).unwrap().ulid(), "tenant": "acme", "server": self.id, "subject_type": "user",
            "subject_id": "ada", "auth_revision": 1, "at": now, "origin": origin,
            "phase": phase, "secret_hash": "h", "ttl": now.plus_seconds(86_400).seconds(),
        }))
        .unwrap();
        let begun = self.event(Action::SessionBegun);
        let table = &self.hawser.app.table;
        assert!(table.add_session(&session, None, &begun).await.unwrap());
        session
    }

    pub async fn put(&self, session: &Session, version: &str) -> WriteOutcome {
        self.put_over(self.grant().await, session, version).await
    }

    /// Stores a grant where this one was read.
    pub async fn put_over(
        &self,
        read: Option<Grant>,
        session: &Session,
        version: &str,
    ) -> WriteOutcome {
        let stored = Stored {
            grant: read,
            reason: None,
        };
        let grant = self.new_grant(version);
        let granting = Granting {
            grant: &grant,
            replacing: &stored,
            revocation: None,
            session,
        };
        let event = self.event(Action::CredentialGranted);
        let table = &self.hawser.app.table;
        table.put_grant(&granting, &event).await.unwrap()
    }

    /// What a worker tells.
    pub fn event_of(&self, worker: Worker, action: Action) -> Event {
        Event::new(self.hawser.app.now(), &self.tenant, worker, action).unwrap()
    }

    pub async fn disconnect(&self) {
        let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
        let path = format!("/api/svc/v1/mcp/{}/auth", self.mcp);
        let answer = self.hawser.admin("acme").delete_with(&path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Writes an offboarding down, which reaches none of the sessions.
    pub async fn offboard_in_part(&self) {
        self.hawser.wire.arm(Some(Cut::Before(2)));
        let path = "/v1/subjects/user/ada/credentials";
        self.hawser.admin("acme").delete(path).await;
        self.hawser.wire.arm(None);
    }

    /// Whether a refusal is kept as the reason why there is no grant.
    pub async fn deny(&self, session: &Session) -> bool {
        let kept = StoredReason {
            subject: &self.subject,
            reason: Reason::ConsentDenied,
            at: self.hawser.app.now(),
            auth_revision: 1,
        };
        let event = self.event(Action::SessionEnded);
        let table = &self.hawser.app.table;
        let denied = table.deny_session(session, &kept, &event).await;
        denied.unwrap()
    }

    pub async fn delete(&self) {
        let path = format!("/api/svc/v1/mcp/{}", self.mcp);
        assert_eq!(self.hawser.admin("acme").delete(&path).await.status, 200);
    }

    pub fn revocation(&self) -> Revocation {
        let now = self.hawser.app.now();
        Revocation::of(&self.tenant, &self.new_grant("v"), None, now).unwrap()
    }
}

impl Scene {
    pub fn kept(&self) -> StoredReason<'_> {
        StoredReason {
            subject: &self.subject,
            reason: Reason::Revoked,
            at: self.hawser.app.now(),
            auth_revision: 1,
        }
    }

    /// A receipt of nothing yet.
    pub fn new_receipt(&self) -> Receipt {
        let now = self.hawser.app.now();
        serde_json::from_value(json!({
            "id": Sortable::new(now).unwrap().ulid(), "removed": {"subject": {"subject_type": "user", "subject_id": "ada"}},
            "actor": {"subject_type": "user", "subject_id": "root"}, "at": now, "closed": true,
            "counts": {"oauth": 1, "overrides": 0},
        }))
        .unwrap()
    }

    pub async fn remove(&self, credential: &Credential) -> WriteOutcome {
        let (receipt, event) = (self.new_receipt(), self.event(Action::CredentialRemoved));
        let (table, kept) = (&self.hawser.app.table, self.kept());
        table
            .remove_credential(&self.tenant, self.id, credential, &kept, &receipt, &event)
            .await
            .unwrap()
    }

    /// A grant that is stored, as it was read.
    pub async fn granted(&self) -> Grant {
        let session = self.session("exchanging").await;
        assert_eq!(self.put(&session, "v1").await, WriteOutcome::Done);
        self.grant().await.unwrap()
    }
}
