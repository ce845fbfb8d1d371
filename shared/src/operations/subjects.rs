//! Offboarding: all that one subject has, on every server of the tenant, taken away by one call.

use super::{Permitted, Taking};
use crate::app::App;
use crate::domain::credential::KeptReason;
use crate::domain::event::{Action, Event, Worker};
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::server::Auth;
use crate::domain::session::Session;
use crate::domain::status::Reason;
use crate::domain::subject::Subject;
use crate::table::credentials::{Credential, Outcome, record_keys};
use crate::table::receipts::{Counts, Outcomes, Receipt, Removed};
use crate::table::work::Offboarding;
use crate::{Error, Result};
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// Servers whose records are read at once: three keys each, and a batch holds a hundred.
pub(super) const SERVERS_AT_ONCE: usize = 33;
/// How often the servers are gone through for what was replaced meanwhile.
const PASSES: usize = 5;
/// How long a call works on it; what is left then goes on in the background.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes away every credential of a subject, and its pending consents. Each is out of every read path as soon as it is counted on the receipt; the
/// work is written down before the first of them goes, so it is finished whatever happens to this process.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn offboard(app: &App, subject: &Permitted<Subject>) -> Result<Receipt> {
    let now = app.now();
    let tenant = &subject.caller.tenant;
    let receipt = Receipt {
        id: Sortable::new(now)?.ulid(),
        removed: Removed::Subject {
            subject: subject.found.clone(),
        },
        server: None,
        actor: subject.caller.actor.clone(),
        at: now,
        closed: false,
        changed_at: None,
        counts: Some(Counts::default()),
        outcomes: Outcomes::default(),
        presented: Vec::new(),
    };
    let offboarding = Offboarding {
        tenant: tenant.clone(),
        subject: subject.found.clone(),
        receipt: receipt.id.clone(),
        at: now,
    };
    let event = Event::new(now, tenant, &subject.caller, Action::SubjectOffboarded)?
        .of(&subject.found)
        .under(Some(&receipt.id));
    app.table
        .begin_offboarding(&offboarding, &receipt, &event)
        .await?;
    match timeout(PATIENCE, carry_out(app, &offboarding)).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => warn!(%cause, "an offboarding goes on in the background"),
        Err(_) => warn!("an offboarding takes long and goes on in the background"),
    }
    app.work_appeared.notify_one();
    let read = app
        .table
        .read(vec![crate::table::receipts::key(tenant, &receipt.id)])
        .await?;
    read.receipt(tenant, &receipt.id)?
        .ok_or_else(|| Error::internal("a receipt is missing"))
}

/// What offboarding the subject would take away.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn rehearse(app: &App, subject: &Permitted<Subject>) -> Result<Taking> {
    let mut taking = Taking::default();
    let standing = standing(app, &subject.caller.tenant, &subject.found).await?;
    for (_, credential) in &standing.credentials {
        taking.add(credential);
    }
    Ok(taking)
}

/// Does or goes on with an offboarding.
pub(super) async fn carry_out(app: &App, offboarding: &Offboarding) -> Result<()> {
    let Offboarding {
        tenant,
        subject,
        receipt,
        at,
    } = offboarding;
    if !app.table.has_offboarding(offboarding).await? {
        return Ok(());
    }
    for _ in 0..PASSES {
        let standing = standing(app, tenant, subject).await?;
        if standing.credentials.is_empty() && standing.consents.is_empty() {
            return app.table.finish_offboarding(offboarding, app.now()).await;
        }
        let kept = KeptReason::removed(subject, Reason::Revoked, *at);
        let event = |action| {
            let event = Event::new(app.now(), tenant, Worker::Offboarding, action)?;
            Ok::<_, Error>(event.of(subject).under(Some(receipt)))
        };
        for session in &standing.consents {
            let mut ended = event(Action::SessionEnded)?.at(session.server);
            ended.session = session.ulid();
            let phase = session.phase;
            app.table.fail_session(session, phase, &ended).await?;
        }
        for (server, credential) in &standing.credentials {
            let event = event(Action::CredentialRemoved)?
                .at(*server)
                .from(credential.source());
            let removed = app
                .table
                .offboard_credential(tenant, *server, credential, &kept, receipt, &event)
                .await?;
            if removed == Outcome::ReceiptClosed {
                // Another worker has finished: what is stored since is none of this offboarding's.
                return app.table.finish_offboarding(offboarding, app.now()).await;
            }
        }
    }
    // Someone installs as fast as this removes. It stays due, and its receipt does not claim otherwise.
    Err(Error::Contended)
}

/// What a subject has.
#[derive(Default)]
struct Standing {
    credentials: Vec<(ServerId, Credential)>,
    consents: Vec<Session>,
}

/// The subject's credentials that their servers stand behind, and the consents in progress. Read from the servers
/// themselves: an index would lag.
async fn standing(app: &App, tenant: &TenantId, subject: &Subject) -> Result<Standing> {
    let servers = app.table.servers(tenant).await?;
    let mut all = Standing::default();
    // Sessions first: one that completes meanwhile shows as the grant that it became.
    for server in servers
        .iter()
        .filter(|one| matches!(one.auth, Auth::Oauth(_)))
    {
        let open = app.table.open_sessions(tenant, server.id, subject).await?;
        all.consents.extend(open);
    }
    for some in servers.chunks(SERVERS_AT_ONCE) {
        let keys = some
            .iter()
            .flat_map(|server| record_keys(tenant, server.id, subject));
        let found = app.table.read(keys.collect()).await?;
        for server in some {
            let records = found.records(tenant, server, subject)?;
            let own = records.own.map(|own| Credential::Override(Box::new(own)));
            let grant = records.grant.map(|one| Credential::Grant(Box::new(one)));
            all.credentials
                .extend(own.into_iter().chain(grant).map(|one| (server.id, one)));
        }
    }
    Ok(all)
}
