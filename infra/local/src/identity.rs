//! The keys of a data folder: one in place of KMS, and one that signs local tokens.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hawser_core::domain::id::random;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::fs;
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The `iss` of local tokens.
pub const ISSUER: &str = "hawser-local";
/// The `aud` of local tokens.
pub const AUDIENCE: &str = "hawser";
const KEY_ID: &str = "local";

/// The keys of a local server.
pub struct Identity {
    master_key: SecretString,
    signing_key: EncodingKey,
    public_key: Vec<u8>,
}

/// The file with the master key of a data folder, which wraps tenant keys.
pub fn master_key_file(folder: &Path) -> PathBuf {
    folder.join("master.key")
}

impl Identity {
    /// Reads the keys of a data folder. They are made on first use; only their owner can read them.
    ///
    /// # Errors
    /// The folder cannot be written, or a key file is damaged.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let master_key = once(&master_key_file(folder), new_master_key)?;
        let signing_key = once(&folder.join("signing.key"), new_signing_key)?;
        Self::from_text(master_key, &signing_key)
    }

    /// Keys in memory, which end with the process.
    ///
    /// # Errors
    /// The random generator fails.
    pub fn ephemeral() -> Result<Self, Error> {
        Self::from_text(new_master_key()?, &new_signing_key()?)
    }

    fn from_text(master_key: SecretString, signing_key: &SecretString) -> Result<Self, Error> {
        let damaged = || Error::new(ErrorKind::InvalidData, "the signing key is damaged");
        let der = HEXLOWER
            .decode(signing_key.expose_secret().trim().as_bytes())
            .map_err(|_| damaged())?;
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| damaged())?;
        Ok(Self {
            master_key,
            signing_key: EncodingKey::from_ed_der(&der),
            public_key: pair.public_key().as_ref().to_vec(),
        })
    }

    /// The key that wraps tenant keys: 64 hexadecimal digits.
    pub fn master_key(&self) -> &SecretString {
        &self.master_key
    }

    /// The public key set that verifies local tokens.
    pub fn key_set(&self) -> Value {
        let x = BASE64URL_NOPAD.encode(&self.public_key);
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": KEY_ID, "x": x}]})
    }

    /// A token with these claims. `iss` and `aud` are added unless they are among them.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn token(&self, claims: Value) -> Result<String, Error> {
        let mut all = json!({"iss": ISSUER, "aud": AUDIENCE});
        if let (Some(all), Value::Object(claims)) = (all.as_object_mut(), claims) {
            all.extend(claims);
        }
        let header = Header {
            kid: Some(KEY_ID.to_owned()),
            ..Header::new(Algorithm::EdDSA)
        };
        jsonwebtoken::encode(&header, &all, &self.signing_key).map_err(Error::other)
    }
}

fn new_master_key() -> Result<SecretString, Error> {
    Ok(HEXLOWER
        .encode(&random::<32>().map_err(Error::other)?)
        .into())
}

fn new_signing_key() -> Result<SecretString, Error> {
    let der = Ed25519KeyPair::generate()
        .and_then(|pair| pair.to_pkcs8v1())
        .map_err(Error::other)?;
    Ok(HEXLOWER.encode(der.as_ref()).into())
}

/// The content of a file that only its owner may read. The file is made if there is none; of two processes that make it
/// at once the first wins, and nobody sees a half-written file.
fn once(
    path: &Path,
    make: impl FnOnce() -> Result<SecretString, Error>,
) -> Result<SecretString, Error> {
    if !path.exists() {
        let noise = HEXLOWER.encode(&random::<8>().map_err(Error::other)?);
        let draft = path.with_extension(format!("draft-{noise}"));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(make()?.expose_secret().as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => fs::remove_file(&draft)?,
        }
    }
    fs::read_to_string(path).map(SecretString::from)
}
