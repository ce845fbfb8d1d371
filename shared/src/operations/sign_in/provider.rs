//! Asking the operator's OpenID provider, as the client that is registered there for this deployment.

use super::{Attempt, SIGNED_IN_PATH, SignInFailure};
use crate::domain::caller::Caller;
use crate::domain::endpoint_method::{ClientAuth, RevocationMethod};
use crate::domain::error::Unauthenticated;
use crate::domain::issuance::{Client, ClientSource, Issuance};
use crate::oauth::discovery::{self, Issuer};
use crate::oauth::request::authorization_url;
use crate::oauth::revocation::{self, Answer, Hint, Verdict};
use crate::oauth::token::{Class, Credentials, Endpoint, TokenFailure, Tokens};
use crate::state::app::App;
use crate::state::config::ProviderSecret;
use crate::state::sign_in::Provider;
use crate::{Error, Result};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use tracing::warn;

impl Provider {
    /// The address of the sign-in.
    pub(super) async fn address(
        &self,
        app: &App,
        base: &str,
        attempt: &Attempt,
    ) -> Result<String, SignInFailure> {
        let metadata = self.metadata(app).await?;
        let verifier = attempt.part("verifier");
        let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
        let parameters = [
            ("response_type", "code"),
            ("client_id", &self.config.client_id),
            ("redirect_uri", &format!("{base}{SIGNED_IN_PATH}")),
            ("scope", &self.config.scopes),
            ("state", &attempt.state()),
            ("nonce", &attempt.part("nonce")),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        authorization_url(&metadata.authorization_endpoint, &parameters)
            .ok_or(SignInFailure::Untrusted("its metadata cannot be used"))
    }

    /// What the provider says of itself: read anew every few minutes, and while it does not answer as it was.
    pub(super) async fn metadata(&self, app: &App) -> Result<Arc<Issuer>, SignInFailure> {
        let read = async {
            match discovery::issuer(&app.egress, &self.config.tokens.issuer).await {
                Ok(metadata) => Ok(Some(metadata)),
                Err(discovery::Failure::TryLater) => {
                    let cause = "the identity provider does not answer";
                    Err(Error::Unavailable(cause.to_owned()))
                }
                Err(why) => {
                    warn!(?why, "the metadata of the identity provider cannot be used");
                    Ok(None)
                }
            }
        };
        match self.metadata.get(&app.clock, read).await {
            Ok(Some(metadata)) => Ok(metadata),
            Ok(None) => Err(SignInFailure::Untrusted("its metadata cannot be used")),
            Err(_) => Err(SignInFailure::Unreachable),
        }
    }

    async fn secret(&self, app: &App) -> Result<Option<SecretString>> {
        let reference = match &self.config.secret {
            None => return Ok(None),
            Some(ProviderSecret::Given(secret)) => return Ok(Some(secret.clone())),
            Some(ProviderSecret::Reference(reference)) => reference,
        };
        let read = async { app.secret_stores.read(reference).await.map(Some) };
        let secret = self.secret.get(&app.clock, read).await?;
        Ok(secret.map(|secret| (*secret).clone()))
    }

    /// Asks the token endpoint as our client there.
    pub(super) async fn ask(
        &self,
        app: &App,
        metadata: &Issuer,
        question: impl AsyncFnOnce(&Endpoint<'_>) -> Result<Tokens, TokenFailure>,
    ) -> Result<Tokens, SignInFailure> {
        let secret = self.secret(app).await?;
        let client = self.client(metadata, secret.is_some());
        let endpoint = Endpoint {
            url: &metadata.token_endpoint,
            credentials: Credentials {
                client: &client,
                secret: secret.as_ref(),
            },
            resource: None,
            extra: &[],
        };
        let failure = match question(&endpoint).await {
            Ok(tokens) => return Ok(tokens),
            Err(failure) => failure,
        };
        let (class, status, word) = (failure.class, failure.status, failure.word);
        warn!(
            ?class,
            ?status,
            word,
            "the identity provider gave no tokens"
        );
        if class == Class::InvalidClient {
            // The operator may have replaced it.
            self.secret.forget().await;
        }
        Err(match class {
            Class::Transient => SignInFailure::Unreachable,
            Class::InvalidGrant => SignInFailure::Refused("invalid_grant"),
            _ => SignInFailure::Refused(word),
        })
    }

    /// Our client there.
    fn client(&self, metadata: &Issuer, has_secret: bool) -> Client {
        let ways = match has_secret {
            true => ClientAuth::ways(metadata.token_auth_methods.as_deref()),
            false => vec![ClientAuth::None],
        };
        Client::new(
            self.config.client_id.clone(),
            ways,
            ClientSource::PreRegistered,
        )
    }

    /// Presents a refresh token at the revocation endpoint, which is returned with the answer; `None` if there is none.
    pub(super) async fn revoke(
        &self,
        app: &App,
        token: &SecretString,
        refusals: u32,
    ) -> Result<Option<(String, Answer)>, SignInFailure> {
        let metadata = self.metadata(app).await?;
        let Some(url) = metadata.revocation_endpoint.clone() else {
            return Ok(None);
        };
        let secret = self.secret(app).await?;
        let auths = metadata.revocation_auth_methods.as_deref();
        let auths = auths.unwrap_or_default().iter();
        let issuance = Issuance {
            issuer: metadata.issuer.clone(),
            token_endpoint: metadata.token_endpoint.clone(),
            revocation_endpoint: Some(url.clone()),
            revocation_method: RevocationMethod::Rfc7009,
            revocation_auth: auths.filter_map(|name| ClientAuth::parse(name)).collect(),
            client: self.client(&metadata, secret.is_some()),
            resource: None,
        };
        let client = issuance.revocation_client(secret.is_some(), refusals);
        let present = async |secret: Option<&SecretString>| {
            let endpoint = revocation::Endpoint {
                url: &url,
                method: issuance.revocation_method,
                credentials: Credentials {
                    client: &client,
                    secret,
                },
            };
            endpoint.revoke(&app.egress, token, Hint::Refresh).await
        };
        let mut answer = present(secret.as_ref()).await;
        if answer.verdict == Verdict::InvalidClient {
            // The operator may have replaced it.
            self.secret.forget().await;
            let now = self.secret(app).await?;
            let before = secret.as_ref().map(ExposeSecret::expose_secret);
            let is_new = |now: &SecretString| before != Some(now.expose_secret());
            if let Some(now) = now.filter(is_new) {
                answer = present(Some(&now)).await;
            }
        }
        Ok(Some((url, answer)))
    }

    pub(super) async fn verify(
        &self,
        app: &App,
        id_token: &SecretString,
        nonce: Option<&str>,
    ) -> Result<Caller, SignInFailure> {
        let verifier = self.verifier()?;
        let verified = verifier.verify_id_token(id_token.expose_secret(), nonce, app.now());
        verified.await.map_err(|error| match error {
            Error::Unauthenticated(Unauthenticated::NoTenant) => SignInFailure::NoTenant,
            Error::Unauthenticated(_) => SignInFailure::Untrusted("its ID token is not valid"),
            Error::Unavailable(_) => SignInFailure::Unreachable,
            error => SignInFailure::Failed(error),
        })
    }
}
