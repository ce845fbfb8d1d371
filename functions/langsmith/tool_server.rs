//! What the routes of the tool gateway share: the object of a server (LangSmith 7.3), pages (LangSmith 7.2), and as whom a
//! request acts (LangSmith 7.1).

use super::Permission;
use super::problem::Problem;
use crate::http::{self, Request};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::credential::Records;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::{Auth, AuthLevel, Server};
use hawser_core::domain::status::{Status, status};
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::operations::Permitted;
use hawser_core::operations::credentials::{self, ServerAndRecords};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

const IDENTITY: &str = "x-langsmith-identity";
const PAGE_AT_MOST: usize = 100;

/// What a server wants from whoever calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The consent of each user.
    Oauth,
    /// A key of each user.
    Secret,
    /// Nothing.
    None,
}

impl Kind {
    /// What a stored server wants.
    pub fn of(server: &Server) -> Self {
        match &server.auth {
            Auth::Oauth(_) if server.subjects_consent() => Self::Oauth,
            Auth::Headers {
                level: AuthLevel::PerUser,
                ..
            } => Self::Secret,
            _ => Self::None,
        }
    }
}

/// Whether a server wants a credential of the caller that is not there, or no longer usable.
pub fn lacks_credential(app: &App, server: &Server, records: &Records) -> bool {
    matches!(status(server, records, app.now()), Status::Required { .. })
}

/// A server as the tool gateway shows it. No value of a credential is in it.
pub fn tool_server(app: &App, server: &Server, records: &Records) -> Value {
    json!({
        "id": server.id.uuid(),
        "name": server.name,
        "upstream_url": server.shown_url(),
        "connection": {"type": Kind::of(server)},
        "connected": !lacks_credential(app, server, records),
        "created_at": server.created_at.micros_offset(),
        "updated_at": server.updated_at.micros_offset(),
    })
}

/// As whom a request acts: one with a service key as the user whom it names, any other as its caller, whoever it names.
///
/// # Errors
/// What the authentication fails with; [`Problem::InvalidQuery`] for a name that no user can have, if the caller has the
/// permission, else [`Problem::PermissionMissing`].
pub async fn acting(
    app: &App,
    request: &Request,
    who: Presented,
    needed: Permission,
) -> Result<Presented, Problem> {
    let named = http::header(request, IDENTITY).filter(|named| !named.trim().is_empty());
    let invalid = Problem::InvalidQuery("X-LangSmith-Identity", "the id of a user");
    match named {
        None => Ok(who),
        Some(named) => act_as(app, who, &named, needed, invalid).await,
    }
}

/// The same, with the user named elsewhere; `invalid` is the refusal of a name that no user can have.
///
/// # Errors
/// As [`acting`], but for that refusal.
pub async fn act_as(
    app: &App,
    who: Presented,
    named: &str,
    needed: Permission,
    invalid: Problem,
) -> Result<Presented, Problem> {
    let caller = app.identify(who.clone()).await?;
    if !caller.is_service_key {
        return Ok(who);
    }
    match Subject::new(SubjectType::User, named) {
        Some(user) => Ok(who.acting_for(user)),
        None => {
            needed.require(&caller)?;
            Err(invalid)
        }
    }
}

/// The caller's own records at a server, for a caller who has the permission.
///
/// # Errors
/// [`Problem::PermissionMissing`], and what the operation fails with.
pub async fn find_own(
    app: &App,
    who: Presented,
    id: ServerId,
    needed: Permission,
) -> Result<Permitted<ServerAndRecords>, Problem> {
    let at = credentials::find_own(app, who, Some(id))
        .await?
        .permit(|caller, _| needed.require(caller))?;
    Ok(at.existing()?)
}

/// A window on a list that is ordered by id.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    size: usize,
    /// The last one of the page before.
    after: Option<ServerId>,
}

impl Window {
    /// Reads `page_size` (1 to 100, default 100) and `cursor`.
    ///
    /// # Errors
    /// [`Problem::InvalidQuery`].
    pub fn read(request: &Request) -> Result<Self, Problem> {
        let query = http::query(request);
        let sent = |name: &str| {
            let values = query
                .iter()
                .filter(|(key, value)| key == name && !value.is_empty());
            values.map(|(_, value)| value.as_str()).next_back()
        };
        let size = match sent("page_size") {
            None => PAGE_AT_MOST,
            Some(text) => text
                .parse()
                .ok()
                .filter(|size| (1..=PAGE_AT_MOST).contains(size))
                .ok_or(Problem::InvalidQuery(
                    "page_size",
                    "an integer from 1 to 100",
                ))?,
        };
        let after = match sent("cursor") {
            None => None,
            Some(text) => Some(
                ServerId::parse_uuid(text)
                    .ok_or(Problem::InvalidQuery("cursor", "what the page before says"))?,
            ),
        };
        Ok(Self { size, after })
    }

    /// The servers of the page, in the order of their ids, and the cursor of the next one.
    pub fn page(self, mut servers: Vec<Server>) -> (Vec<Server>, Option<Uuid>) {
        servers.sort_by_key(|server| server.id);
        servers.retain(|server| self.after.is_none_or(|after| server.id > after));
        let is_last = servers.len() <= self.size;
        servers.truncate(self.size);
        let next = servers.last().filter(|_| !is_last);
        let next = next.map(|server| server.id.uuid());
        (servers, next)
    }
}
