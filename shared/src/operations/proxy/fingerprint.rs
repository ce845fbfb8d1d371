//! The fingerprint of a call: a hash of the server and the credential that the call depends on. Sessions, tool lists and
//! running responses are void once it has changed.

use crate::domain::credential::Records;
use crate::domain::id::{TenantId, hash};
use crate::domain::server::Server;
use crate::domain::status::{Status, status};
use crate::domain::time::Timestamp;
use crate::operations::credentials::ServerAndRecords;
use crate::state::app::App;
use crate::{Error, Result};

/// A hash of everything that a subject's calls to a server depend on. It changes when their target or their credential
/// changes, or when the server was switched off.
pub(super) fn fingerprint(server: &Server, records: &Records) -> Result<String> {
    let off = server.connection.times_off;
    Ok(hash(&format!(
        "{off} {}",
        outbound_fingerprint(server, records)?
    )))
}

/// A hash of the target and the credential of a subject's calls to a server. It changes with the server's address, its
/// authentication, any of its secrets and the subject's credential, but not when a grant is refreshed.
pub(in crate::operations) fn outbound_fingerprint(
    server: &Server,
    records: &Records,
) -> Result<String> {
    let credential = match (&records.header_override, &records.grant) {
        (Some(own), _) => own.version.as_str(),
        (None, Some(grant)) => grant.session.as_str(),
        (None, None) => "",
    };
    let all = (
        server.auth_revision,
        &server.url,
        &server.auth,
        &server.additional_headers,
        &server.secrets,
        credential,
    );
    serde_json::to_string(&all)
        .map(|text| hash(&text))
        .map_err(|_| Error::internal("a server could not be serialized"))
}

/// Whether the fingerprint of a call is still the same.
pub(super) async fn is_unchanged(
    app: &App,
    tenant: &TenantId,
    at: &ServerAndRecords,
) -> Result<bool> {
    match ServerAndRecords::load(&app.table, tenant, at.server.id, &at.subject).await? {
        Some(now) => {
            Ok(fingerprint(&now.server, &now.records)? == fingerprint(&at.server, &at.records)?)
        }
        None => Ok(false),
    }
}

/// The fingerprint of sessions that are not open at a server. No call has it.
pub(super) fn pending_fingerprint(server: &Server) -> Result<String> {
    Ok(hash(&format!("pending {}", without_credential(server)?)))
}

/// The fingerprint of calls to a server without a credential of their subject.
pub(super) fn without_credential(server: &Server) -> Result<String> {
    fingerprint(server, &Records::default())
}

/// Whether a subject has a credential now that it did not have under this fingerprint.
pub(super) fn has_new_credential(
    at: &ServerAndRecords,
    before: &str,
    now: Timestamp,
) -> Result<bool> {
    let status = status(&at.server, &at.records, now);
    let usable = !matches!(status, Status::Required { .. });
    Ok(usable && fingerprint(&at.server, &at.records)? != before)
}
