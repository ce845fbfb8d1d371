//! Grants without a consent.

use super::Hawser;
use hawser_core::domain::credential::Grant;
use hawser_core::domain::event::Action;
use hawser_core::domain::id::{ServerId, Sortable, TenantId};
use hawser_core::domain::session::Session;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::table::credentials::{self, Granting, WriteOutcome};
use hawser_core::table::{servers, subjects};
use serde_json::json;

impl Hawser {
    /// Stores a grant of a user of tenant `acme`, as a finished consent does; its tokens do not open.
    pub async fn give_grant(&self, mcp: &str, user: &str, change: impl FnOnce(&mut Grant)) {
        let tenant = TenantId::parse("acme").unwrap();
        let server = ServerId::parse_prefixed(mcp).unwrap();
        let subject = Subject::new(SubjectType::User, user).unwrap();
        let mut grant: Grant = serde_json::from_value(json!({
            "server": server, "subject_type": "user", "subject_id": user, "auth_revision": 1, "version": "v1",
            "issuance": {"issuer": "https://as.example", "token_endpoint": "https://as.example/token",
                         "client": {"id": "c", "auth": "none", "source": "metadata_document"}},
            "scopes": ["read"], "obtained_at": 0, "lifetime": null, "expires_at": null, "refreshable": true,
            "last_refresh": null, "sealed": [1, 2, 3],
        }))
        .unwrap();
        change(&mut grant);
        let mut session: Session = serde_json::from_value(json!({
            "id": Sortable::new(self.app.now()).unwrap().ulid(), "tenant": "acme", "server": server,
            "subject_type": "user", "subject_id": user, "auth_revision": grant.auth_revision,
            "at": self.app.now(), "origin": {"kambrium": {"integration": Sortable::new(self.app.now()).unwrap()}}, "phase": "exchanging",
            "secret_hash": "", "ttl": self.app.now().plus_seconds(86_400).seconds(),
        }))
        .unwrap();
        let table = &self.app.table;
        let mut keys = Vec::from(credentials::record_keys(&tenant, server, &subject));
        keys.push(servers::key(&tenant, server));
        keys.push(subjects::key(&tenant, &subject));
        let found = table.read(keys).await.unwrap();
        let registered = found.server(&tenant, server).unwrap().unwrap();
        let records = found.records(&tenant, &registered, &subject).unwrap();
        session.removals = records.stored.removals();
        session.offboardings = found.offboardings(&tenant, &subject).unwrap();
        let begun = self.event(&tenant, Action::SessionBegun);
        assert!(table.add_session(&session, None, &begun).await.unwrap());
        let granting = Granting {
            grant: &grant,
            replacing: &records.stored,
            revocation: None,
            session: &session,
        };
        let granted = self.event(&tenant, Action::CredentialGranted);
        let stored = table.put_grant(&granting, &granted).await;
        assert_eq!(stored.unwrap(), WriteOutcome::Done);
    }
}
