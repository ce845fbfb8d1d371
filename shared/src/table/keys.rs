//! Every key of the table, made here and nowhere else. A part that a caller supplied is encoded, so it can neither forge
//! a separator nor outgrow a key.

use crate::domain::credential::Source;
use crate::domain::event::Month;
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::subject::{Subject, SubjectType};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use uuid::Uuid;

/// The primary key of one item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

fn key(pk: String, sk: impl Into<String>) -> Key {
    Key { pk, sk: sk.into() }
}

/// Sort-key prefix of the servers in a tenant's partition.
pub(crate) const SERVERS: &str = "S#";
/// Sort-key prefix of the pointers from numbers to servers.
pub(crate) const NUMBERS: &str = "NUM#";
/// Sort-key prefix of the API keys in a tenant's partition.
pub(crate) const API_KEYS: &str = "KEY#";
/// Sort-key prefix of the credentials in a server's partition.
pub(crate) const CREDENTIALS: &str = "C#";
/// Sort-key prefix of the authorization sessions in a server's partition.
pub(crate) const SESSIONS: &str = "A#";
/// Sort-key prefix of the revocations in a server's partition, and in a tenant's.
pub(crate) const REVOCATIONS: &str = "REVOKE#";
/// Sort-key prefix of the sweeps in a server's partition.
pub(crate) const SWEEPS: &str = "SWEEP#";
/// Sort-key prefix of the clients in a server's partition.
pub(crate) const CLIENTS: &str = "CLIENT#";
/// Sort-key prefix of the heads of a tenant's audit logs, one for each month.
pub(crate) const AUDIT_LOG_HEADS: &str = "AUDIT#";
/// Sort-key prefix of the receipts in a tenant's partition.
pub(crate) const RECEIPTS: &str = "R#";
/// Sort-key prefix of the logins in a tenant's partition.
pub(crate) const LOGINS: &str = "LOGIN#";
/// Sort-key prefix of the pointers from subjects to their logins.
pub(crate) const LOGIN_POINTERS: &str = "LOGINOF#";
/// Sort-key prefix of the keys that access tokens are signed with, in the operator's partition.
pub(crate) const TOKEN_KEYS: &str = "TOKENKEY#";
/// Partition of the operator's catalogue.
const CATALOGUE: &str = "CATALOGUE";
/// Sort-key prefix of the integrations in it.
const INTEGRATIONS: &str = "I#";
/// Partition of the index: work to be done, by time.
pub(crate) const DUE: &str = "DUE";
/// How many partitions of the index events wait in to be chained: an index partition takes as many writes as one of
/// the table.
pub(crate) const UNCHAINED: u8 = 4;

/// Sort-key prefix of providers in a server's partition, and of their pointers in a tenant's.
pub(crate) const PROVIDERS: &str = "PROVIDER#";

/// A sort key behind all that have this prefix, and before whatever else is in the partition: every prefix ends in `#`.
pub(crate) fn behind(prefix: &str) -> String {
    format!("{}$", prefix.trim_end_matches('#'))
}

/// The longest encoded part; a sort key holds 1024 bytes.
const LONGEST_PART: usize = 512;

/// `%` and `#` escaped; what is too long even so becomes its hash, behind a mark that no escape can produce.
fn part(text: &str) -> String {
    let escaped = text.replace('%', "%25").replace('#', "%23");
    if escaped.len() <= LONGEST_PART {
        escaped
    } else {
        format!(
            "%H{}",
            HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref())
        )
    }
}

pub(crate) fn tenant_partition(tenant: &TenantId) -> String {
    format!("T#{}", part(tenant.as_str()))
}

pub(crate) fn server_partition(tenant: &TenantId, server: ServerId) -> String {
    format!("{}#S#{}", tenant_partition(tenant), server.ulid())
}

pub(crate) fn server(tenant: &TenantId, server: ServerId) -> Key {
    key(
        tenant_partition(tenant),
        format!("{SERVERS}{}", server.ulid()),
    )
}

pub(crate) fn name(tenant: &TenantId, name: &str) -> Key {
    key(tenant_partition(tenant), name_sort_key(name))
}

pub(crate) fn number(tenant: &TenantId, number: u64) -> Key {
    key(tenant_partition(tenant), number_sort_key(number))
}

pub(crate) fn name_sort_key(name: &str) -> String {
    format!("NAME#{}", part(name))
}

pub(crate) fn number_sort_key(number: u64) -> String {
    format!("{NUMBERS}{number:020}")
}

pub(crate) fn receipt_sort_key(id: &str) -> String {
    format!("{RECEIPTS}{}", part(id))
}

/// Sort-key prefix of what is stored for subjects of a type in a server's partition.
pub(crate) fn credentials_of(kind: SubjectType) -> String {
    format!("{CREDENTIALS}{}#", kind.as_str())
}

/// What concerns a subject at all servers.
pub(crate) fn subject(tenant: &TenantId, subject: &Subject) -> Key {
    let kind = subject.kind().as_str();
    key(
        tenant_partition(tenant),
        format!("SUBJECT#{kind}#{}", part(subject.id())),
    )
}

/// What a subject has allowed to applications.
pub(crate) fn remembered_applications(tenant: &TenantId, subject: &Subject) -> Key {
    let kind = subject.kind().as_str();
    key(
        tenant_partition(tenant),
        format!("REMEMBERED#{kind}#{}", part(subject.id())),
    )
}

/// What a request with a key of its client has led to.
pub(crate) fn carried_out(tenant: &TenantId, request: &str) -> Key {
    key(tenant_partition(tenant), format!("ONCE#{request}"))
}

pub(crate) fn counter(tenant: &TenantId) -> Key {
    key(tenant_partition(tenant), "COUNTER")
}

pub(crate) fn api_key(tenant: &TenantId, id: &str) -> Key {
    key(tenant_partition(tenant), format!("{API_KEYS}{}", part(id)))
}

/// Key of the pointer from the hash of a personal access token to its tenant and API key.
pub(crate) fn personal(hash: &str) -> Key {
    key(format!("PAT#{}", part(hash)), "PAT")
}

pub(crate) fn login(tenant: &TenantId, id: Sortable) -> Key {
    key(tenant_partition(tenant), login_sort_key(id))
}

pub(crate) fn login_sort_key(id: Sortable) -> String {
    format!("{LOGINS}{}", id.ulid())
}

/// Key of the pointer from a subject to one of its logins.
pub(crate) fn login_pointer(tenant: &TenantId, subject: &Subject, id: Sortable) -> Key {
    key(
        tenant_partition(tenant),
        login_pointer_sort_key(subject, id),
    )
}

pub(crate) fn login_pointer_sort_key(subject: &Subject, id: Sortable) -> String {
    format!("{}{}", logins_of(subject), id.ulid())
}

/// Sort-key prefix of the pointers to the logins of a subject.
pub(crate) fn logins_of(subject: &Subject) -> String {
    let kind = subject.kind().as_str();
    format!("{LOGIN_POINTERS}{kind}#{}#", part(subject.id()))
}

/// Key of the revocation of what the identity provider gave for a login that has ended.
pub(crate) fn login_revocation(tenant: &TenantId, id: Sortable) -> Key {
    key(
        tenant_partition(tenant),
        format!("{REVOCATIONS}{}", id.ulid()),
    )
}

/// Key of the authorization code with this hash, whose text names no tenant.
pub(crate) fn authorization_code(hash: &str) -> Key {
    key(format!("CODE#{}", part(hash)), "CODE")
}

/// Key of a key that access tokens are signed with.
pub(crate) fn token_key(number: u32) -> Key {
    key(
        tenant_partition(&TenantId::operator()),
        format!("{TOKEN_KEYS}{number:010}"),
    )
}

pub(crate) fn tenant_key(tenant: &TenantId, number: u32) -> Key {
    key(tenant_partition(tenant), tenant_key_sort_key(number))
}

pub(crate) fn tenant_key_sort_key(number: u32) -> String {
    format!("TENANTKEY#{number}")
}

pub(crate) fn receipt(tenant: &TenantId, id: &str) -> Key {
    key(tenant_partition(tenant), receipt_sort_key(id))
}

pub(crate) fn credential(
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    source: Source,
) -> Key {
    let source = match source {
        Source::Oauth => "oauth",
        Source::Override => "override",
    };
    of_subject(tenant, server, subject, source)
}

/// Which kind of credential a sort key is of; none for a kept reason.
pub(crate) fn credential_source(sk: &str) -> Option<Source> {
    match sk.rsplit('#').next() {
        Some("oauth") => Some(Source::Oauth),
        Some("override") => Some(Source::Override),
        _ => None,
    }
}

pub(crate) fn kept_reason(tenant: &TenantId, server: ServerId, subject: &Subject) -> Key {
    of_subject(tenant, server, subject, "reason")
}

fn of_subject(tenant: &TenantId, server: ServerId, subject: &Subject, what: &str) -> Key {
    key(
        server_partition(tenant, server),
        format!(
            "{CREDENTIALS}{}#{}#{what}",
            subject.kind().as_str(),
            part(subject.id())
        ),
    )
}

pub(crate) fn tombstone(tenant: &TenantId, server: ServerId) -> Key {
    key(server_partition(tenant, server), TOMBSTONE)
}

/// Each change has its own, so that one never takes over the receipt of another.
pub(crate) fn sweep(tenant: &TenantId, server: ServerId, auth_revision: u64) -> Key {
    key(
        server_partition(tenant, server),
        format!("{SWEEPS}{auth_revision:020}"),
    )
}

pub(crate) fn revocation(tenant: &TenantId, server: ServerId, id: &str) -> Key {
    key(
        server_partition(tenant, server),
        format!("{REVOCATIONS}{}", part(id)),
    )
}

pub(crate) fn verification(tenant: &TenantId, server: ServerId, id: &str) -> Key {
    key(
        server_partition(tenant, server),
        format!("VERIFY#{}", part(id)),
    )
}

pub(crate) fn session(tenant: &TenantId, server: ServerId, id: &str) -> Key {
    key(
        server_partition(tenant, server),
        format!("{SESSIONS}{}", part(id)),
    )
}

/// Key of the pointer to the open consent of a subject at a server, for requests with the same `slot`.
pub(crate) fn open_consent(
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    slot: &str,
) -> Key {
    let slot = HEXLOWER.encode(digest(&SHA256, slot.as_bytes()).as_ref());
    key(
        server_partition(tenant, server),
        format!(
            "OPEN#{}#{}#{slot}",
            subject.kind().as_str(),
            part(subject.id())
        ),
    )
}

pub(crate) fn mcp_session(tenant: &TenantId, server: ServerId, id_hash: &str) -> Key {
    key(
        server_partition(tenant, server),
        format!("M#{}", part(id_hash)),
    )
}

pub(crate) fn client(
    tenant: &TenantId,
    server: ServerId,
    owner: Option<&Subject>,
    id: &str,
) -> Key {
    key(
        server_partition(tenant, server),
        format!("{}{}", clients(owner), part(id)),
    )
}

/// The tools that one subject finds at a server, or that all find who bring nothing of their own.
pub(crate) fn tools(tenant: &TenantId, server: ServerId, owner: Option<&Subject>) -> Key {
    let owner = match owner {
        None => "shared".to_owned(),
        Some(subject) => format!("{}#{}", subject.kind().as_str(), part(subject.id())),
    };
    key(server_partition(tenant, server), format!("TOOLS#{owner}"))
}

/// The lease of whoever registers a client, for one subject or for all.
pub(crate) fn registration(tenant: &TenantId, server: ServerId, owner: Option<&Subject>) -> Key {
    let owner = match owner {
        None => "shared".to_owned(),
        Some(subject) => format!("{}#{}", subject.kind().as_str(), part(subject.id())),
    };
    key(
        server_partition(tenant, server),
        format!("REGISTRATION#{owner}"),
    )
}

/// Sort-key prefix of the clients of one subject, or of those that serve all.
pub(crate) fn clients(owner: Option<&Subject>) -> String {
    match owner {
        None => format!("{CLIENTS}shared#"),
        Some(subject) => format!(
            "{CLIENTS}{}#{}#",
            subject.kind().as_str(),
            part(subject.id())
        ),
    }
}

pub(crate) fn provider(tenant: &TenantId, server: ServerId, subject: &Subject) -> Key {
    key(
        server_partition(tenant, server),
        format!(
            "{PROVIDERS}{}#{}",
            subject.kind().as_str(),
            part(subject.id())
        ),
    )
}

/// Key of the pointer from a provider id to its server and subject.
pub(crate) fn provider_pointer(tenant: &TenantId, id: Uuid) -> Key {
    key(tenant_partition(tenant), provider_pointer_sort_key(id))
}

pub(crate) fn provider_pointer_sort_key(id: Uuid) -> String {
    format!("{PROVIDERS}{}", id.as_hyphenated())
}

pub(crate) fn events(tenant: &TenantId, month: &Month) -> String {
    format!(
        "{}#{AUDIT_LOG_HEADS}{}",
        tenant_partition(tenant),
        month.as_str()
    )
}

pub(crate) fn event(tenant: &TenantId, month: &Month, id: Sortable) -> Key {
    key(events(tenant, month), id.ulid())
}

pub(crate) fn audit_log_head(tenant: &TenantId, month: &Month) -> Key {
    key(
        tenant_partition(tenant),
        format!("{AUDIT_LOG_HEADS}{}", month.as_str()),
    )
}

/// The partition of the second index in which a tenant's events wait.
pub(crate) fn unchained_of(tenant: &TenantId) -> String {
    let digest = digest(&SHA256, tenant.as_str().as_bytes());
    unchained(digest.as_ref().first().unwrap_or(&0) % UNCHAINED)
}

pub(crate) fn unchained(shard: u8) -> String {
    format!("UNCHAINED#{shard}")
}

/// The item that counts the changes of the catalogue.
pub(crate) fn catalogue() -> Key {
    key(CATALOGUE.to_owned(), "HEAD")
}

/// Partition of the integrations, and what their sort keys begin with.
pub(crate) fn integrations() -> (String, &'static str) {
    (CATALOGUE.to_owned(), INTEGRATIONS)
}

pub(crate) fn integration(name: &str) -> Key {
    key(
        CATALOGUE.to_owned(),
        format!("{INTEGRATIONS}{}", part(name)),
    )
}

pub(crate) fn offboarding(tenant: &TenantId, receipt: &str) -> Key {
    key(
        tenant_partition(tenant),
        format!("OFFBOARD#{}", part(receipt)),
    )
}

/// Sort key of a tombstone.
pub(crate) const TOMBSTONE: &str = "TOMBSTONE";

/// The tenant's partition above another of its partitions, or itself.
pub(crate) fn tenant_of(partition: &str) -> &str {
    let end = partition.match_indices('#').nth(1);
    end.map_or(partition, |(end, _)| partition.split_at(end).0)
}

/// The tenant of a partition, and the server if it is one's. None if the tenant's name is too long to stand in a key.
pub(crate) fn owners(partition: &str) -> Option<(TenantId, Option<ServerId>)> {
    let tenant = tenant_of(partition).strip_prefix("T#")?;
    let tenant = tenant.replace("%23", "#").replace("%25", "%");
    let operator = TenantId::operator();
    let tenant = match tenant == operator.as_str() {
        true => Some(operator),
        false => TenantId::parse(&tenant),
    };
    let tenant = tenant.filter(|it| tenant_of(partition) == tenant_partition(it))?;
    let server = partition.rsplit_once("#S#").map(|(_, ulid)| ulid);
    Some((tenant, server.and_then(ServerId::parse_ulid)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_distinct_and_free_of_separators(a: String, b: String) {
            prop_assert!(!part(&a).contains('#'));
            prop_assert!(part(&a).len() <= LONGEST_PART);
            prop_assert_eq!(a == b, part(&a) == part(&b));
        }

        #[test]
        fn a_partition_names_its_owners(name in "[%#23 5a-z]{1,40}", bits: u128) {
            let tenant = TenantId::parse(&name);
            prop_assume!(tenant.is_some());
            let tenant = tenant.unwrap();
            let server = ServerId::parse_uuid(&Uuid::from_u128(bits).to_string()).unwrap();
            let partition = server_partition(&tenant, server);
            prop_assert_eq!(tenant_of(&partition), tenant_partition(&tenant));
            prop_assert_eq!(owners(&partition), Some((tenant.clone(), Some(server))));
            prop_assert_eq!(owners(&tenant_partition(&tenant)), Some((tenant, None)));
        }
    }

    #[test]
    fn the_operator_owns_its_partition() {
        let operator = TenantId::operator();
        let partition = tenant_partition(&operator);
        assert_eq!(owners(&partition), Some((operator, None)));
    }

    #[test]
    fn a_long_part_fits() {
        let (long, longer) = ("#".repeat(255), "#".repeat(256));
        assert_ne!(part(&long), part(&longer));
        assert_ne!(part(&long), part(&part(&long)));
    }
}
