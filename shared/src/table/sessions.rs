//! Authorization sessions in their server's partition. Each step is conditional on the one before it, so that a URL and
//! a callback serve once.

use super::reasons::{REMOVALS, StoredReason};
use super::{
    Condition, Found, Key, Table, Update, Write, audit_log, encode, failed, keys, n, readable, s,
};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::session::{Origin, Phase, Session};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::table::guard;
use serde::{Deserialize, Serialize};

/// Key of a session.
pub fn key(tenant: &TenantId, server: ServerId, id: &str) -> Key {
    keys::session(tenant, server, id)
}

impl Found {
    /// The session with this id, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn session(
        &self,
        tenant: &TenantId,
        server: ServerId,
        id: &str,
    ) -> Result<Option<Session>> {
        self.get(&key(tenant, server, id))
    }
}

impl Found {
    /// The id of the session under [`open_key`], if that was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn open_consent(&self, key: &Key) -> Result<Option<String>> {
        let open: Option<OpenConsent> = self.get(key)?;
        Ok(open.map(|open| open.session))
    }
}

fn key_of(session: &Session) -> Key {
    key(&session.tenant, session.server, &session.id)
}

/// The pointer to the open consent of a subject at a server.
#[derive(Debug, Serialize, Deserialize)]
struct OpenConsent {
    /// The session's id.
    session: String,
    ttl: i64,
}

/// Key of the pointer to the open consent.
pub fn open_key(tenant: &TenantId, server: ServerId, subject: &Subject, origin: &Origin) -> Key {
    keys::open_consent(tenant, server, subject, &origin.slot())
}

/// For a transaction that begins a consent.
pub(crate) fn put(session: &Session) -> Result<Write> {
    let item = encode(&key_of(session), "session", session)?;
    Ok(Write::Put(item, Condition::Absent))
}

/// Moves a session from one phase to the next.
pub(crate) fn step(session: &Session, from: Phase, to: Phase) -> Write {
    Update::set(
        key_of(session),
        vec![("phase", s(to.as_str()))],
        Condition::Has(vec![("phase", s(from.as_str()))]),
    )
}

impl Table {
    /// Begins the one consent that is open for those who ask alike, as long as the server stands as it was read.
    /// `replacing` is the session that was found in this place. Returns `false` if the server has changed, or another call was
    /// first.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_session(
        &self,
        session: &Session,
        replacing: Option<&str>,
        event: &Event,
    ) -> Result<bool> {
        let Session { tenant, server, .. } = session;
        let server_check = guard::require_server(tenant, *server, Some(session.auth_revision));
        let open = OpenConsent {
            session: session.id.clone(),
            ttl: session.ttl,
        };
        let key = open_key(tenant, *server, &session.subject, &session.origin);
        let condition = replacing.map_or(Condition::Absent, |old| {
            Condition::Has(vec![("session", s(old))])
        });
        let open = Write::Put(encode(&key, "open-consent", &open)?, condition);
        self.write_if(vec![
            put(session)?,
            server_check,
            open,
            audit_log::put(event)?,
        ])
        .await
    }

    /// Replaces an offered session by the same one, asked for again, as long as the server stands. Returns `false` if it was
    /// opened or asked for meanwhile.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn renew_session(
        &self,
        read: &Session,
        renewed: &Session,
        event: &Event,
    ) -> Result<bool> {
        let unchanged = Condition::Has(vec![
            ("phase", s(Phase::Offered.as_str())),
            ("at", n(read.at.micros())),
        ]);
        let item = encode(&key_of(renewed), "session", renewed)?;
        let server_check =
            guard::require_server(&read.tenant, read.server, Some(read.auth_revision));
        self.write_if(vec![
            Write::Put(item, unchanged),
            server_check,
            audit_log::put(event)?,
        ])
        .await
    }

    /// Replaces a session that was offered by one whose issuer is known. Returns `false` if its URL was used before.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn open_session(
        &self,
        session: &Session,
        offered_hash: &str,
        event: &Event,
    ) -> Result<bool> {
        let item = encode(&key_of(session), "session", session)?;
        let unused = Condition::Has(vec![
            ("phase", s(Phase::Offered.as_str())),
            ("secret_hash", s(offered_hash)),
        ]);
        self.write_if(vec![Write::Put(item, unused), audit_log::put(event)?])
            .await
    }

    /// Takes a pending session for its one callback, until `until`. Returns `false` if another callback has.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn claim_session(
        &self,
        session: &Session,
        until: Timestamp,
        event: &Event,
    ) -> Result<bool> {
        let claim = Update::set(
            key_of(session),
            vec![
                ("phase", s(Phase::Exchanging.as_str())),
                ("busy_until", n(until.micros())),
            ],
            Condition::Has(vec![
                ("phase", s(Phase::Pending.as_str())),
                ("secret_hash", s(&session.secret_hash)),
            ]),
        );
        // The purge of a server leaves alone what is claimed, so nothing may be claimed once it looks.
        let server_check =
            guard::require_server(&session.tenant, session.server, Some(session.auth_revision));
        self.write_if(vec![claim, server_check, audit_log::put(event)?])
            .await
    }

    /// Ends a session without a grant. One that is gone needs no end.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn fail_session(&self, session: &Session, from: Phase, event: &Event) -> Result<()> {
        self.write_if(vec![
            step(session, from, Phase::Failed),
            audit_log::put(event)?,
        ])
        .await
        .map(drop)
    }

    /// Ends a session because its subject refused, and keeps that as the reason why there is no grant. Returns `false` if the
    /// subject was disconnected or offboarded since it was begun, the server has changed, or the session was ended before.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn deny_session(
        &self,
        session: &Session,
        kept: &StoredReason<'_>,
        event: &Event,
    ) -> Result<bool> {
        let writes = vec![
            step(session, Phase::Exchanging, Phase::Failed),
            guard::require_server(&session.tenant, session.server, Some(session.auth_revision)),
            kept.write(
                &session.tenant,
                session.server,
                &[],
                Condition::Counts(REMOVALS, session.removals),
            )?,
            guard::require_subject(&session.tenant, &session.subject, session.offboardings),
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// The sessions that a subject has begun at a server since `since`, oldest first; `most` at most.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn sessions_since(
        &self,
        tenant: &TenantId,
        server: ServerId,
        subject: &Subject,
        since: Timestamp,
        most: i32,
    ) -> Result<Vec<Session>> {
        let prefix = format!("{}{}", keys::SESSIONS, Session::tag(subject));
        let first = Sortable::first_of(since).ulid();
        let answer = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("PK = :pk AND SK BETWEEN :start AND :end")
            .expression_attribute_values(":pk", s(keys::server_partition(tenant, server)))
            .expression_attribute_values(":start", s(format!("{prefix}{first}")))
            .expression_attribute_values(":end", s(format!("{prefix}[")))
            .limit(most)
            .send()
            .await
            .map_err(failed)?;
        let items = answer.items.unwrap_or_default();
        let sessions = items.iter().filter_map(readable::<Session>);
        Ok(sessions.filter(|one| one.subject == *subject).collect())
    }

    /// The open sessions of a subject at a server.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn open_sessions(
        &self,
        tenant: &TenantId,
        server: ServerId,
        subject: &Subject,
    ) -> Result<Vec<Session>> {
        let partition = keys::server_partition(tenant, server);
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let prefix = format!("{}{}", keys::SESSIONS, Session::tag(subject));
            let (items, next) = self
                .query_page(partition.clone(), &prefix, after, 200)
                .await?;
            for item in &items {
                let Some(session) = readable::<Session>(item) else {
                    // Whatever it is, no callback finds it either.
                    continue;
                };
                let open = !matches!(session.phase, Phase::Completed | Phase::Failed);
                if open && session.subject == *subject {
                    all.push(session);
                }
            }
            after = next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}
