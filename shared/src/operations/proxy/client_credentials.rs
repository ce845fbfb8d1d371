//! Tokens of a server's own client, by the client credentials grant.

use super::fingerprint::fingerprint;
use crate::domain::address::without_query;
use crate::domain::credential::Records;
use crate::domain::endpoint_method::ClientAuth;
use crate::domain::id::TenantId;
use crate::domain::issuance::{Client, ClientSource};
use crate::domain::reason::Reason;
use crate::domain::server::{OauthConfig, Secrets, Server};
use crate::oauth::token::{self, Class, Credentials, Endpoint};
use crate::operations::clients::Settings;
use crate::state::app::App;
use crate::state::cache::{ClientCredentialsToken, locked};
use crate::{Error, Result};
use tracing::warn;

/// The token of a server's own client, from the cache unless it has expired or was refused.
pub(super) async fn client_credentials_token(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    oauth: &OauthConfig,
    secrets: &Secrets,
    refused: bool,
) -> Result<Result<ClientCredentialsToken, Reason>> {
    const MARGIN: i64 = 60;
    let (place, fingerprint) = (
        (tenant.clone(), server.id),
        fingerprint(server, &Records::default())?,
    );
    if !refused {
        let known = locked(&app.process_cache.tokens).get(&place).cloned();
        let good = |one: &ClientCredentialsToken| {
            one.fingerprint == fingerprint && one.until.is_none_or(|until| app.now() < until)
        };
        if let Some(one) = known.filter(good) {
            return Ok(Ok(one));
        }
    }
    let (Some(url), Some(id)) = (&oauth.token_url, &oauth.client_id) else {
        return Err(Error::internal("client credentials without a client"));
    };
    let settings = Settings::configured(oauth, secrets);
    if settings.require_allowed_at(app, tenant, url).is_err() {
        return Ok(Err(Reason::RefreshFailed));
    }
    let ways = vec![settings.token_auth.unwrap_or(ClientAuth::Basic)];
    let client = Client::new(id.clone(), ways, ClientSource::PreRegistered);
    let endpoint = Endpoint {
        url,
        credentials: Credentials {
            client: &client,
            secret: settings.client_secret.as_ref(),
        },
        resource: (oauth.include_resource != Some(false)).then_some(without_query(&server.url)),
        extra: &settings.token_params,
    };
    let scopes = oauth.scopes.as_deref().unwrap_or_default();
    match token::client_credentials(&app.egress, &endpoint, scopes).await {
        Ok(tokens) => {
            let until = tokens.expires_in.map(|life| {
                let margin = MARGIN.min(life / 3);
                app.now().plus_seconds(life - margin)
            });
            let one = ClientCredentialsToken {
                fingerprint,
                token: tokens.access,
                until,
                replaced_at: refused.then(|| app.now()),
            };
            locked(&app.process_cache.tokens).insert(place, one.clone());
            Ok(Ok(one))
        }
        Err(failure) => {
            locked(&app.process_cache.tokens).remove(&place);
            warn!(
                tenant = tenant.as_str(),
                server = ?server.id,
                status = failure.status,
                error = failure.word,
                "client credentials token request failed"
            );
            Ok(Err(match failure.class {
                Class::InvalidClient => Reason::InvalidClient,
                _ => Reason::RefreshFailed,
            }))
        }
    }
}
