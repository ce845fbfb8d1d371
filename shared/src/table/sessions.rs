//! Authorization sessions in their server's partition. Each step is conditional on the one before it, so that a URL and
//! a callback serve once.

use super::{
    Condition, Found, Key, Table, Update, Write, encode, failed, keys, n, readable, s, servers,
    trail,
};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::session::{Phase, Session};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::table::credentials::{Kept, REMOVALS};

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

fn key_of(session: &Session) -> Key {
    key(&session.tenant, session.server, &session.id)
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
    /// Begins a consent, as long as the server stands as it was read. Answers `false` if it does not.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_session(&self, session: &Session, event: &Event) -> Result<bool> {
        let stands = servers::stands(&session.tenant, session.server, Some(session.auth_revision));
        self.write_if(vec![put(session)?, stands, trail::put(event)?])
            .await
    }

    /// Replaces a session that was offered by one whose issuer is known. Answers `false` if its URL was used before.
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
        self.write_if(vec![Write::Put(item, unused), trail::put(event)?])
            .await
    }

    /// Takes a pending session for its one callback, until `until`. Answers `false` if another callback has.
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
        let stands = servers::stands(&session.tenant, session.server, Some(session.auth_revision));
        self.write_if(vec![claim, stands, trail::put(event)?]).await
    }

    /// Ends a session without a grant. One that is gone needs no end.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn fail_session(&self, session: &Session, from: Phase, event: &Event) -> Result<()> {
        self.write_if(vec![step(session, from, Phase::Failed), trail::put(event)?])
            .await
            .map(drop)
    }

    /// Ends a session because its subject refused, and keeps that as the reason why there is no grant. Answers `false` if the
    /// subject was disconnected since it was begun, or the session was ended before.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn deny_session(
        &self,
        session: &Session,
        kept: &Kept<'_>,
        event: &Event,
    ) -> Result<bool> {
        let writes = vec![
            step(session, Phase::Exchanging, Phase::Failed),
            servers::stands(&session.tenant, session.server, Some(session.auth_revision)),
            kept.write(
                &session.tenant,
                session.server,
                &[],
                Condition::Counts(REMOVALS, session.removals),
            )?,
            trail::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// How many sessions a subject has begun at a server since `since`; counted up to `most`.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn sessions_since(
        &self,
        tenant: &TenantId,
        server: ServerId,
        subject: &Subject,
        since: Timestamp,
        most: usize,
    ) -> Result<usize> {
        let prefix = format!("{}{}", keys::SESSIONS, Session::tag(subject));
        let first = Sortable::first_of(since).ulid();
        let answer = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("PK = :pk AND SK BETWEEN :start AND :end")
            .projection_expression("SK")
            .expression_attribute_values(":pk", s(keys::server_partition(tenant, server)))
            .expression_attribute_values(":start", s(format!("{prefix}{first}")))
            .expression_attribute_values(":end", s(format!("{prefix}[")))
            .limit(i32::try_from(most).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(failed)?;
        Ok(answer.items.map_or(0, |items| items.len()))
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
