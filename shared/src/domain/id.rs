//! Identifiers and their spellings. One server has one 128-bit id: TrueFoundry writes it as `mcp-<ULID>`, LangSmith as
//! a UUID; the integer Kambrium uses is a separate value.

use super::time::Timestamp;
use crate::{Error, Result};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Namespace of the UUIDv5 that stands for a tenant whose name is no UUID.
const TENANT_NAMESPACE: Uuid = Uuid::from_u128(0x6d6f_6f72_6564_4861_8773_6572_5465_6e74);

/// `N` random bytes of the operating system's generator.
///
/// # Errors
/// [`Error::Internal`] when the generator fails.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    #[cfg(feature = "simulation")]
    if seeded::fill(&mut bytes) {
        return Ok(bytes);
    }
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::internal("the random generator failed"))?;
    Ok(bytes)
}

/// Makes [`random`] repeatable on one thread, so that a simulation can be run again. No deployed binary has it.
#[cfg(feature = "simulation")]
pub mod seeded {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Derives this thread's random bytes from `seed` from now on; `None` returns to the operating system's.
    pub fn set(seed: Option<u64>) {
        STATE.set(seed);
    }

    /// Fills `bytes` if the thread has a seed (SplitMix64). Returns whether it has.
    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        let Some(mut state) = STATE.get() else {
            return false;
        };
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            for (byte, random) in chunk.iter_mut().zip(word.to_le_bytes()) {
                *byte = random;
            }
        }
        STATE.set(Some(state));
        true
    }
}

/// Compares secrets, or hashes of them, in a time that does not depend on where they differ.
pub fn is_same_secret(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// SHA-256 of a text, lower-case hexadecimal.
pub fn hash(text: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

/// A time-ordered id of 128 bits: a valid UUIDv7 and, by the same bits, a ULID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sortable(u128);

impl Sortable {
    /// A new id. Its first 48 bits are the milliseconds of `now`; the 12 bits after the version are the fraction of the
    /// millisecond (RFC 9562 6.2, method 3). So the ids that one process makes sort in the order of their making.
    ///
    /// # Errors
    /// [`Error::Internal`] when the random generator fails.
    pub fn new(now: Timestamp) -> Result<Self> {
        let micros = u128::from(u64::try_from(now.micros()).unwrap_or(0));
        let millis = (micros / 1000) & 0xffff_ffff_ffff;
        let beyond = (micros % 1000) * 4096 / 1000;
        let noise = u128::from_be_bytes(random()?) & 0x3fff_ffff_ffff_ffff;
        Ok(Self(
            (millis << 80) | (7 << 76) | (beyond << 64) | (0b10 << 62) | noise,
        ))
    }

    /// The smallest id of an instant.
    pub fn first_of(instant: Timestamp) -> Self {
        let millis = u128::from(u64::try_from(instant.micros() / 1000).unwrap_or(0));
        Self((millis & 0xffff_ffff_ffff) << 80)
    }

    /// When the id was made, to the millisecond.
    pub fn at(self) -> Timestamp {
        Timestamp::from_micros((self.0 >> 80) as i64 * 1000)
    }

    /// 26 characters of upper-case Crockford base32.
    pub fn ulid(self) -> String {
        (0..26)
            .rev()
            .map(|i| char::from(CROCKFORD[((self.0 >> (5 * i)) & 31) as usize]))
            .collect()
    }

    /// Reads 26 Crockford letters in any case; `I L O U` and a value over 128 bits are refused.
    pub fn parse_ulid(text: &str) -> Option<Self> {
        if text.len() != 26
            || text
                .as_bytes()
                .first()
                .is_none_or(|b| !(b'0'..=b'7').contains(b))
        {
            return None;
        }
        text.bytes()
            .try_fold(0u128, |sum, byte| {
                let digit = CROCKFORD
                    .iter()
                    .position(|&c| c == byte.to_ascii_uppercase())?;
                Some((sum << 5) | digit as u128)
            })
            .map(Self)
    }
}

/// The id of a registered MCP server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(Sortable);

impl ServerId {
    /// A new id.
    ///
    /// # Errors
    /// As [`Sortable::new`].
    pub fn new(now: Timestamp) -> Result<Self> {
        Sortable::new(now).map(Self)
    }

    /// `mcp-` and the ULID (TrueFoundry 1.2).
    pub fn prefixed(self) -> String {
        format!("mcp-{}", self.0.ulid())
    }

    /// The TrueFoundry spelling; the prefix is exact, the letters may have any case.
    pub fn parse_prefixed(text: &str) -> Option<Self> {
        Sortable::parse_ulid(text.strip_prefix("mcp-")?).map(Self)
    }

    /// Reads the bare ULID.
    pub fn parse_ulid(text: &str) -> Option<Self> {
        Sortable::parse_ulid(text).map(Self)
    }

    /// The bare ULID, as keys of the table hold it.
    pub fn ulid(self) -> String {
        self.0.ulid()
    }

    /// The LangSmith spelling, lower case.
    pub fn uuid(self) -> Uuid {
        Uuid::from_u128(self.0.0)
    }

    /// Exactly the 8-4-4-4-12 form, any case, any version and variant bits (LangSmith 1.2).
    pub fn parse_uuid(text: &str) -> Option<Self> {
        parse_hyphenated(text).map(|uuid| Self(Sortable(uuid.as_u128())))
    }
}

/// A UUID in the 8-4-4-4-12 form and no other that the `uuid` crate would take.
pub fn parse_hyphenated(text: &str) -> Option<Uuid> {
    let hyphens = text
        .bytes()
        .enumerate()
        .all(|(i, b)| (b == b'-') == matches!(i, 8 | 13 | 18 | 23));
    (text.len() == 36 && hyphens)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefixed())
    }
}

impl fmt::Debug for Sortable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ulid())
    }
}

impl Serialize for Sortable {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.ulid())
    }
}

impl<'de> Deserialize<'de> for Sortable {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_ulid(&text).ok_or_else(|| serde::de::Error::custom("not a ULID"))
    }
}

/// The isolation boundary: a TrueFoundry tenant, a LangSmith workspace, a Kambrium account space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(String);

/// The name under which the operator's own key and audit log are stored. No tenant can have it.
const OPERATOR: &str = "hawser:operator";

impl TenantId {
    /// 1 to 255 characters without control characters, and not the name that stands for the operator.
    pub fn parse(name: &str) -> Option<Self> {
        (is_plain_text(name, 255) && name != OPERATOR).then(|| Self(name.to_owned()))
    }

    /// Stands in place of a tenant for what belongs to none: the catalogue of integrations, its key and its audit log.
    pub fn operator() -> Self {
        Self(OPERATOR.to_owned())
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name itself where it is a UUID, else a UUIDv5 of it.
    pub fn uuid(&self) -> Uuid {
        parse_hyphenated(&self.0)
            .unwrap_or_else(|| Uuid::new_v5(&TENANT_NAMESPACE, self.0.as_bytes()))
    }
}

/// 1 to `max` characters and no control character among them.
pub fn is_plain_text(text: &str, max: usize) -> bool {
    !text.is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control)
}

/// Base32 in lower case, without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// The text that [`base32`] has encoded; `None` for anything else.
pub(crate) fn unbase32(text: &str) -> Option<String> {
    let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes());
    String::from_utf8(bytes.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_id_has_the_spellings_of_the_contracts() {
        let id = ServerId::parse_prefixed("mcp-01kf0fv2hrf8br7tab0bc6ycde").unwrap();
        assert_eq!(id.prefixed(), "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE");
        assert_eq!(
            id.uuid().to_string(),
            "019bc0fd-8a38-7a17-83e9-4b02d86f31ae"
        );
        assert_eq!(
            ServerId::parse_uuid("019BC0FD-8a38-7a17-83e9-4b02d86f31ae"),
            Some(id)
        );
    }

    #[test]
    fn no_tenant_is_the_operator() {
        assert_eq!(TenantId::parse(TenantId::operator().as_str()), None);
        assert!(TenantId::parse("hawser:operator ").is_some());
    }

    #[test]
    fn refuses_every_other_spelling() {
        for text in [
            "01KF0FV2HRF8BR7TAB0BC6YCDE",
            "MCP-01KF0FV2HRF8BR7TAB0BC6YCDE",
            "mcp-81KF0FV2HRF8BR7TAB0BC6YCDE",
            "mcp-01KF0FV2HRF8BR7TAB0BC6YCDI",
            "mcp-01KF0FV2HRF8BR7TAB0BC6YCD",
            "mcp-",
            "",
            "mcp-0é",
        ] {
            assert_eq!(ServerId::parse_prefixed(text), None, "{text}");
        }
        for text in [
            "019bc0fd8a387a1783e94b02d86f31ae",
            "{019bc0fd-8a38-7a17-83e9-4b02d86f31ae}",
            "urn:uuid:019bc0fd-8a38-7a17-83e9-4b02d86f31ae",
            "019bc0fd-8a38-7a17-83e9-4b02d86f31ag",
            "7",
        ] {
            assert_eq!(ServerId::parse_uuid(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn spellings_round_trip(bits: u128, micros in 0i64..4_000_000_000_000_000) {
            let id = ServerId(Sortable(bits));
            prop_assert_eq!(ServerId::parse_prefixed(&id.prefixed()), Some(id));
            prop_assert_eq!(ServerId::parse_uuid(&id.uuid().to_string()), Some(id));
            let new = ServerId::new(Timestamp::from_micros(micros)).unwrap().uuid();
            prop_assert_eq!(new.get_version_num(), 7);
            prop_assert_eq!(new.get_variant(), uuid::Variant::RFC4122);
            prop_assert_eq!((new.as_u128() >> 80) as i64, micros / 1000);
            let next = Timestamp::from_micros(micros + 1);
            prop_assert!(new < ServerId::new(next).unwrap().uuid());
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = ServerId::parse_prefixed(&text);
            let _ = ServerId::parse_uuid(&text);
        }
    }
}
