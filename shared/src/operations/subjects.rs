//! Offboarding: removes all credentials of one subject on every server of the tenant, and ends the subject's logins.

use super::credentials::ServerAndRecords;
use super::logins::{self, Ending};
use super::{ATTEMPTS, DeletionPreview, Permitted, Removal, Tries, idempotency};
use crate::domain::credential::Credential;
use crate::domain::event::{Action, Event, Who, Worker};
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::idempotency::Keyed;
use crate::domain::job::Offboarding;
use crate::domain::login::{Login, LoginEnd};
use crate::domain::reason::Reason;
use crate::domain::receipt::{Receipt, Removed};
use crate::domain::server::{Auth, Server};
use crate::domain::session::Session;
use crate::domain::subject::{Actor, Subject, SubjectType};
use crate::state::app::App;
use crate::table::credentials::WriteOutcome;
use crate::table::logins::{Ended, Reported};
use crate::table::reasons::StoredReason;
use crate::{Error, Result, table};
use futures_util::future::try_join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// Servers that are read at once: four keys each, and a batch has at most a hundred.
const SERVERS_AT_ONCE: i32 = 25;
/// Logins that are read at once for subjects with a similar id.
const LOGINS_AT_ONCE: usize = 500;
/// The virtual account that receipts name as the actor when an operator runs `hawser` with access to the table.
const OPERATOR: &str = "operator";
/// How often servers are read again for credentials that were replaced meanwhile.
const PASSES: usize = 5;
/// How often a call retries after a failure of the store.
const LOST_ANSWERS: u32 = 3;
/// How long a dry run searches for subjects with a similar id.
const LOOKING_AROUND: Duration = Duration::from_secs(5);
/// How long a call works on an offboarding; a worker does what is left.
const CALL_TIME_LIMIT: Duration = Duration::from_secs(20);

/// Removes every credential of a subject, its logins and its pending consents. Each is out of every read path as soon as it is
/// counted on the receipt; the work item is stored first, so the offboarding completes even if this process dies.
///
/// # Errors
/// [`Error::KeyReused`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn offboard(
    app: &App,
    subject: &Permitted<Subject>,
    dry_run: bool,
    request: Option<&Keyed>,
) -> Result<Removal<Receipt>> {
    let Permitted { caller, found } = subject;
    let plan = plan(app, &caller.tenant, found)?;
    if dry_run {
        return count(app, &plan).await.map(Removal::Planned);
    }
    let receipt = match idempotency::earlier(app, &caller.tenant, request).await? {
        Some(receipt) => receipt,
        None => begin(app, plan, caller.actor.clone(), caller.into(), request).await?,
    };
    Ok(Removal::Done(receipt))
}

/// Offboards a subject for an operator who runs `hawser` with access to the table.
///
/// # Errors
/// As [`offboard`].
pub async fn offboard_by_operator(
    app: &App,
    tenant: &TenantId,
    subject: &Subject,
    dry_run: bool,
) -> Result<Removal<Receipt>> {
    let plan = plan(app, tenant, subject)?;
    if dry_run {
        return count(app, &plan).await.map(Removal::Planned);
    }
    let operator = Subject::new(SubjectType::VirtualAccount, OPERATOR)
        .ok_or_else(|| Error::internal("the operator has no name"))?;
    let actor = Actor {
        subject: operator,
        slug: None,
        display_name: None,
        key_label: None,
    };
    let receipt = begin(app, plan, actor, Who::Operator, None).await?;
    Ok(Removal::Done(receipt))
}

/// An offboarding that has not begun. Its number is only known when it does; until then it is later than everything there is.
fn plan(app: &App, tenant: &TenantId, subject: &Subject) -> Result<Offboarding> {
    let now = app.now();
    Ok(Offboarding {
        tenant: tenant.clone(),
        subject: subject.clone(),
        receipt: Sortable::new(now)?.ulid(),
        number: u64::MAX,
        at: now,
        after: None,
    })
}

async fn begin(
    app: &App,
    plan: Offboarding,
    actor: Actor,
    who: Who,
    request: Option<&Keyed>,
) -> Result<Receipt> {
    let (tenant, subject, now) = (&plan.tenant, &plan.subject, plan.at);
    let removed = Removed::Subject {
        subject: subject.clone(),
    };
    let receipt = Receipt::open(plan.receipt.clone(), removed, actor, now);
    let event = Event::new(now, tenant, who, Action::SubjectOffboarded)?
        .of(subject)
        .under(Some(&receipt.id));
    let mut begun = None;
    for _ in 0..ATTEMPTS {
        let keys = vec![table::subjects::key(tenant, subject)];
        let found = app.table.read(keys).await?;
        let numbered = Offboarding {
            number: found.offboardings(tenant, subject)? + 1,
            ..plan.clone()
        };
        let began = app
            .table
            .begin_offboarding(&numbered, &receipt, &event, request);
        if began.await? {
            begun = Some(numbered);
            break;
        }
        if let Some(earlier) = idempotency::earlier(app, tenant, request).await? {
            return Ok(earlier);
        }
    }
    let offboarding = begun.ok_or(Error::Contended)?;
    let until = Instant::now() + CALL_TIME_LIMIT;
    let mut tries = Tries::some(LOST_ANSWERS, CALL_TIME_LIMIT);
    while let Err(cause) = run(app, &offboarding, until).await {
        if !tries.wait().await {
            warn!(%cause, "an offboarding goes on in the background");
            break;
        }
    }
    app.work_appeared.notify_one();
    let mut tries = Tries::some(LOST_ANSWERS, CALL_TIME_LIMIT);
    loop {
        let keys = vec![table::receipts::key(tenant, &receipt.id)];
        match app.table.read(keys).await {
            Ok(read) => {
                let receipt = read.receipt(tenant, &receipt.id)?;
                return receipt.ok_or_else(|| Error::internal("a receipt is missing"));
            }
            Err(error) if !tries.wait().await => return Err(error),
            Err(_) => {}
        }
    }
}

/// Counts what an offboarding takes away.
async fn count(app: &App, offboarding: &Offboarding) -> Result<DeletionPreview> {
    let (tenant, subject) = (&offboarding.tenant, &offboarding.subject);
    let (found, _) = app.table.logins_of(tenant, subject).await?;
    let now = app.now();
    let ended = found
        .iter()
        .filter(|login| !login.is_over(now) && offboarding.ends(login));
    let mut preview = DeletionPreview::default();
    for login in ended {
        let counts = logins::counts_of(login);
        preview.counts.logins += counts.logins;
        preview.counts.provider_tokens += counts.provider_tokens;
    }
    let logins = preview.counts.logins;
    let mut after = None;
    loop {
        let servers = app
            .table
            .servers_after(tenant, after, SERVERS_AT_ONCE)
            .await?;
        let (servers, last) = servers;
        if last.is_none() {
            preview.subjects = preview.subjects.max(u64::from(logins > 0));
            return Ok(preview);
        }
        after = last;
        let servers: Vec<_> = servers.into_iter().flatten().collect();
        let found = find_subject_records(app, offboarding, &servers).await?;
        for (_, credential) in &found.credentials {
            preview.add(credential);
        }
    }
}

/// Ids of other subjects of the same type that have credentials and differ from this id only by case and spaces: the caller
/// may have meant one of them. The search ends after a few seconds.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn near_matches(
    app: &App,
    tenant: &TenantId,
    subject: &Subject,
) -> Result<BTreeSet<String>> {
    let like = |id: &str| id.trim().to_lowercase();
    let wanted = like(subject.id());
    let until = Instant::now() + LOOKING_AROUND;
    let is_near =
        |one: &Subject| one.kind() == subject.kind() && one != subject && like(one.id()) == wanted;
    let (mut near, mut after, mut before) = (BTreeSet::new(), None, None);
    loop {
        let page = app.table.logins_before(tenant, before, LOGINS_AT_ONCE);
        let (logins, next) = page.await?;
        let others = logins.iter().map(Login::subject).filter(|one| is_near(one));
        near.extend(others.map(|one| one.id().to_owned()));
        before = next;
        if Instant::now() >= until {
            return Ok(near);
        }
        if before.is_none() {
            break;
        }
    }
    loop {
        let page = app.table.servers_after(tenant, after, SERVERS_AT_ONCE);
        let (servers, last) = page.await?;
        for server in servers.iter().flatten() {
            let mut place = None;
            loop {
                let kind = subject.kind();
                let page = app.table.subjects_at(tenant, server.id, kind, place);
                let (subjects, next) = page.await?;
                let others = subjects.iter().filter(|one| is_near(one));
                near.extend(others.map(|one| one.id().to_owned()));
                place = next;
                if Instant::now() >= until {
                    return Ok(near);
                }
                if place.is_none() {
                    break;
                }
            }
        }
        after = last;
        if after.is_none() {
            return Ok(near);
        }
    }
}

/// Runs or continues an offboarding, server by server in the order of their creation, until a deadline.
pub(super) async fn run(app: &App, begun: &Offboarding, until: Instant) -> Result<()> {
    let Some(offboarding) = app.table.offboarding(begun).await? else {
        return Ok(());
    };
    let tenant = &offboarding.tenant;
    let mut after = offboarding.after;
    let mut failure = None;
    match end_logins(app, &offboarding).await {
        Ok(true) => {}
        Ok(false) => return app.table.finish_offboarding(begun, app.now()).await,
        Err(error @ (Error::Unavailable(_) | Error::Contended)) => return Err(error),
        Err(error) => failure = Some(error),
    }
    loop {
        let (found, last) = app
            .table
            .servers_after(tenant, after, SERVERS_AT_ONCE)
            .await?;
        let Some(last) = last else {
            // Nothing that can be read is left. What cannot be keeps the rest no longer, and its receipt open.
            return match failure {
                Some(error) => Err(error),
                None => app.table.finish_offboarding(begun, app.now()).await,
            };
        };
        let servers: Vec<_> = found.iter().flatten().cloned().collect();
        if servers.len() < found.len() {
            failure.get_or_insert(Error::internal(
                "an offboarding waits for an unreadable server",
            ));
        }
        match clear(app, &offboarding, &servers).await {
            Ok(true) => {}
            // Another worker has finished: what is stored since is none of this offboarding's.
            Ok(false) => return app.table.finish_offboarding(begun, app.now()).await,
            Err(error @ (Error::Unavailable(_) | Error::Contended)) => return Err(error),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
        after = Some(last);
        if Instant::now() >= until {
            return match failure {
                // From the same place again.
                Some(error) => Err(error),
                None => app.table.continue_offboarding(begun, last).await,
            };
        }
    }
}

/// Ends the subject's logins, except those that began with a sign-in after the offboarding. None can begin with one from before,
/// because the count of offboardings has risen. Returns `false` if the receipt is already closed.
async fn end_logins(app: &App, offboarding: &Offboarding) -> Result<bool> {
    let Offboarding {
        tenant,
        subject,
        receipt,
        ..
    } = offboarding;
    let (logins, unreadable) = app.table.logins_of(tenant, subject).await?;
    for login in logins {
        if !offboarding.ends(&login) {
            continue;
        }
        let ending = Ending {
            who: Worker::Offboarding.into(),
            cause: LoginEnd::Offboarded,
            report: Reported::On(receipt),
        };
        if logins::end_as_stored(app, &login, &ending).await? == Ended::ReceiptClosed {
            return Ok(false);
        }
    }
    unreadable.map_or(Ok(true), Err)
}

/// Removes the subject's credentials at some servers. Returns `false` if the receipt is already closed.
async fn clear(app: &App, offboarding: &Offboarding, servers: &[Server]) -> Result<bool> {
    let Offboarding {
        tenant,
        subject,
        receipt,
        at,
        ..
    } = offboarding;
    for _ in 0..PASSES {
        let found = find_subject_records(app, offboarding, servers).await?;
        if found.credentials.is_empty() && found.consents.is_empty() {
            return match found.unreadable {
                Some(error) => Err(error),
                None => Ok(true),
            };
        }
        let event = |action| {
            let event = Event::new(app.now(), tenant, Worker::Offboarding, action)?;
            Ok::<_, Error>(event.of(subject).under(Some(receipt)))
        };
        for session in &found.consents {
            let mut ended = event(Action::SessionEnded)?.at(session.server);
            ended.session = session.ulid();
            let phase = session.phase;
            app.table.fail_session(session, phase, &ended).await?;
        }
        for (server, credential) in &found.credentials {
            let found = servers.iter().find(|one| one.id == *server);
            let kept = StoredReason {
                subject,
                reason: Reason::Revoked,
                at: *at,
                auth_revision: found.map_or(0, |one| one.auth_revision),
            };
            let event = event(Action::CredentialRemoved)?
                .at(*server)
                .from(credential.source());
            let removed = app
                .table
                .offboard_credential(tenant, *server, credential, &kept, receipt, &event)
                .await?;
            if removed == WriteOutcome::ReceiptClosed {
                return Ok(false);
            }
        }
    }
    // Someone installs as fast as this removes. It stays due, and its receipt does not claim otherwise.
    Err(Error::Contended)
}

/// What an offboarding takes away at some servers.
struct SubjectRecords {
    credentials: Vec<(ServerId, Credential)>,
    consents: Vec<Session>,
    /// Why something could not be read.
    unreadable: Option<Error>,
}

/// The subject's credentials that these servers stand behind, and the consents in progress, as far as the offboarding takes
/// them away. Read from the servers themselves: an index would lag.
async fn find_subject_records(
    app: &App,
    offboarding: &Offboarding,
    servers: &[Server],
) -> Result<SubjectRecords> {
    let (tenant, subject) = (&offboarding.tenant, &offboarding.subject);
    // Sessions first: one that completes meanwhile shows as the grant that it became.
    let with_consent = servers
        .iter()
        .filter(|one| matches!(one.auth, Auth::Oauth(_)));
    let open = with_consent.map(|one| app.table.open_sessions(tenant, one.id, subject));
    let mut consents: Vec<_> = try_join_all(open).await?.into_iter().flatten().collect();
    consents.retain(|one| offboarding.ends_consent(one));
    let keys = servers
        .iter()
        .flat_map(|one| ServerAndRecords::keys(tenant, one.id, subject));
    let found = app.table.read(keys.collect()).await?;
    let (mut credentials, mut unreadable) = (Vec::new(), None);
    for server in servers {
        let at = match ServerAndRecords::from_found(&found, tenant, server.id, subject) {
            Ok(Some(at)) => at,
            Ok(None) => continue,
            Err(error) => {
                unreadable.get_or_insert(error);
                continue;
            }
        };
        let own = at
            .records
            .header_override
            .map(|own| Credential::Override(Box::new(own)));
        let grant = at.records.grant.map(|one| Credential::Grant(Box::new(one)));
        let all = own.into_iter().chain(grant);
        let taken = all.filter(|one| offboarding.takes(one));
        credentials.extend(taken.map(|one| (server.id, one)));
    }
    Ok(SubjectRecords {
        credentials,
        consents,
        unreadable,
    })
}
