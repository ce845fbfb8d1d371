//! The operator's file of integrations, from which Kambrium connections are made (Kambrium 10): how it is read,
//! strictly, and what the table stores of it.

use crate::domain::address::redacted;
use crate::domain::endpoint_method::RevocationMethod;
use crate::domain::header::is_token;
use crate::domain::integration::{
    ClientSecret, Integration, IntegrationOauth, SecretReference, SecretStore,
};
use crate::domain::json::Members;
use crate::domain::server::{ApiKeyHeader, RevocationConfig};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use url::{Host, Url};

/// The longest part of the file about one integration, in bytes: an item of the table may have 400 KB.
const LONGEST: usize = 380 << 10;

/// One integration, as the operator's file describes it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// All of the integration that is not secret.
    pub integration: Integration,
    /// The client secret, where the file holds it.
    pub secret: Option<SecretString>,
    /// The whole address, where its query has values.
    pub address: Option<SecretString>,
}

impl Offer {
    /// Whether a part of the integration has to be sealed.
    pub const fn holds_secrets(&self) -> bool {
        self.secret.is_some() || self.address.is_some()
    }
}

/// What is wrong with a file of integrations, one line for each fault, with integration and field. Values are never
/// quoted, because one may be a secret.
#[derive(Debug)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// Reads a whole file: `{"integrations": {NAME: {...}}}`. With `loopback_http`, addresses may be `http` on loopback.
///
/// # Errors
/// [`Faults`]: everything that is wrong with the file.
pub fn read(document: &str, loopback_http: bool) -> Result<BTreeMap<String, Offer>, Faults> {
    let faults = RefCell::new(Vec::new());
    let mut offers = BTreeMap::new();
    if serde_json::from_str::<&RawValue>(document).is_err() {
        faults.borrow_mut().push("the file is not JSON".to_owned());
    } else if let Some(mut file) = Reader::open("the file", document, loopback_http, &faults) {
        match file.raw("integrations") {
            None => file.fault("integrations", "is missing"),
            Some(all) => {
                if let Some(all) = Reader::open("integrations", all.get(), loopback_http, &faults) {
                    for (name, entry) in all.members {
                        let place = name.escape_debug().to_string();
                        let offer = offer(&place, &name, entry.get(), loopback_http, &faults);
                        offers.extend(offer.map(|offer| (name, offer)));
                    }
                }
            }
        }
        file.close();
    }
    let faults = faults.into_inner();
    if faults.is_empty() {
        Ok(offers)
    } else {
        Err(Faults(faults))
    }
}

/// Whether a name may be that of an integration.
pub fn is_name(name: &str) -> bool {
    let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= 40
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().all(tail)
}

fn offer(
    place: &str,
    name: &str,
    json: &str,
    loopback_http: bool,
    faults: &RefCell<Vec<String>>,
) -> Option<Offer> {
    let mut entry = Reader::open(place, json, loopback_http, faults)?;
    if !is_name(name) {
        entry.complain("the name must match ^[a-z][a-z0-9-]{0,39}$");
    }
    if json.len() > LONGEST {
        entry.complain("is larger than 380 KiB");
    }
    let display_name: Option<String> = entry.required("display_name", TEXT);
    if let Some(name) = &display_name
        && !(1..=200).contains(&name.chars().count())
    {
        entry.fault("display_name", "must have 1 to 200 characters");
    }
    let description = entry.take("description", TEXT);
    let mcp_url = entry.url("mcp_url");
    if mcp_url.is_none() {
        entry.missing("mcp_url");
    }
    let active = entry.take("active", SWITCH).unwrap_or(true);
    let number_of_tools = entry.take("number_of_tools", "must be an integer, 0 or more");
    let api_key = entry.object("api_key").map(api_key);
    let oauth = entry.object("oauth").map(oauth);
    let is_sound = entry.close();
    let (oauth, secret) = oauth.unzip();
    let whole = mcp_url?;
    let mcp_url = redacted(&whole);
    is_sound.then_some(Offer {
        integration: Integration {
            display_name: display_name?,
            description,
            mcp_url: mcp_url.clone(),
            address: None,
            active,
            number_of_tools: number_of_tools.unwrap_or(0),
            api_key,
            oauth,
        },
        secret: secret.flatten(),
        address: (mcp_url != whole).then(|| whole.into()),
    })
}

fn api_key(mut fields: Reader<'_>) -> ApiKeyHeader {
    let header = fields.take("header", TEXT);
    let header = header.unwrap_or_else(|| "Authorization".to_owned());
    if !may_carry_keys(&header) {
        fields.fault("header", "is no header that may carry a key");
    }
    let template = fields.take("template", TEXT);
    let template = template.unwrap_or_else(|| "Bearer {api_key}".to_owned());
    let visible = template.bytes().all(|b| (0x20..=0x7e).contains(&b));
    if !visible || template.matches("{api_key}").count() != 1 {
        fields.fault(
            "template",
            "must hold {api_key} once, and otherwise only visible ASCII and spaces",
        );
    }
    fields.close();
    ApiKeyHeader { header, template }
}

fn oauth(mut fields: Reader<'_>) -> (IntegrationOauth, Option<SecretString>) {
    const AUTH: &str =
        "must be none, client_secret_basic, client_secret_basic_with_id or client_secret_post";
    const TEXTS: &str = "must be a list of texts";
    let secret: Option<SecretString> = fields.take("client_secret", TEXT);
    let reference = fields.object("client_secret_ref").and_then(reference);
    let oauth = IntegrationOauth {
        authorization_endpoint: fields.url("authorization_endpoint"),
        token_endpoint: fields.url("token_endpoint"),
        revocation_endpoint: fields.url("revocation_endpoint"),
        issuer: fields.url("issuer"),
        revocation: fields.object("revocation").and_then(|mut revocation| {
            let text = "must be rfc7009, github, hubspot or slack";
            let method = revocation.required("method", text);
            revocation.close();
            Some(RevocationConfig { method: method? })
        }),
        token_endpoint_auth_method: fields.take("token_endpoint_auth_method", AUTH),
        revocation_endpoint_auth_method: fields.take("revocation_endpoint_auth_method", AUTH),
        include_resource: fields.take("include_resource", SWITCH),
        code_challenge_methods_supported: fields
            .take("code_challenge_methods_supported", TEXTS)
            .unwrap_or_default(),
        client_id: fields.take("client_id", TEXT),
        client_secret: reference.map(ClientSecret::Reference),
        scopes: fields.take("scopes", TEXTS).unwrap_or_default(),
        pkce: fields.take("pkce", SWITCH).unwrap_or(true),
        authorize_params: fields.texts("authorize_params"),
        revocation_scope: fields
            .take("revocation_scope", "must be token or grant")
            .unwrap_or_default(),
    };
    let has_secret = secret.is_some() || oauth.client_secret.is_some();
    if secret.is_some() && oauth.client_secret.is_some() {
        fields.fault("client_secret_ref", "stands beside client_secret");
    }
    // Endpoints are given as a pair, and a secret only together with its client.
    if oauth.authorization_endpoint.is_some() != oauth.token_endpoint.is_some() {
        fields.fault(
            "authorization_endpoint",
            "and token_endpoint must both be there, or none",
        );
    }
    if oauth.client_id.is_none() && (has_secret || oauth.token_endpoint.is_some()) {
        fields.fault(
            "client_id",
            "is missing beside a client secret or configured endpoints",
        );
    }
    let method = oauth.revocation.map(|revocation| revocation.method);
    if method == Some(RevocationMethod::Github) && !has_secret {
        fields.fault(
            "client_secret",
            "is missing, and GitHub's revocation needs it",
        );
    }
    fields.close();
    (oauth, secret)
}

fn reference(mut fields: Reader<'_>) -> Option<SecretReference> {
    let mut ids = [SecretStore::Secretsmanager, SecretStore::Ssm]
        .map(|store| (store, fields.take::<String>(store.as_str(), TEXT)));
    let json_key = fields.take("json_key", TEXT);
    let mut given = ids
        .iter_mut()
        .filter_map(|(store, id)| Some((*store, id.take()?)));
    let (first, second) = (given.next(), given.next());
    let found = match (first, second) {
        (Some((store, id)), None) if store.knows(&id) => Some(SecretReference {
            store,
            id,
            json_key,
        }),
        (Some((SecretStore::Secretsmanager, _)), None) => {
            fields.fault("secretsmanager", "must be the ARN of a secret");
            None
        }
        (Some((SecretStore::Ssm, _)), None) => {
            fields.fault("ssm", "must be the name or the ARN of a parameter");
            None
        }
        _ => {
            fields.complain("must name one secret, by secretsmanager or by ssm");
            None
        }
    };
    fields.close();
    found
}

impl SecretStore {
    /// Whether the store may have a secret under this id.
    fn knows(self, id: &str) -> bool {
        let arn: Vec<_> = id.splitn(6, ':').collect();
        let of = |service| matches!(arn[..], ["arn", _, named, _, _, rest] if named == service && !rest.is_empty());
        let is_parameter = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
        match self {
            Self::Secretsmanager => of("secretsmanager"),
            Self::Ssm => of("ssm") || (!id.is_empty() && id.bytes().all(is_parameter)),
        }
    }
}

const TEXT: &str = "must be text";
const SWITCH: &str = "must be true or false";

/// Reads the members of one object. Members that are repeated, or that nobody reads, are faults.
struct Reader<'a> {
    place: String,
    members: Vec<(String, Box<RawValue>)>,
    loopback_http: bool,
    faults: &'a RefCell<Vec<String>>,
    /// How many faults there were before this object.
    before: usize,
}

impl<'a> Reader<'a> {
    fn open(
        place: &str,
        json: &str,
        loopback_http: bool,
        faults: &'a RefCell<Vec<String>>,
    ) -> Option<Self> {
        let before = faults.borrow().len();
        let Ok(Members(members)) = serde_json::from_str(json) else {
            faults
                .borrow_mut()
                .push(format!("{place}: must be an object"));
            return None;
        };
        let reader = Self {
            place: place.to_owned(),
            members,
            loopback_http,
            faults,
            before,
        };
        let mut seen = BTreeSet::new();
        for (name, _) in &reader.members {
            if !seen.insert(name) {
                reader.fault(name, "is there twice");
            }
        }
        Some(reader)
    }

    fn complain(&self, text: &str) {
        let line = format!("{}: {text}", self.place);
        self.faults.borrow_mut().push(line);
    }

    fn fault(&self, field: &str, text: &str) {
        self.complain(&format!("{} {text}", field.escape_debug()));
    }

    /// Reports that a field is missing, unless a fault of the field is reported already.
    fn missing(&self, field: &str) {
        let said = format!("{}: {field} ", self.place);
        if !self
            .faults
            .borrow()
            .iter()
            .any(|line| line.starts_with(&said))
        {
            self.fault(field, "is missing");
        }
    }

    /// The unparsed value of a member; `null` counts as absent.
    fn raw(&mut self, field: &str) -> Option<Box<RawValue>> {
        let mut found = None;
        self.members.retain_mut(|(name, value)| {
            let is_it = name == field;
            if is_it {
                found = Some(std::mem::replace(value, RawValue::NULL.to_owned()));
            }
            !is_it
        });
        found.filter(|value| value.get() != "null")
    }

    fn take<T: DeserializeOwned>(&mut self, field: &str, expected: &str) -> Option<T> {
        let raw = self.raw(field)?;
        let value = serde_json::from_str(raw.get()).ok();
        if value.is_none() {
            self.fault(field, expected);
        }
        value
    }

    fn required<T: DeserializeOwned>(&mut self, field: &str, expected: &str) -> Option<T> {
        let value = self.take(field, expected);
        if value.is_none() {
            self.missing(field);
        }
        value
    }

    fn url(&mut self, field: &str) -> Option<String> {
        let url: String = self.take(field, TEXT)?;
        if !is_plain_url(&url, self.loopback_http) {
            self.fault(
                field,
                "must be an https URL without user information and fragment",
            );
        }
        Some(url)
    }

    fn object(&mut self, field: &str) -> Option<Self> {
        let raw = self.raw(field)?;
        let place = format!("{}.{field}", self.place);
        Self::open(&place, raw.get(), self.loopback_http, self.faults)
    }

    /// An object whose values are texts.
    fn texts(&mut self, field: &str) -> BTreeMap<String, String> {
        let Some(mut object) = self.object(field) else {
            return BTreeMap::new();
        };
        let names: BTreeSet<_> = object
            .members
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        let texts = names.into_iter().filter_map(|name| {
            let text = object.required(&name, TEXT)?;
            Some((name, text))
        });
        texts.collect()
    }

    /// Reports the members that were not read. Returns whether this object, with all that is in it, has no fault.
    fn close(self) -> bool {
        for (name, _) in &self.members {
            self.fault(name, "is not known");
        }
        self.faults.borrow().len() == self.before
    }
}

fn is_plain_url(text: &str, loopback_http: bool) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let local = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let scheme = url.scheme() == "https" || (loopback_http && local && url.scheme() == "http");
        scheme && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
    })
}

fn may_carry_keys(header: &str) -> bool {
    const REFUSED: [&str; 8] = [
        "connection",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = header.to_ascii_lowercase();
    is_token(&name)
        && !REFUSED.contains(&name.as_str())
        && !name.starts_with("content-")
        && !name.starts_with("mcp-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn read_one(entry: &str) -> Result<Offer, String> {
        let file = format!(r#"{{"integrations": {{"one": {entry}}}}}"#);
        let offers = read(&file, false).map_err(|faults| faults.to_string())?;
        Ok(offers["one"].clone())
    }

    #[test]
    fn each_mistake_is_named_by_integration_and_field() {
        let with = |more: &str| {
            let entry =
                format!(r#"{{"display_name": "O", "mcp_url": "https://x.example/mcp"{more}}}"#);
            read_one(&entry).unwrap_err()
        };
        for (more, fault) in [
            (r#", "activ": true"#, "one: activ is not known"),
            (r#", "active": "yes""#, "one: active must be true or false"),
            (
                r#", "active": true, "active": false"#,
                "one: active is there twice",
            ),
            (
                r#", "number_of_tools": -1"#,
                "one: number_of_tools must be an integer, 0 or more",
            ),
            (
                r#", "api_key": {"header": "Host"}"#,
                "one.api_key: header is no header",
            ),
            (
                r#", "api_key": {"template": "{api_key}{api_key}"}"#,
                "one.api_key: template must hold",
            ),
            (r#", "api_key": true"#, "one.api_key: must be an object"),
            (
                r#", "oauth": {"client_id": "c", "token_endpoint": "https://x.example/t"}"#,
                "one.oauth: authorization_endpoint and token_endpoint",
            ),
            (
                r#", "oauth": {"issuer": "http://as.example"}"#,
                "one.oauth: issuer must be an https URL",
            ),
            (
                r#", "oauth": {"issuer": "http://127.0.0.1"}"#,
                "one.oauth: issuer must be an https URL",
            ),
            (
                r#", "oauth": {"client_secret": "s3cret"}"#,
                "one.oauth: client_id is missing",
            ),
            (
                r#", "oauth": {"client_id": "c", "client_secret": 4711}"#,
                "one.oauth: client_secret must be text",
            ),
            (
                r#", "oauth": {"revocation": {"method": "fax"}}"#,
                "one.oauth.revocation: method must be",
            ),
            (
                r#", "oauth": {"client_id": "c", "revocation": {"method": "github"}}"#,
                "one.oauth: client_secret is missing",
            ),
            (
                r#", "oauth": {"token_endpoint_auth_method": "private_key_jwt"}"#,
                "one.oauth: token_endpoint_auth_method must be",
            ),
            (
                r#", "oauth": {"authorize_params": {"a": 1}}"#,
                "one.oauth.authorize_params: a must be text",
            ),
            (
                r#", "oauth": {"revocation_scope": "all"}"#,
                "one.oauth: revocation_scope must be token or grant",
            ),
            (
                r#", "oauth": {"client_id": "c", "client_secret": "s3cret", "client_secret_ref": {"ssm": "/a"}}"#,
                "one.oauth: client_secret_ref stands beside",
            ),
            (
                r#", "oauth": {"client_id": "c", "client_secret_ref": {"ssm": "/a", "secretsmanager": "b"}}"#,
                "one.oauth.client_secret_ref: must name one secret",
            ),
            (
                r#", "oauth": {"client_id": "c", "client_secret_ref": {}}"#,
                "one.oauth.client_secret_ref: must name one secret",
            ),
            (
                r#", "oauth": {"client_id": "c", "client_secret_ref": {"secretsmanager": "name"}}"#,
                "secretsmanager must be the ARN",
            ),
            (
                r#", "oauth": {"client_id": "c", "client_secret_ref": {"ssm": "a b"}}"#,
                "ssm must be the name",
            ),
        ] {
            let said = with(more);
            assert!(
                said.starts_with("one") && said.contains(fault),
                "{more}: {said}"
            );
            assert!(!said.contains('\n'), "{more}: {said}");
            assert!(!said.contains("s3cret") && !said.contains("4711"), "{said}");
        }
        assert_eq!(
            read_one("{}").unwrap_err(),
            "one: display_name is missing\none: mcp_url is missing"
        );
        assert_eq!(
            read_one(r#"{"display_name": "", "mcp_url": "http://x.example/mcp"}"#).unwrap_err(),
            "one: display_name must have 1 to 200 characters\n\
             one: mcp_url must be an https URL without user information and fragment"
        );
        for (file, fault) in [
            ("nonsense", "the file is not JSON"),
            ("[]", "the file: must be an object"),
            ("{}", "the file: integrations is missing"),
            (
                r#"{"integrations": [], "more": 1}"#,
                "integrations: must be an object\nthe file: more is not known",
            ),
            (
                r#"{"integrations": {"Bad Name": {}}}"#,
                "Bad Name: the name must match",
            ),
        ] {
            let said = read(file, false).unwrap_err().to_string();
            assert!(said.starts_with(fault), "{file}: {said}");
        }
        let twice = r#"{"display_name": "O", "mcp_url": "https://x.example/mcp"}"#;
        let twice = format!(r#"{{"integrations": {{"a": {twice}, "a": {twice}}}}}"#);
        assert_eq!(
            read(&twice, false).unwrap_err().to_string(),
            "integrations: a is there twice"
        );
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let plain = read_one(
            r#"{"display_name": "O", "mcp_url": "https://x.example/mcp", "api_key": {}, "description": null,
                "oauth": {"client_id": "c", "client_secret": "s3cret"}}"#,
        )
        .unwrap();
        assert_eq!(plain.secret.as_ref().unwrap().expose_secret(), "s3cret");
        assert!(!format!("{plain:?}").contains("s3cret"));
        let integration = plain.integration;
        assert!(integration.active && integration.description.is_none());
        assert_eq!(integration.api_key.unwrap().template, "Bearer {api_key}");
        let oauth = integration.oauth.unwrap();
        assert!(oauth.pkce && oauth.client_secret.is_none());
        let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mail-AbCdEf";
        let referred = read_one(&format!(
            r#"{{"display_name": "O", "mcp_url": "https://x.example/mcp", "oauth": {{"client_id": "c",
                "client_secret_ref": {{"secretsmanager": "{arn}", "json_key": "secret"}}}}}}"#
        ))
        .unwrap();
        assert!(referred.secret.is_none());
        let expected = SecretReference {
            store: SecretStore::Secretsmanager,
            id: arn.to_owned(),
            json_key: Some("secret".to_owned()),
        };
        assert_eq!(
            referred.integration.oauth.unwrap().client_secret,
            Some(ClientSecret::Reference(expected))
        );
        assert!(SecretStore::Ssm.knows("/hawser/mail"));
        assert!(SecretStore::Ssm.knows("arn:aws:ssm:eu-central-1:123456789012:parameter/mail"));
        assert!(!SecretStore::Ssm.knows(arn));
    }
}
