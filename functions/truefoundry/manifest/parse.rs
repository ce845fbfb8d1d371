//! Reading a manifest (TrueFoundry 5): field by field, every fault with its path. [`super::rules`] says what a value may be.

use super::super::permission::COLLABORATOR_ROLES;
use super::super::reader::{Faults, Reader, length};
use super::super::secret_reference::{Reference, Rule, Sent, why};
use super::rules::{
    collaborator_rule, header_template, header_value_rule, https_url_rule, name_rule,
    plain_header_rule, tool_name_rule, url_rule,
};
use super::{OwnedPlace, REDACTED, SecretInput};
use hawser_core::domain::endpoint_method::{ClientAuth, RevocationMethod};
use hawser_core::domain::header::is_token;
use hawser_core::domain::json::Exact;
use hawser_core::domain::server::{
    Auth, AuthLevel, GrantType, HeaderSpec, OauthConfig, RevocationConfig, placeholder,
};
use hawser_core::oauth::request::is_reserved;
use hawser_core::operations::secret_references::Unresolved;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const KIND: &str = "mcp-server/remote";
const HEADERS_AT_MOST: usize = 32;
const PARAMETERS_AT_MOST: usize = 16;
const SCOPES_AT_MOST: usize = 64;
const REFUSED_HEADERS: [&str; 8] = [
    "host",
    "content-length",
    "connection",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
];
const AUTHORIZATION_PARAMS_AT_MOST: usize = 32;
const REFUSED_TOKEN_PARAMS: [&str; 9] = [
    "grant_type",
    "code",
    "code_verifier",
    "refresh_token",
    "redirect_uri",
    "client_id",
    "client_secret",
    "resource",
    "scope",
];
const CLIENT_ID_REFERENCE: &str = "cannot be a secret, since it is shown";

/// A manifest that keeps every rule, normalised (TrueFoundry 5.5).
#[derive(Debug)]
pub struct Manifest {
    /// Unique in the tenant.
    pub name: String,
    /// As sent.
    pub url: String,
    /// As sent.
    pub description: String,
    /// `auth_data`.
    pub auth: Auth,
    /// Names in `additional_headers`.
    pub additional_headers: Option<Vec<String>>,
    /// The fields that no other contract knows, without the tags.
    pub rest: Map<String, Value>,
    /// Free key-value pairs.
    pub tags: Option<Exact>,
    pub(super) secrets: Vec<SecretInput>,
}

impl Manifest {
    /// Reads the manifest in the field `name`. `loopback` allows `http` there in OAuth URLs.
    pub fn read(body: &mut Reader<'_>, name: &str, loopback: bool) -> Option<Self> {
        let Some(mut manifest) = body.object(name) else {
            body.required(name, None::<()>);
            return None;
        };
        discriminator(&mut manifest, "type", None, &[KIND])?;
        let server_name = manifest.required_text("name", name_rule);
        let description = manifest.required_text("description", length(1000));
        let url = manifest.required_text("url", url_rule);
        let mut secrets = Vec::new();
        let auth = read_auth(&mut manifest, loopback, &mut secrets);
        let additional_headers = read_additional_headers(&mut manifest, &mut secrets);
        let rest = read_rest(&mut manifest);
        Some(Self {
            name: server_name?.to_owned(),
            url: url?.to_owned(),
            description: description?.to_owned(),
            auth: auth?,
            additional_headers,
            rest,
            tags: None,
            secrets,
        })
    }
}

/// Reads no more of the manifest in the field `name` than which server it is of: its type, and the server's name.
pub fn read_identity(body: &mut Reader<'_>, name: &str) -> Option<String> {
    let Some(mut manifest) = body.object(name) else {
        body.required(name, None::<()>);
        return None;
    };
    discriminator(&mut manifest, "type", None, &[KIND])?;
    let server_name = manifest.text("name");
    manifest.required("name", server_name).map(str::to_owned)
}

/// Reads a discriminator: one of `accepted` or `default`; another string is refused, anything else is a fault.
fn discriminator<'a>(
    reader: &mut Reader<'a>,
    name: &str,
    default: Option<&'a str>,
    accepted: &[&str],
) -> Option<&'a str> {
    match reader.get(name) {
        None if default.is_some() => default,
        None => reader.required(name, None),
        Some(_) => {
            let text = reader.text(name)?;
            if accepted.contains(&text) {
                return Some(text);
            }
            let path = reader.at(name);
            reader.faults.unsupported(path, "is not supported");
            None
        }
    }
}

/// Reads the text at a secret place. A value that is sent has to pass `rule`, and so does one that is referred to.
///
/// # Errors
/// The fault was noted.
pub fn secret_value(
    faults: &mut Faults,
    path: &str,
    value: &Value,
    rule: Rule,
) -> Result<Sent, ()> {
    let Some(text) = value.as_str() else {
        faults.invalid(path, "must be a string");
        return Err(());
    };
    if text == REDACTED {
        return Ok(Sent::Kept);
    }
    match Reference::parse(text, rule) {
        None => {}
        Some(_) if faults.refuses_references() => {
            faults.reference(path, why(Unresolved::NotMapped));
            return Err(());
        }
        Some(Err(message)) => {
            faults.reference(path, message);
            return Err(());
        }
        Some(Ok(reference)) => return Ok(Sent::Reference(reference)),
    }
    let unmarked = if text.contains(REDACTED) {
        Err("must not contain the redaction marker")
    } else {
        Ok(())
    };
    match unmarked.and_then(|()| rule(text)) {
        Ok(()) => Ok(Sent::Value(text.into())),
        Err(message) => {
            faults.invalid(path, message);
            Err(())
        }
    }
}

fn read_auth(
    manifest: &mut Reader<'_>,
    loopback: bool,
    secrets: &mut Vec<SecretInput>,
) -> Option<Auth> {
    if manifest.get("auth_data").is_none() {
        return Some(Auth::None);
    }
    let mut auth = manifest.object("auth_data")?;
    match discriminator(
        &mut auth,
        "type",
        None,
        &["header", "oauth2", "passthrough"],
    )? {
        "passthrough" => Some(Auth::Passthrough),
        "header" => read_header_auth(&mut auth, secrets),
        _ => read_oauth(&mut auth, loopback, secrets).map(|oauth| Auth::Oauth(Box::new(oauth))),
    }
}

/// Reads the names of a map of headers, each checked; the values are left to `each`.
fn read_header_names<'a>(
    reader: &mut Reader<'a>,
    mut each: impl FnMut(&mut Reader<'a>, &'a str, &'a Value),
) {
    let mut seen = BTreeSet::new();
    let entries: Vec<_> = reader.entries().collect();
    if entries.len() > HEADERS_AT_MOST {
        reader.fault_of_all("has more than 32 headers");
        return;
    }
    for (name, value) in entries {
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            reader.fault(name, "is not a header name");
        } else if REFUSED_HEADERS.contains(&lower.as_str()) {
            reader.fault(name, "is not allowed as a header");
        } else if !seen.insert(lower) {
            reader.fault(name, "is there twice");
        } else {
            each(reader, name, value);
        }
    }
}

fn read_header_auth(auth: &mut Reader<'_>, secrets: &mut Vec<SecretInput>) -> Option<Auth> {
    let level = match auth.checked("auth_level", |text| match text {
        "global" | "per_user" => Ok(()),
        _ => Err("must be global or per_user"),
    }) {
        Some("per_user") => AuthLevel::PerUser,
        _ => AuthLevel::Global,
    };
    let Some(mut reader) = auth.object("headers") else {
        return auth.required("headers", None);
    };
    let mut headers = Vec::new();
    read_header_names(&mut reader, |reader, name, value| {
        let path = reader.at(name);
        let template = match value.as_str().map_or(Ok(None), |text| {
            header_value_rule(text)?;
            let template = header_template(text, level)?;
            match template {
                Some(_) if text.contains(REDACTED) => Err("must not contain the redaction marker"),
                Some(_) if Reference::parse(text, plain_header_rule).is_some() => {
                    Err("must not hold both a placeholder and a secret reference")
                }
                template => Ok(template),
            }
        }) {
            Ok(template) => template,
            Err(message) => return reader.faults.invalid(path, message),
        };
        let value = match &template {
            Some(_) => Ok(Sent::Kept),
            None => secret_value(reader.faults, &path, value, plain_header_rule),
        };
        let Ok(value) = value else {
            return;
        };
        if template.is_none() {
            secrets.push(SecretInput {
                place: OwnedPlace::Header(name.to_owned()),
                path,
                value,
            });
        }
        headers.push(HeaderSpec {
            name: name.to_owned(),
            template,
        });
    });
    if reader.entries().next().is_none() {
        auth.fault("headers", "must not be empty");
        return None;
    }
    let parameters: BTreeSet<_> = headers
        .iter()
        .filter_map(|h| Some(placeholder(h.template.as_deref()?)?.1))
        .collect();
    if parameters.len() > PARAMETERS_AT_MOST {
        auth.fault("headers", "has more than 16 placeholders");
    }
    if level == AuthLevel::PerUser && parameters.is_empty() {
        auth.fault(
            "headers",
            "needs a placeholder such as {{API_KEY}} when auth_level is per_user",
        );
    }
    Some(Auth::Headers { level, headers })
}

fn read_additional_headers(
    manifest: &mut Reader<'_>,
    secrets: &mut Vec<SecretInput>,
) -> Option<Vec<String>> {
    let mut reader = manifest.object("additional_headers")?;
    let mut names = Vec::new();
    read_header_names(&mut reader, |reader, name, value| {
        let path = reader.at(name);
        if let Ok(value) = secret_value(reader.faults, &path, value, plain_header_rule) {
            secrets.push(SecretInput {
                place: OwnedPlace::AdditionalHeader(name.to_owned()),
                path,
                value,
            });
            names.push(name.to_owned());
        }
    });
    Some(names)
}

fn read_oauth(
    auth: &mut Reader<'_>,
    loopback: bool,
    secrets: &mut Vec<SecretInput>,
) -> Option<OauthConfig> {
    let grant_type = discriminator(
        auth,
        "grant_type",
        Some("authorization_code"),
        &["authorization_code", "client_credentials"],
    );
    let providers = ["custom", "auth0", "okta", "microsoft-entra"];
    let provider = discriminator(auth, "provider", Some("custom"), &providers);
    let client_authentication = match auth.get("client_authentication") {
        None => None,
        Some(_) => discriminator(auth, "client_authentication", None, &["client_secret"]),
    };
    let use_organization = auth.boolean("use_organization");
    if use_organization == Some(true) {
        let path = auth.at("use_organization");
        auth.faults.unsupported(path, "is not supported");
    }
    let url = |auth: &mut Reader<'_>, name| {
        auth.checked(name, https_url_rule(loopback))
            .map(str::to_owned)
    };
    let text = |auth: &mut Reader<'_>, name| auth.text(name).map(str::to_owned);
    let client_id = auth.checked("client_id", |text| {
        length(512)(text)?;
        if text.contains(char::is_whitespace) {
            Err("must not hold white space")
        } else {
            Ok(())
        }
    });
    if client_id.is_some_and(Reference::is_meant) {
        let path = auth.at("client_id");
        auth.faults.unsupported(path, CLIENT_ID_REFERENCE);
    }
    let path = auth.at("client_secret");
    let client_secret = auth
        .get("client_secret")
        .map(|value| secret_value(auth.faults, &path, value, |text| length(4096)(text)));
    if auth.get("client_secret").is_some() && auth.get("client_id").is_none() {
        auth.fault("client_secret", "needs a client_id");
    }
    let methods = auth.texts("code_challenge_methods_supported", |text| {
        if text == "S256" {
            Ok(())
        } else {
            Err("must be S256")
        }
    });
    let scopes = auth.texts("scopes", |text| match text {
        "" => Err("must not be empty"),
        _ if text.contains(char::is_whitespace) => Err("must not hold white space"),
        _ => Ok(()),
    });
    if scopes
        .as_ref()
        .is_some_and(|scopes| scopes.len() > SCOPES_AT_MOST)
    {
        auth.fault("scopes", "has more than 64 scopes");
    }
    let jwt_source = auth.checked("jwt_source", |text| match text {
        "access_token" | "id_token" => Ok(()),
        _ => Err("must be access_token or id_token"),
    });
    let token_params = read_token_params(auth, secrets);
    let issuer = auth.checked("issuer", |text| {
        https_url_rule(loopback)(text)?;
        if text.contains('?') {
            Err("must not hold a query")
        } else {
            Ok(())
        }
    });
    let revocation = read_revocation(auth);
    let token_auth = read_auth_method(auth, "token_endpoint_auth_method");
    let revocation_auth = read_auth_method(auth, "revocation_endpoint_auth_method");
    let authorization_params = read_authorization_params(auth);
    let present = |auth: &Reader<'_>, name| auth.get(name).is_some();
    if grant_type == Some("client_credentials") {
        for name in ["token_url", "client_id", "client_secret"] {
            auth.required(name, None::<()>);
        }
        if present(auth, "registration_url") {
            auth.fault("registration_url", "is not for client_credentials");
        }
    } else if present(auth, "registration_url") && present(auth, "client_id") {
        auth.fault("client_id", "must not stand beside a registration_url");
    }
    if let Some(Ok(value)) = &client_secret {
        secrets.push(SecretInput {
            place: OwnedPlace::ClientSecret,
            path,
            value: value.clone(),
        });
    }
    Some(OauthConfig {
        grant_type: if grant_type? == "client_credentials" {
            GrantType::ClientCredentials
        } else {
            GrantType::AuthorizationCode
        },
        provider: provider?.to_owned(),
        authorization_url: url(auth, "authorization_url"),
        token_url: url(auth, "token_url"),
        registration_url: url(auth, "registration_url"),
        introspection_url: url(auth, "introspection_url"),
        client_id: client_id.map(str::to_owned),
        client_authentication: client_authentication.map(str::to_owned),
        include_resource: auth.boolean("include_resource"),
        code_challenge_methods_supported: methods,
        scopes,
        jwt_source: jwt_source.map(str::to_owned),
        default_organization: text(auth, "default_organization"),
        audience: text(auth, "audience"),
        issuer_uri: text(auth, "issuer_uri"),
        use_organization,
        issuer: issuer.map(str::to_owned),
        revocation_url: url(auth, "revocation_url"),
        revocation,
        token_endpoint_auth_method: token_auth,
        revocation_endpoint_auth_method: revocation_auth,
        additional_authorization_params: authorization_params,
        has_client_secret: client_secret.is_some(),
        token_params,
    })
}

/// How the issuer revokes. GitHub's way takes the client's secret, whatever the token endpoint takes.
fn read_revocation(auth: &mut Reader<'_>) -> Option<RevocationConfig> {
    let needs_secret = auth.get("client_secret").is_none();
    let mut reader = auth.object("revocation")?;
    let name = discriminator(&mut reader, "method", None, &RevocationMethod::NAMES)?;
    let method = RevocationMethod::parse(name)?;
    if method == RevocationMethod::Github && needs_secret {
        reader.fault("method", "needs a client_secret");
    }
    Some(RevocationConfig { method })
}

/// How the client authenticates at one endpoint.
fn read_auth_method(auth: &mut Reader<'_>, field: &str) -> Option<ClientAuth> {
    auth.get(field)?;
    let method = ClientAuth::parse(discriminator(auth, field, None, &ClientAuth::NAMES)?)?;
    let lacks_secret = auth.get("client_id").is_some() && auth.get("client_secret").is_none();
    if method != ClientAuth::None && lacks_secret {
        auth.fault(field, "needs a client_secret");
    }
    Some(method)
}

fn read_authorization_params(auth: &mut Reader<'_>) -> Option<BTreeMap<String, String>> {
    let mut reader = auth.object("additional_authorization_params")?;
    let entries: Vec<_> = reader.entries().collect();
    if entries.len() > AUTHORIZATION_PARAMS_AT_MOST {
        reader.fault_of_all("has more than 32 parameters");
        return None;
    }
    let mut params = BTreeMap::new();
    for (name, _) in entries {
        if name.is_empty() || is_reserved(name) {
            reader.fault(name, "is set by Hawser itself");
        } else if let Some(value) = reader.checked(name, length(1024)) {
            params.insert(name.clone(), value.to_owned());
        }
    }
    Some(params)
}

fn read_token_params(auth: &mut Reader<'_>, secrets: &mut Vec<SecretInput>) -> Option<Vec<String>> {
    let mut reader = auth.object("additional_token_params")?;
    let mut names = Vec::new();
    let entries: Vec<_> = reader.entries().collect();
    for (name, value) in entries {
        if REFUSED_TOKEN_PARAMS.contains(&name.as_str()) {
            reader.fault(name, "is set by Hawser itself");
            continue;
        }
        let path = reader.at(name);
        if let Ok(value) = secret_value(reader.faults, &path, value, |_| Ok(())) {
            secrets.push(SecretInput {
                place: OwnedPlace::TokenParam(name.clone()),
                path,
                value,
            });
            names.push(name.clone());
        }
    }
    Some(names)
}

/// The fields that no other contract knows, known ones only.
fn read_rest(manifest: &mut Reader<'_>) -> Map<String, Value> {
    let mut rest = Map::new();
    let mut keep = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            rest.insert(name.to_owned(), value);
        }
    };
    keep(
        "display_name",
        manifest
            .checked("display_name", length(255))
            .map(Value::from),
    );
    let collaborators = manifest.objects("collaborators", |mut one| {
        let subject = one.required_text("subject", collaborator_rule);
        let role = one.required_text("role_id", |text| {
            if COLLABORATOR_ROLES.contains(&text) {
                Ok(())
            } else {
                Err("must be a role of MCP servers")
            }
        });
        Some(json!({"subject": subject?, "role_id": role?}))
    });
    keep(
        "collaborators",
        Some(collaborators.unwrap_or_default().into()),
    );
    keep(
        "ownedBy",
        manifest.object("ownedBy").and_then(|mut owner| {
            Some(json!({"account": owner.required_text("account", |_| Ok(()))?}))
        }),
    );
    // They are read apart.
    drop(manifest.object("tags"));
    keep(
        "tls_settings",
        manifest.object("tls_settings").map(|mut tls| {
            let reject = tls.boolean("reject_unauthorized").map(Value::from);
            let ca_cert = tls.text("ca_cert").map(Value::from);
            object([("reject_unauthorized", reject), ("ca_cert", ca_cert)])
        }),
    );
    keep(
        "tool_settings",
        manifest
            .objects("tool_settings", |mut tool| {
                let name = tool.required_text("name", tool_name_rule);
                let disabled = tool.boolean("disabled").map(Value::from);
                let [description, annotations] = described(&mut tool);
                Some(object([
                    ("name", Some(name?.into())),
                    ("description", description),
                    ("disabled", disabled),
                    ("annotations", annotations),
                ]))
            })
            .map(Value::from),
    );
    keep(
        "tool_policy",
        manifest.object("tool_policy").map(|mut policy| {
            let enable = policy.boolean("enable_tools_by_default").map(Value::from);
            let disabled = policy.texts("disabled_tools", |_| Ok(())).map(Value::from);
            let enabled = policy.texts("enabled_tools", |_| Ok(())).map(Value::from);
            object([
                ("enable_tools_by_default", enable),
                ("disabled_tools", disabled),
                ("enabled_tools", enabled),
            ])
        }),
    );
    keep(
        "tool_metadata",
        manifest.object("tool_metadata").map(|mut tools| {
            let names: Vec<_> = tools.entries().map(|(name, _)| name.clone()).collect();
            let read = names.into_iter().filter_map(|name| {
                if tool_name_rule(&name).is_err() {
                    tools.fault(&name, "is not a tool name");
                }
                let [description, annotations] = described(&mut tools.object(&name)?);
                Some((
                    name,
                    object([("description", description), ("annotations", annotations)]),
                ))
            });
            Value::Object(read.collect())
        }),
    );
    rest
}

fn described(tool: &mut Reader<'_>) -> [Option<Value>; 2] {
    let description = tool.checked("description", length(500)).map(Value::from);
    let annotations = tool.object("annotations").map(|mut hints| {
        let read_only = hints.boolean("readOnlyHint").map(Value::from);
        let destructive = hints.boolean("destructiveHint").map(Value::from);
        object([
            ("readOnlyHint", read_only),
            ("destructiveHint", destructive),
        ])
    });
    [description, annotations]
}

fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
}
