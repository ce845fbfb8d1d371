//! Issuing tokens to the OAuth clients of connections (Kambrium 13, RFC 6749 4.4).

use super::servers::data_key;
use crate::Result;
use crate::auth::client_token;
use crate::auth::client_token::parse_client_id;
use crate::domain::id::{hash, is_same_secret};
use crate::state::app::App;
use crate::table::servers;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;

/// A token that was issued.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: SecretString,
    /// Its scopes.
    pub scopes: BTreeSet<String>,
}

/// Why a token was not issued.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such client, or its secret is another one.
    InvalidClient,
    /// The client may not have one of the scopes.
    InvalidScope,
}

/// Issues a token for these scopes; without scopes, for all that the client may have.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn issue(
    app: &App,
    client: &str,
    secret: &SecretString,
    mut scopes: BTreeSet<String>,
) -> Result<Result<Issued, Refusal>> {
    let Some((tenant, id)) = parse_client_id(client) else {
        return Ok(Err(Refusal::InvalidClient));
    };
    let found = app.table.read(vec![servers::key(&tenant, id)]).await?;
    let Some(server) = found.server(&tenant, id)? else {
        return Ok(Err(Refusal::InvalidClient));
    };
    let presented = hash(secret.expose_secret());
    let stored = server.connection.client_secret_hash.as_deref();
    let is_it = server.connection.client_id == client
        && stored.is_some_and(|stored| is_same_secret(stored, &presented));
    if !is_it {
        return Ok(Err(Refusal::InvalidClient));
    }
    let may = server.connection.access_type.scopes();
    if scopes.is_empty() {
        scopes = may.iter().map(|&scope| scope.to_owned()).collect();
    }
    if !scopes.iter().all(|scope| may.contains(&scope.as_str())) {
        return Ok(Err(Refusal::InvalidScope));
    }
    let Some(signing) = &server.connection.signing_key else {
        return Ok(Err(Refusal::InvalidClient));
    };
    let key = data_key(app, &tenant, &server).await?;
    let key = key.open_signing_key(&tenant, id, signing)?;
    let token = client_token::issue(&server, &key, &scopes, app.now())?;
    Ok(Ok(Issued { token, scopes }))
}
