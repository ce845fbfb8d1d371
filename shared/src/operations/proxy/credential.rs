//! The credential of a call: the subject's override, its grant, or the server's own headers or client.

use super::client_credentials::client_credentials_token;
use super::headers::{bearer, insert_header, insert_server_headers};
use super::{Call, Refusal};
use crate::domain::credential::{Grant, OverrideValue, RefreshOutcome};
use crate::domain::id::TenantId;
use crate::domain::reason::Reason;
use crate::domain::server::{Auth, GrantType, Place};
use crate::domain::status::{Status, status};
use crate::domain::time::Timestamp;
use crate::operations::credentials::{ServerAndRecords, open_override};
use crate::operations::grants::{self, GrantAccess, TokenRequirement};
use crate::operations::servers::{data_key, open_with};
use crate::state::app::App;
use crate::state::cache::ClientCredentialsToken;
use crate::{Error, Result};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use secrecy::{ExposeSecret, SecretString};

/// The credential of a call, and its source.
pub(super) struct PreparedCall {
    /// The server's whole address, which may hold secrets.
    pub(super) address: SecretString,
    pub(super) headers: HeaderMap,
    pub(super) from: CredentialSource,
    /// When its token was last replaced, not counting consents.
    pub(super) replaced_at: Option<Timestamp>,
}

/// Where the credential of a call is from.
#[derive(Clone, Debug)]
pub(super) enum CredentialSource {
    /// An override or static headers: only their owner can replace them.
    Fixed,
    /// The grant of this version.
    Grant(String),
    /// The server's own client.
    Client,
}

/// Attaches the credential of a call. `refused` is the one that the server has just refused; it is replaced if
/// possible.
pub(super) async fn attach_credential(
    app: &App,
    tenant: &TenantId,
    at: &ServerAndRecords,
    refused: Option<&CredentialSource>,
    call: &Call,
) -> Result<Result<PreparedCall, Refusal>> {
    let server = &at.server;
    if server.auth == Auth::Passthrough {
        return Ok(Err(Refusal::Passthrough));
    }
    let key = data_key(app, tenant, server).await?;
    let secrets = open_with(&key, tenant, server)?;
    let mut headers = HeaderMap::new();
    for name in server.additional_headers.iter().flatten() {
        if let Some(value) = secrets.get(Place::AdditionalHeader(name)) {
            insert_header(&mut headers, name, value)?;
        }
    }
    let own = match &at.records.header_override {
        Some(own) => Some(open_override(app, tenant, server, own).await?),
        None => None,
    };
    let attached = match &server.auth {
        Auth::None | Auth::LegacyProvider { .. } | Auth::Passthrough => Ok(None),
        Auth::Headers {
            level,
            headers: specs,
        } => match insert_server_headers(&mut headers, *level, specs, &secrets, own.as_ref())? {
            true => Err(missing_override_reason(app, at)),
            false => Ok(None),
        },
        Auth::Oauth(oauth) => match (own, oauth.grant_type) {
            (Some(OverrideValue::Header(value)), _) => Ok(Some(Attached::fixed(value))),
            (Some(OverrideValue::KeyValue(_)), _) => {
                return Err(Error::internal(
                    "an override does not match its server's authentication",
                ));
            }
            (None, GrantType::ClientCredentials) => {
                let renew = refused.is_some();
                let token = client_credentials_token(app, tenant, server, oauth, &secrets, renew);
                token.await?.map(|own| Some(Attached::client(own)))
            }
            (None, GrantType::AuthorizationCode) => {
                match grant(app, tenant, at, refused, call).await? {
                    GrantAccess::Token { token, grant } => Ok(Some(Attached::grant(token, *grant))),
                    GrantAccess::Unavailable(reason) => Err(reason),
                }
            }
        },
    };
    let (from, replaced_at) = match attached {
        Err(reason) => return Ok(Err(Refusal::NoCredential(reason))),
        Ok(None) => (CredentialSource::Fixed, None),
        Ok(Some(attached)) => {
            let value = attached.value.expose_secret();
            insert_header(&mut headers, AUTHORIZATION.as_str(), value)?;
            (attached.from, attached.replaced_at)
        }
    };
    Ok(Ok(PreparedCall {
        address: secrets.address(server).into(),
        headers,
        from,
        replaced_at,
    }))
}

/// The value of an `Authorization` header, with its source.
struct Attached {
    value: SecretString,
    from: CredentialSource,
    replaced_at: Option<Timestamp>,
}

impl Attached {
    fn fixed(value: SecretString) -> Self {
        Self {
            value,
            from: CredentialSource::Fixed,
            replaced_at: None,
        }
    }

    fn client(own: ClientCredentialsToken) -> Self {
        Self {
            value: bearer(own.token),
            from: CredentialSource::Client,
            replaced_at: own.replaced_at,
        }
    }

    fn grant(token: SecretString, grant: Grant) -> Self {
        let refreshed = grant.last_refresh == Some(RefreshOutcome::Succeeded);
        Self {
            value: bearer(token),
            from: CredentialSource::Grant(grant.version),
            replaced_at: refreshed.then_some(grant.obtained_at),
        }
    }
}

/// The reason for a missing override.
fn missing_override_reason(app: &App, at: &ServerAndRecords) -> Reason {
    match status(&at.server, &at.records, app.now()) {
        Status::Required { reason, .. } => reason,
        _ => Reason::NeverConnected,
    }
}

/// The access token of the caller's grant. A valid one that was just read is used without reading it again.
async fn grant(
    app: &App,
    tenant: &TenantId,
    at: &ServerAndRecords,
    refused: Option<&CredentialSource>,
    call: &Call,
) -> Result<GrantAccess> {
    let ServerAndRecords {
        server,
        subject,
        records,
    } = at;
    let requirement = match refused {
        Some(CredentialSource::Grant(version)) => TokenRequirement::OtherThan(version),
        _ => {
            let now = app.now();
            match (status(server, records, now), &records.grant) {
                (Status::Required { reason, .. }, None) => {
                    return Ok(GrantAccess::Unavailable(reason));
                }
                (Status::Authenticated(_), Some(grant))
                    if !grant.is_expired(now) && !grant.due_for_refresh(now) =>
                {
                    return grants::token_of(app, tenant, server, Box::new(grant.clone())).await;
                }
                _ => TokenRequirement::Valid,
            }
        }
    };
    let (id, max_refresh_wait) = (server.id, call.max_refresh_wait());
    let usable = grants::access(
        app,
        tenant,
        &call.who,
        id,
        subject,
        requirement,
        max_refresh_wait,
    )
    .await?;
    // Meanwhile the server may have moved and the subject consented anew: that token is for another address than the one
    // that this call goes to.
    let is_ours = |new: &Grant| {
        records.grant.as_ref().is_some_and(|read| {
            read.session == new.session
                && read.auth_revision == new.auth_revision
                && read.issuance == new.issuance
        })
    };
    Ok(match usable {
        GrantAccess::Token { grant, .. } if !is_ours(&grant) => {
            GrantAccess::Unavailable(Reason::ServerChanged)
        }
        usable => usable,
    })
}
