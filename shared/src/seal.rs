//! Envelope encryption in three steps: the key service wraps a tenant's key, the tenant's key wraps each server's data
//! key, the data key seals values with AES-256-GCM. The additional data binds tenant, server, subject and kind, so a
//! ciphertext moved to another row does not open. No other module sees a key.

mod logins;

use crate::domain::id::{ServerId, TenantId, random};
use crate::domain::integration::Integration;
use crate::domain::issuance::Issuance;
use crate::domain::sealed::{Mac, Sealed, SealedSecret, SigningKey, WrappedKey, WrappedTenantKey};
use crate::domain::subject::Subject;
use crate::{Error, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::EncodingKey;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long an unwrapped tenant key is kept in memory. So one call to the key service serves many requests.
const TENANT_KEY_LIFETIME: Duration = Duration::from_secs(300);

type KeyBytes = Zeroizing<[u8; 32]>;

/// Which secret of an integration is sealed.
#[derive(Clone, Copy, Debug)]
pub enum OfIntegration {
    /// The client secret.
    ClientSecret,
    /// The whole address of its MCP server, where the query has values.
    Address,
}

/// A server's data key, ready for use.
pub struct DataKey(KeyBytes);

/// A tenant's key, ready for use.
#[derive(Clone)]
pub struct TenantKey {
    number: u32,
    bytes: KeyBytes,
}

/// The kind of a sealed value, and whose it is. It becomes the additional data of the encryption.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// A server's own secrets.
    ServerSecrets,
    /// One subject's override.
    Override(&'a Subject),
    /// The tokens of a subject from one issuer for one resource; the same in a grant and in its revocation.
    Tokens(&'a Subject, &'a Issuance),
    /// [`crate::domain::session::ConsentSecrets`] of the session with this id.
    Consent(&'a str, &'a Subject, &'a Issuance),
    /// [`crate::domain::issuance::ClientSecrets`] of the record with this id, at this issuer.
    Client(&'a str, &'a str),
    /// The private half of the key pair that signs the tokens of the server's own client.
    SigningKey,
    /// The MCP server's own id of a session, by the hash of Hawser's id.
    McpSession(&'a str, &'a Subject),
    /// What the client of a session said in its handshake, by the hash of Hawser's id.
    McpClient(&'a str, &'a Subject),
    /// The request state that a subject's client brings back with the request of this digest.
    RequestState(&'a Subject, &'a str),
    /// The tool list of a subject, or of all subjects without a credential of their own, under this fingerprint.
    Tools(Option<&'a Subject>, &'a str),
}

/// The service that wraps tenant keys.
pub enum KeyService {
    /// AWS KMS with this key; the encryption context is the tenant.
    Kms {
        /// The client.
        client: aws_sdk_kms::Client,
        /// Key id, ARN or alias.
        key_id: String,
    },
    /// A 256-bit key from a file, for machines without KMS.
    File(KeyBytes),
}

impl KeyService {
    /// Reads the text of a key file: 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Internal`] for any other content.
    pub fn from_hex(text: &str) -> Result<Self> {
        let bytes = Zeroizing::new(
            data_encoding::HEXLOWER_PERMISSIVE
                .decode(text.trim().as_bytes())
                .map_err(|_| Error::internal("the key file is not 64 hexadecimal digits"))?,
        );
        let key = <[u8; 32]>::try_from(bytes.as_slice())
            .map_err(|_| Error::internal("the key file is not 64 hexadecimal digits"))?;
        Ok(Self::File(Zeroizing::new(key)))
    }

    /// A new tenant key and its wrapped form.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the key service does not answer.
    pub async fn new_tenant_key(
        &self,
        tenant: &TenantId,
        number: u32,
    ) -> Result<(TenantKey, WrappedTenantKey)> {
        let (bytes, wrapped) = match self {
            Self::Kms { client, key_id } => {
                let made = client
                    .generate_data_key()
                    .key_id(key_id)
                    .key_spec(DataKeySpec::Aes256)
                    .encryption_context("hawser:tenant", tenant.as_str())
                    .send()
                    .await
                    .map_err(key_service_failed)?;
                (
                    key_bytes(made.plaintext)?,
                    Sealed(
                        made.ciphertext_blob
                            .map(Blob::into_inner)
                            .unwrap_or_default(),
                    ),
                )
            }
            Self::File(master) => {
                let bytes = Zeroizing::new(random()?);
                let wrapped = encrypt(master, &tenant_key_aad(tenant), bytes.as_slice())?;
                (bytes, wrapped)
            }
        };
        Ok((
            TenantKey { number, bytes },
            WrappedTenantKey { number, wrapped },
        ))
    }

    /// Unwraps a tenant key.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the key service does not answer, [`Error::Internal`] when the key does not open.
    pub async fn unwrap_tenant_key(
        &self,
        tenant: &TenantId,
        key: &WrappedTenantKey,
    ) -> Result<TenantKey> {
        let bytes = match self {
            Self::Kms { client, key_id } => {
                let opened = client
                    .decrypt()
                    .key_id(key_id)
                    .ciphertext_blob(Blob::new(key.wrapped.0.clone()))
                    .encryption_context("hawser:tenant", tenant.as_str())
                    .send()
                    .await
                    .map_err(key_service_failed)?;
                key_bytes(opened.plaintext)?
            }
            Self::File(master) => to_key(&decrypt(master, &tenant_key_aad(tenant), &key.wrapped)?)?,
        };
        Ok(TenantKey {
            number: key.number,
            bytes,
        })
    }
}

fn key_bytes(blob: Option<Blob>) -> Result<KeyBytes> {
    to_key(&Zeroizing::new(
        blob.map(Blob::into_inner).unwrap_or_default(),
    ))
}

fn to_key(bytes: &[u8]) -> Result<KeyBytes> {
    <[u8; 32]>::try_from(bytes)
        .map(Zeroizing::new)
        .map_err(|_| Error::internal("a key has the wrong length"))
}

fn key_service_failed<E: ProvideErrorMetadata, R>(error: SdkError<E, R>) -> Error {
    // A retry does not help: another key wrapped it, or it was changed.
    if let Some("InvalidCiphertextException" | "IncorrectKeyException") = error.code() {
        return Error::internal("the key service does not open a tenant key");
    }
    // Only the code is kept: a message of KMS may quote the request.
    Error::Unavailable(format!(
        "the key service answered {}",
        error.code().unwrap_or("nothing usable")
    ))
}

/// A cache of unwrapped tenant keys.
#[derive(Default)]
pub struct TenantKeys(Mutex<HashMap<(TenantId, u32), (TenantKey, Instant)>>);

impl TenantKeys {
    /// The key, if it is in the cache and not too old.
    pub fn get(&self, tenant: &TenantId, number: u32) -> Option<TenantKey> {
        let keys = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.get(&(tenant.clone(), number))
            .filter(|(_, since)| since.elapsed() < TENANT_KEY_LIFETIME)
            .map(|(key, _)| key.clone())
    }

    /// Adds a key and removes those that are too old.
    pub fn put(&self, tenant: &TenantId, key: &TenantKey) {
        let mut keys = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.retain(|_, (_, since)| since.elapsed() < TENANT_KEY_LIFETIME);
        keys.insert((tenant.clone(), key.number), (key.clone(), Instant::now()));
    }
}

impl TenantKey {
    /// A new data key for a server, and its wrapped form.
    ///
    /// # Errors
    /// [`Error::Internal`] when the random generator fails.
    pub fn new_data_key(
        &self,
        tenant: &TenantId,
        server: ServerId,
    ) -> Result<(DataKey, WrappedKey)> {
        let key = Zeroizing::new(random()?);
        let sealed = encrypt(&self.bytes, &data_key_aad(tenant, server), key.as_slice())?;
        Ok((
            DataKey(key),
            WrappedKey {
                tenant_key: self.number,
                sealed,
            },
        ))
    }

    /// Unwraps a server's data key.
    ///
    /// # Errors
    /// [`Error::Internal`] when the key does not open.
    pub fn unwrap_data_key(
        &self,
        tenant: &TenantId,
        server: ServerId,
        key: &WrappedKey,
    ) -> Result<DataKey> {
        decrypt(&self.bytes, &data_key_aad(tenant, server), &key.sealed)
            .and_then(|bytes| to_key(&bytes))
            .map(DataKey)
    }

    /// Computes the MAC of a text.
    ///
    /// # Errors
    /// [`Error::Internal`] when the cipher fails.
    pub fn mac(&self, text: &str) -> Result<Mac> {
        Ok(Mac {
            tenant_key: self.number,
            sealed: encrypt(&self.bytes, &aad(&["mark", text]), &[])?,
        })
    }

    /// Seals a secret of an integration, bound to the integration and to the addresses that the secret is sent to.
    ///
    /// # Errors
    /// [`Error::Internal`] when the cipher fails.
    pub fn seal_of_integration(
        &self,
        what: OfIntegration,
        name: &str,
        integration: &Integration,
        secret: &SecretString,
    ) -> Result<SealedSecret> {
        let place = integration_aad(what, name, integration);
        Ok(SealedSecret {
            tenant_key: self.number,
            sealed: encrypt(&self.bytes, &place, secret.expose_secret().as_bytes())?,
        })
    }

    /// Opens what [`Self::seal_of_integration`] sealed for this integration.
    ///
    /// # Errors
    /// [`Error::Internal`] when it was sealed for another integration or other addresses, or changed.
    pub fn open_of_integration(
        &self,
        what: OfIntegration,
        name: &str,
        integration: &Integration,
        secret: &SealedSecret,
    ) -> Result<SecretString> {
        let place = integration_aad(what, name, integration);
        let plain = decrypt(&self.bytes, &place, &secret.sealed)?;
        let text = std::str::from_utf8(&plain).map_err(Error::internal)?;
        Ok(text.into())
    }

    /// Seals a value that leaves Hawser and comes back, such as a cookie, for one purpose.
    ///
    /// # Errors
    /// [`Error::Internal`] when the cipher fails.
    pub fn seal_token(&self, purpose: &str, plain: &[u8]) -> Result<SecretString> {
        let sealed = encrypt(&self.bytes, &aad(&["token", purpose]), plain)?;
        Ok(BASE64URL_NOPAD.encode(&sealed.0).into())
    }

    /// Opens what [`Self::seal_token`] has sealed for this purpose; `None` for anything else.
    pub fn open_token(&self, purpose: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = Sealed(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
        decrypt(&self.bytes, &aad(&["token", purpose]), &sealed).ok()
    }

    /// 256 bits derived from a text and a purpose with this key, as base64url. Nobody can compute them without the key.
    pub fn derive(&self, purpose: &str, text: &str) -> SecretString {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice());
        let tag = hmac::sign(&key, &aad(&["derived", purpose, text]));
        BASE64URL_NOPAD.encode(tag.as_ref()).into()
    }

    /// Whether a MAC is valid for a text.
    pub fn verify_mac(&self, text: &str, mac: &Mac) -> bool {
        decrypt(&self.bytes, &aad(&["mark", text]), &mac.sealed).is_ok()
    }
}

impl DataKey {
    /// A new key pair (ES256) for the tokens of the server's own client.
    ///
    /// # Errors
    /// [`Error::Internal`] when the generator or the cipher fails.
    pub fn new_signing_key(&self, tenant: &TenantId, server: ServerId) -> Result<SigningKey> {
        let failed = |_| Error::internal("a key pair could not be made");
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let private = pair.to_pkcs8v1().map_err(failed)?;
        Ok(SigningKey {
            public: BASE64URL_NOPAD.encode(pair.public_key().as_ref()),
            sealed: self.seal(tenant, server, Kind::SigningKey, private.as_ref())?,
        })
    }

    /// Opens the private half of a key pair.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_signing_key(
        &self,
        tenant: &TenantId,
        server: ServerId,
        key: &SigningKey,
    ) -> Result<EncodingKey> {
        let private = self.open(tenant, server, Kind::SigningKey, &key.sealed)?;
        Ok(EncodingKey::from_ec_der(&private))
    }

    /// The secret in the address of a consent. It is derived, so that the same address can be given out again although
    /// only its hash is stored (docs/decisions/0017-consent-addresses-are-derived.md).
    pub fn address_secret(
        &self,
        tenant: &TenantId,
        server: ServerId,
        session: &str,
    ) -> SecretString {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        let place = aad(&["consent-address", tenant.as_str(), &server.ulid(), session]);
        BASE64URL_NOPAD
            .encode(hmac::sign(&key, &place).as_ref())
            .into()
    }

    /// Seals `plain` for exactly this tenant, server and kind.
    ///
    /// # Errors
    /// [`Error::Internal`] when the cipher fails.
    pub fn seal(
        &self,
        tenant: &TenantId,
        server: ServerId,
        kind: Kind<'_>,
        plain: &[u8],
    ) -> Result<Sealed> {
        encrypt(&self.0, &value_aad(tenant, server, kind), plain)
    }

    /// Opens what [`Self::seal`] sealed for exactly this tenant, server and kind.
    ///
    /// # Errors
    /// [`Error::Internal`] when the value was sealed for something else, or changed.
    pub fn open(
        &self,
        tenant: &TenantId,
        server: ServerId,
        kind: Kind<'_>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>> {
        decrypt(&self.0, &value_aad(tenant, server, kind), sealed)
    }
}

fn tenant_key_aad(tenant: &TenantId) -> Vec<u8> {
    aad(&["tenant-key", tenant.as_str()])
}

fn data_key_aad(tenant: &TenantId, server: ServerId) -> Vec<u8> {
    aad(&["data-key", tenant.as_str(), &server.ulid()])
}

/// Binds a secret to every address that it could be sent to: write access to the table alone must not redirect it.
fn integration_aad(what: OfIntegration, name: &str, integration: &Integration) -> Vec<u8> {
    if let OfIntegration::Address = what {
        return aad(&["integration-address", name, &integration.mcp_url]);
    }
    let oauth = integration.oauth.as_ref();
    let [client, issuer, authorization, token, revocation] = [
        oauth.and_then(|oauth| oauth.client_id.as_deref()),
        oauth.and_then(|oauth| oauth.issuer.as_deref()),
        oauth.and_then(|oauth| oauth.authorization_endpoint.as_deref()),
        oauth.and_then(|oauth| oauth.token_endpoint.as_deref()),
        oauth.and_then(|oauth| oauth.revocation_endpoint.as_deref()),
    ]
    .map(Option::unwrap_or_default);
    aad(&[
        "client-secret",
        name,
        &integration.mcp_url,
        client,
        issuer,
        authorization,
        token,
        revocation,
    ])
}

fn value_aad(tenant: &TenantId, server: ServerId, kind: Kind<'_>) -> Vec<u8> {
    let ulid = server.ulid();
    match kind {
        Kind::ServerSecrets => aad(&["server-secrets", tenant.as_str(), &ulid]),
        Kind::Override(subject) => aad(&[
            "override",
            tenant.as_str(),
            &ulid,
            subject.kind().as_str(),
            subject.id(),
        ]),
        Kind::Tokens(subject, issuance) => aad(&[
            "tokens",
            tenant.as_str(),
            &ulid,
            subject.kind().as_str(),
            subject.id(),
            &issuance.issuer,
            &issuance.token_endpoint,
            &issuance.client.id,
            issuance.resource.as_deref().unwrap_or_default(),
        ]),
        Kind::Consent(session, subject, issuance) => aad(&[
            "consent",
            tenant.as_str(),
            &ulid,
            session,
            subject.kind().as_str(),
            subject.id(),
            &issuance.issuer,
            &issuance.token_endpoint,
            &issuance.client.id,
            issuance.resource.as_deref().unwrap_or_default(),
        ]),
        Kind::Client(record, issuer) => aad(&["client", tenant.as_str(), &ulid, record, issuer]),
        Kind::SigningKey => aad(&["signing-key", tenant.as_str(), &ulid]),
        Kind::McpSession(id_hash, subject) => aad(&[
            "mcp-session",
            tenant.as_str(),
            &ulid,
            id_hash,
            subject.kind().as_str(),
            subject.id(),
        ]),
        Kind::McpClient(id_hash, subject) => aad(&[
            "mcp-client",
            tenant.as_str(),
            &ulid,
            id_hash,
            subject.kind().as_str(),
            subject.id(),
        ]),
        Kind::RequestState(subject, digest) => aad(&[
            "request-state",
            tenant.as_str(),
            &ulid,
            digest,
            subject.kind().as_str(),
            subject.id(),
        ]),
        Kind::Tools(owner, fingerprint) => aad(&[
            "tools",
            tenant.as_str(),
            &ulid,
            fingerprint,
            owner.map_or("", |subject| subject.kind().as_str()),
            owner.map_or("", Subject::id),
        ]),
    }
}

/// Encodes parts with their lengths, so that two different lists never have the same encoding.
fn aad(parts: &[&str]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| {
            (part.len() as u64)
                .to_be_bytes()
                .into_iter()
                .chain(part.bytes())
        })
        .collect()
}

fn cipher(key: &KeyBytes) -> Result<RandomizedNonceKey> {
    RandomizedNonceKey::new(&AES_256_GCM, key.as_slice())
        .map_err(|_| Error::internal("the cipher refused a key"))
}

fn encrypt(key: &KeyBytes, aad: &[u8], plain: &[u8]) -> Result<Sealed> {
    let mut text = plain.to_vec();
    let nonce = cipher(key)?
        .seal_in_place_append_tag(Aad::from(aad), &mut text)
        .map_err(|_| Error::internal("a value could not be sealed"))?;
    Ok(Sealed([nonce.as_ref().as_slice(), &text].concat()))
}

fn decrypt(key: &KeyBytes, aad: &[u8], sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>> {
    let broken = || Error::internal("a sealed value does not open at its place");
    let (nonce, text) = sealed.0.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
    let mut text = Zeroizing::new(text.to_vec());
    let length = cipher(key)?
        .open_in_place(nonce, Aad::from(aad), &mut text)
        .map_err(|_| broken())?
        .len();
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::SubjectType;
    use crate::domain::time::Timestamp;

    #[test]
    fn opens_at_its_own_place_only() {
        let key = DataKey(Zeroizing::new([7; 32]));
        let (acme, other) = (
            TenantId::parse("acme").unwrap(),
            TenantId::parse("other").unwrap(),
        );
        let (one, two) = (
            ServerId::new(Timestamp::from_micros(0)).unwrap(),
            ServerId::new(Timestamp::from_micros(0)).unwrap(),
        );
        let (ada, bob) = (
            Subject::new(SubjectType::User, "ada").unwrap(),
            Subject::new(SubjectType::User, "bob").unwrap(),
        );
        let sealed = key
            .seal(&acme, one, Kind::Override(&ada), b"s3cret")
            .unwrap();
        assert_eq!(
            key.open(&acme, one, Kind::Override(&ada), &sealed)
                .unwrap()
                .as_slice(),
            b"s3cret"
        );
        assert!(
            key.open(&other, one, Kind::Override(&ada), &sealed)
                .is_err()
        );
        assert!(key.open(&acme, two, Kind::Override(&ada), &sealed).is_err());
        assert!(key.open(&acme, one, Kind::Override(&bob), &sealed).is_err());
        assert!(key.open(&acme, one, Kind::ServerSecrets, &sealed).is_err());
        for i in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[i] ^= 1;
            assert!(
                key.open(&acme, one, Kind::Override(&ada), &changed)
                    .is_err()
            );
        }
        assert!(
            key.open(&acme, one, Kind::Override(&ada), &Sealed(vec![1; 5]))
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_tenant_key_is_of_one_tenant() {
        let service = KeyService::from_hex(&"ab".repeat(32)).unwrap();
        let (acme, other) = (
            TenantId::parse("acme").unwrap(),
            TenantId::parse("other").unwrap(),
        );
        let (key, wrapped) = service.new_tenant_key(&acme, 1).await.unwrap();
        assert_eq!(
            service
                .unwrap_tenant_key(&acme, &wrapped)
                .await
                .unwrap()
                .bytes,
            key.bytes
        );
        assert!(service.unwrap_tenant_key(&other, &wrapped).await.is_err());
    }
}
