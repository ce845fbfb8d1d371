//! What logins need of a tenant's key: the key pair that signs access tokens, the sealed refresh token of the identity
//! provider, and refresh tokens that are derived, so that they can be given out again.

use super::{TenantKey, aad, decrypt, encrypt};
use crate::domain::id::{Sortable, TenantId};
use crate::domain::sealed::{Sealed, SealedSecret, SigningKey, TokenKey};
use crate::{Error, Result};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::EncodingKey;
use secrecy::{ExposeSecret, SecretString};

impl TenantKey {
    /// A new key pair for access tokens, sealed with this key, which must be the operator's.
    ///
    /// # Errors
    /// [`Error::Internal`] when the generator or the cipher fails.
    pub fn new_token_key(&self, number: u32) -> Result<TokenKey> {
        let failed = |_| Error::internal("a key pair could not be made");
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let private = pair.to_pkcs8v1().map_err(failed)?;
        let public = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
        let kid = TokenKey::kid_of(number, &public);
        let sealed = encrypt(&self.bytes, &token_key_aad(&kid, &public), private.as_ref())?;
        Ok(TokenKey {
            number,
            kid,
            tenant_key: self.number,
            pair: SigningKey { public, sealed },
        })
    }

    /// Opens the private half of a key pair for access tokens.
    ///
    /// # Errors
    /// [`Error::Internal`] when it was sealed for another public half, or changed.
    pub fn open_token_key(&self, key: &TokenKey) -> Result<EncodingKey> {
        let place = token_key_aad(&key.kid, &key.pair.public);
        let private = decrypt(&self.bytes, &place, &key.pair.sealed)?;
        Ok(EncodingKey::from_ec_der(&private))
    }

    /// Seals the refresh token that an identity provider gave for a login.
    ///
    /// # Errors
    /// [`Error::Internal`] when the cipher fails.
    pub fn seal_for_login(
        &self,
        tenant: &TenantId,
        login: Sortable,
        secret: &SecretString,
    ) -> Result<SealedSecret> {
        let place = provider_token_aad(tenant, login);
        Ok(SealedSecret {
            tenant_key: self.number,
            sealed: encrypt(&self.bytes, &place, secret.expose_secret().as_bytes())?,
        })
    }

    /// Opens what [`Self::seal_for_login`] sealed for this login.
    ///
    /// # Errors
    /// [`Error::Internal`] when it was sealed for another login, or changed.
    pub fn open_for_login(
        &self,
        tenant: &TenantId,
        login: Sortable,
        sealed: &Sealed,
    ) -> Result<SecretString> {
        let plain = decrypt(&self.bytes, &provider_token_aad(tenant, login), sealed)?;
        let text = std::str::from_utf8(&plain).map_err(Error::internal)?;
        Ok(text.into())
    }

    /// The random part of the refresh token that replaces this one. It is derived, so that it can be given out again
    /// although only its hash is stored (docs/decisions/0033-a-refresh-is-answered-again-for-a-minute.md).
    pub fn next_refresh_secret(
        &self,
        tenant: &TenantId,
        login: Sortable,
        presented: &SecretString,
    ) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice());
        let (tenant, login) = (tenant.as_str(), login.ulid());
        let place = aad(&["refresh-token", tenant, &login, presented.expose_secret()]);
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, &place).as_ref());
        secret
    }

    /// The key's number.
    pub const fn number(&self) -> u32 {
        self.number
    }
}

fn token_key_aad(kid: &str, public: &str) -> Vec<u8> {
    aad(&["token-key", kid, public])
}

fn provider_token_aad(tenant: &TenantId, login: Sortable) -> Vec<u8> {
    aad(&["provider-token", tenant.as_str(), &login.ulid()])
}
