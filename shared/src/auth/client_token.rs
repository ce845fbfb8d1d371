//! Tokens for the OAuth client of a Kambrium connection. Hawser issues them itself, for calls to that one connection
//! (Kambrium 13).
//!
//! A client's id names its tenant and server, and a token names its client, so the server's item suffices to verify
//! either. For a token, that item is part of the first read of the request, like the item of an API key. It holds the
//! key pair that signs the tokens, with the private half sealed, so verification needs no secret.

use crate::domain::caller::Caller;
use crate::domain::error::Unauthenticated;
use crate::domain::id::{ServerId, Sortable, TenantId, base32, unbase32};
use crate::domain::sealed::SigningKey;
use crate::domain::server::Server;
use crate::domain::subject::Actor;
use crate::domain::time::Timestamp;
use crate::table::Found;
use crate::{Error, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, decode, decode_header, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How long a token is valid, in seconds.
pub const LIFETIME: i64 = 3600;
/// The `iss` and `aud` of the tokens.
const ISSUER: &str = "hawser";

/// The id of a server's client: `hwc_<tenant>_<server>`, the tenant in lower-case base32.
pub fn client_id(tenant: &TenantId, server: ServerId) -> String {
    let tenant = base32(tenant.as_str().as_bytes());
    format!("hwc_{tenant}_{}", server.ulid().to_ascii_lowercase())
}

/// Reads what [`client_id`] has written.
pub fn parse_client_id(text: &str) -> Option<(TenantId, ServerId)> {
    let (tenant, server) = text.strip_prefix("hwc_")?.split_once('_')?;
    Some((
        TenantId::parse(&unbase32(tenant)?)?,
        ServerId::parse_ulid(server)?,
    ))
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    client_id: String,
    scope: String,
    token_use: String,
    mcp_server_id: u64,
    iat: i64,
    exp: i64,
    jti: Sortable,
}

/// A token with these scopes for the client of a server.
///
/// # Errors
/// [`Error::Internal`] when it cannot be signed.
pub fn issue(
    server: &Server,
    key: &EncodingKey,
    scopes: &BTreeSet<String>,
    now: Timestamp,
) -> Result<SecretString> {
    let client = &server.connection.client_id;
    let header = Header {
        kid: Some(client.clone()),
        ..Header::new(Algorithm::ES256)
    };
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: ISSUER.to_owned(),
        sub: server.created_by.subject.id().to_owned(),
        client_id: client.clone(),
        scope: scopes.iter().cloned().collect::<Vec<_>>().join(" "),
        token_use: "access".to_owned(),
        mcp_server_id: server.number,
        iat: now.seconds(),
        exp: now.plus_seconds(LIFETIME).seconds(),
        jti: Sortable::new(now)?,
    };
    encode(&header, &claims, key)
        .map(SecretString::from)
        .map_err(|_| Error::internal("a token could not be signed"))
}

/// A token that names a client of Hawser's. It is not trusted before the server's item is read.
#[derive(Clone, Debug)]
pub struct ClientToken {
    pub(crate) tenant: TenantId,
    pub(crate) server: ServerId,
    pub(crate) client: String,
    text: SecretString,
}

impl ClientToken {
    /// Reads the client that a token names; `None` for the token of any other issuer.
    pub fn read(text: &str) -> Option<Self> {
        let client = decode_header(text).ok()?.kid?;
        let (tenant, server) = parse_client_id(&client)?;
        Some(Self {
            tenant,
            server,
            client,
            text: text.to_owned().into(),
        })
    }

    /// The caller that the token authenticates, once the server has been read: the server's owner, restricted to that
    /// server.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidToken`], [`Unauthenticated::Expired`]; [`Error::Internal`].
    pub fn authenticate(self, found: &Found, now: Timestamp) -> Result<Caller> {
        let server = found.server(&self.tenant, self.server)?;
        let server = server.ok_or(Unauthenticated::InvalidToken)?;
        let key = server.connection.signing_key.as_ref();
        let key = key.and_then(SigningKey::public);
        let key = key.ok_or(Unauthenticated::InvalidToken)?;
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[ISSUER]);
        // Checked below, by our own clock.
        rules.validate_exp = false;
        let claims = decode::<Claims>(self.text.expose_secret(), &key, &rules)
            .map_err(|_| Unauthenticated::InvalidToken)?
            .claims;
        if claims.client_id != server.connection.client_id {
            return Err(Unauthenticated::InvalidToken.into());
        }
        let end = Timestamp::from_micros(0).plus_seconds(claims.exp);
        if end <= now {
            return Err(Unauthenticated::Expired(end).into());
        }
        Ok(Caller {
            tenant: self.tenant,
            actor: Actor {
                slug: None,
                display_name: None,
                key_label: None,
                subject: server.created_by.subject.clone(),
            },
            email: None,
            username: None,
            roles: BTreeSet::new(),
            teams: BTreeSet::new(),
            permissions: BTreeSet::new(),
            scopes: claims.scope.split_whitespace().map(str::to_owned).collect(),
            bound_to: Some(server.number),
            is_service_key: false,
            key: None,
            login: None,
            is_client: true,
            token_ends: Some(end),
        })
    }
}
