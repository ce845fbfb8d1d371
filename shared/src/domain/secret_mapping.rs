//! Where the secrets are that a tenant's manifests refer to. The operator says it once for all tenants, in words that lead
//! each tenant to its own secrets alone.

use super::id::TenantId;
use super::integration::{SecretReference, SecretStore};

/// Where references lead, such as `ssm:/hawser/{tenant}/{group}/{name}` or
/// `secretsmanager:hawser/{tenant}/{group}#{name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMapping {
    store: SecretStore,
    /// The segments between slashes.
    segments: Vec<Segment>,
    /// The name is not a segment but a member of the JSON object that is stored there.
    names_member: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    Tenant,
    Group,
    Name,
}

impl SecretMapping {
    /// Reads the operator's words. `{tenant}`, `{group}` and `{name}` are each there once and are whole segments, the tenant
    /// before the others, so that no name can lead to another tenant's secrets.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (store, path) = text.split_once(':').ok_or("it names no store")?;
        let store = match store {
            "ssm" => SecretStore::Ssm,
            "secretsmanager" => SecretStore::Secretsmanager,
            _ => return Err("its store is neither ssm nor secretsmanager"),
        };
        let (path, names_member) = match path.split_once('#') {
            None => (path, false),
            Some((path, "{name}")) => (path, true),
            Some(_) => return Err("only {name} may be behind #"),
        };
        let segment = |text: &str| match text {
            "{tenant}" => Ok(Segment::Tenant),
            "{group}" => Ok(Segment::Group),
            "{name}" => Ok(Segment::Name),
            _ if text.is_empty() || is_plain(text) => Ok(Segment::Text(text.to_owned())),
            _ => Err(
                "a part between slashes is neither plain text nor one of {tenant}, {group} and {name}",
            ),
        };
        let segments = path
            .split('/')
            .map(segment)
            .collect::<Result<Vec<_>, _>>()?;
        let placeholders: Vec<_> = segments
            .iter()
            .filter(|one| !matches!(one, Segment::Text(_)))
            .collect();
        let expected: &[&Segment] = if names_member {
            &[&Segment::Tenant, &Segment::Group]
        } else {
            &[&Segment::Tenant, &Segment::Group, &Segment::Name]
        };
        if placeholders != expected {
            return Err("it must have {tenant}, {group} and {name}, each once and in this order");
        }
        Ok(Self {
            store,
            segments,
            names_member,
        })
    }

    /// Where a reference of a tenant leads. `None` where a part of it is no plain text, and could lead elsewhere.
    pub fn lead(&self, tenant: &TenantId, group: &str, name: &str) -> Option<SecretReference> {
        let tenant = tenant.as_str();
        if ![tenant, group, name].into_iter().all(is_plain) {
            return None;
        }
        let text = |segment: &Segment| match segment {
            Segment::Text(text) => text.clone(),
            Segment::Tenant => tenant.to_owned(),
            Segment::Group => group.to_owned(),
            Segment::Name => name.to_owned(),
        };
        let segments: Vec<_> = self.segments.iter().map(text).collect();
        Some(SecretReference {
            store: self.store,
            id: segments.join("/"),
            json_key: self.names_member.then(|| name.to_owned()),
        })
    }
}

/// Whether a text is a segment of a path that means nothing but itself.
fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=255).contains(&text.len()) && text.bytes().all(plain) && text.bytes().any(|b| b != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(
        mapping: &str,
        tenant: &str,
        group: &str,
        name: &str,
    ) -> Option<(String, Option<String>)> {
        let mapping = SecretMapping::parse(mapping).unwrap();
        let reference = mapping.lead(&TenantId::parse(tenant).unwrap(), group, name)?;
        Some((reference.id, reference.json_key))
    }

    #[test]
    fn a_reference_leads_into_its_own_tenant_alone() {
        let parameters = "ssm:/hawser/{tenant}/{group}/{name}";
        let expected = Some(("/hawser/acme/mail/KEY".to_owned(), None));
        assert_eq!(leads(parameters, "acme", "mail", "KEY"), expected);
        let secrets = "secretsmanager:hawser/{tenant}/{group}#{name}";
        let expected = Some(("hawser/acme/mail".to_owned(), Some("KEY".to_owned())));
        assert_eq!(leads(secrets, "acme", "mail", "KEY"), expected);
        for (tenant, group, name) in [
            ("acme/beta", "mail", "KEY"),
            ("acme", "..", "KEY"),
            ("acme", "mail/../../beta", "KEY"),
            ("acme", "mail", ""),
            ("acme", "mail", "KEY:1"),
            ("acme", "m\u{e4}il", "KEY"),
        ] {
            assert_eq!(
                leads(parameters, tenant, group, name),
                None,
                "{tenant} {group} {name}"
            );
        }
    }

    #[test]
    fn a_mapping_that_does_not_keep_tenants_apart_is_refused() {
        for wrong in [
            "/hawser/{tenant}/{group}/{name}",
            "vault:/hawser/{tenant}/{group}/{name}",
            "ssm:/hawser/{group}/{name}",
            "ssm:/hawser/{group}/{tenant}/{name}",
            "ssm:/hawser-{tenant}/{group}/{name}",
            "ssm:/hawser/{tenant}-{group}/{name}",
            "ssm:/hawser/{tenant}/{group}/{name}/{name}",
            "ssm:/hawser/../{tenant}/{group}/{name}",
            "secretsmanager:hawser/{tenant}/{group}#key",
            "secretsmanager:arn:aws:secretsmanager:eu-west-1:1:secret:{tenant}/{group}#{name}",
            "ssm:/hawser/{tenant}/{group}/{name}#{name}",
        ] {
            assert!(SecretMapping::parse(wrong).is_err(), "{wrong}");
        }
    }
}
