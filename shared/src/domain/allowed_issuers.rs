//! Which issuers the servers of each tenant may use, as the operator configures it. Without an entry, any issuer.

use super::id::TenantId;
use std::collections::{BTreeMap, BTreeSet};

/// The allowed issuers by tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedIssuers(BTreeMap<String, BTreeSet<String>>);

/// The key of the entry for all tenants that have none of their own.
const OTHERS: &str = "*";

impl AllowedIssuers {
    /// Reads a JSON object that maps a tenant, or `*` for all others, to an array of issuers. `None` if the text is no
    /// such object, or if an issuer is not a URL without query and fragment (RFC 8414 2).
    pub fn parse(text: &str) -> Option<Self> {
        let said: BTreeMap<String, Vec<String>> = serde_json::from_str(text).ok()?;
        let mut all = BTreeMap::new();
        for (tenant, issuers) in said {
            if tenant != OTHERS {
                TenantId::parse(&tenant)?;
            }
            let issuers = issuers.iter().map(|issuer| {
                let url = url::Url::parse(issuer).ok()?;
                let is_one = matches!(url.scheme(), "https" | "http")
                    && url.query().is_none()
                    && url.fragment().is_none();
                is_one.then(|| spelled(issuer).to_owned())
            });
            all.insert(tenant, issuers.collect::<Option<_>>()?);
        }
        Some(Self(all))
    }

    /// Whether a server of a tenant may use an issuer, named byte for byte; a slash at the end makes no difference.
    pub fn allows(&self, tenant: &TenantId, issuer: &str) -> bool {
        let said = self.0.get(tenant.as_str()).or_else(|| self.0.get(OTHERS));
        said.is_none_or(|issuers| issuers.contains(spelled(issuer)))
    }
}

/// An issuer without its final slash, which some write and others do not.
fn spelled(issuer: &str) -> &str {
    issuer.strip_suffix('/').unwrap_or(issuer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn a_tenant_that_nothing_is_said_of_uses_any() {
        let all = AllowedIssuers::default();
        assert!(all.allows(&tenant("acme"), "https://as.example"));
        let one = AllowedIssuers::parse(r#"{"acme":["https://as.example/t"]}"#).unwrap();
        assert!(one.allows(&tenant("other"), "https://evil.example"));
        for (issuer, allowed) in [
            ("https://as.example/t", true),
            ("https://as.example/t/", true),
            ("https://as.example", false),
            ("https://as.example/t/x", false),
            ("https://AS.example/t", false),
            ("https://evil.example", false),
            ("", false),
        ] {
            assert_eq!(one.allows(&tenant("acme"), issuer), allowed, "{issuer}");
        }
    }

    #[test]
    fn the_star_is_for_all_others_and_an_empty_list_allows_none() {
        let said = r#"{"*":["https://a.example/"],"acme":[],"b":["https://b.example"]}"#;
        let said = AllowedIssuers::parse(said).unwrap();
        for (name, issuer, allowed) in [
            ("any", "https://a.example", true),
            ("any", "https://b.example", false),
            ("acme", "https://a.example", false),
            ("b", "https://a.example", false),
            ("b", "https://b.example", true),
        ] {
            assert_eq!(
                said.allows(&tenant(name), issuer),
                allowed,
                "{name} {issuer}"
            );
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            "[]",
            r#"{"acme":"https://as.example"}"#,
            r#"{"acme":["as.example"]}"#,
            r#"{"acme":["https://as.example?x"]}"#,
            r#"{"acme":["https://as.example#x"]}"#,
            r#"{"acme":[1]}"#,
            r#"{"":["https://as.example"]}"#,
        ] {
            assert_eq!(AllowedIssuers::parse(text), None, "{text}");
        }
    }
}
