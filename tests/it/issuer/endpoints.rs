//! What the issuer answers.

use super::{BASIC_WITH_ID, Client, Code, DENY, FOREIGN, Issuer, Logged, Pair, Reply, State};
use aws_lc_rs::{digest, rand};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use url::{Url, form_urlencoded};

pub(super) const RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource/mcp";
pub(super) const METADATA: &str = "/.well-known/oauth-authorization-server";
const CODE_LIFETIME: Duration = Duration::from_secs(60);
const OFFLINE: &str = "offline_access";
const GRANT_TYPES: [&str; 2] = ["authorization_code", "refresh_token"];

impl Issuer {
    pub(super) async fn work(&self, call: &Logged) -> Reply {
        if let Err(refusal) = self.fetch_document(call).await {
            return refusal;
        }
        self.lock().route(call).unwrap_or_else(|refusal| refusal)
    }

    /// A client that is a document becomes known when its user arrives; token requests then find it.
    async fn fetch_document(&self, call: &Logged) -> Result<(), Reply> {
        let id = call.field("client_id").unwrap_or_default();
        if call.path != "/authorize" || !id.contains("://") {
            return Ok(());
        }
        let trusted = {
            let settings = &self.lock().settings;
            if !settings.metadata_documents {
                return Ok(());
            }
            settings.trusted_metadata_documents.get(&id).cloned()
        };
        let refuse = |why| bad("invalid_client", why);
        let url = Url::parse(&id).map_err(|_| refuse("no address"))?;
        let more =
            url.fragment().is_some() || !url.username().is_empty() || url.password().is_some();
        // Its own normal form: no dot segments, no default port.
        if !is_secure(&url) || more || url.path() == "/" || url.as_str() != id {
            return Err(refuse("not an address for a document"));
        }
        let document = match trusted {
            Some(document) => document,
            None => {
                let answer = self.http.get(url).send().await;
                let answer = answer.map_err(|_| refuse("document out of reach"))?;
                let kind = answer.headers().get("content-type").cloned();
                if answer.status() != 200 || kind.is_none_or(|kind| !is_json(kind.as_bytes())) {
                    return Err(refuse("no document there"));
                }
                let document = answer.json::<Value>().await;
                document.map_err(|_| refuse("document is no JSON"))?
            }
        };
        if document["client_id"] != *id || !document["client_name"].is_string() {
            return Err(refuse("document of another client, or without a name"));
        }
        let public = document["token_endpoint_auth_method"] == "none";
        if !public || document.get("client_secret").is_some() {
            return Err(refuse("a document is public, and so is its client"));
        }
        let mut state = self.lock();
        let client = state.parse_client(id, &document)?;
        state.clients.retain(|one| one.id != client.id);
        state.clients.push(client);
        Ok(())
    }
}

impl State {
    fn route(&mut self, call: &Logged) -> Result<Reply, Reply> {
        let settings = &self.settings;
        if let Some(document) = settings.documents.get(&call.path) {
            return Ok(document.as_ref().map_or(empty(404), |one| json(200, one)));
        }
        if let Some(reply) = self.provider(call) {
            return reply;
        }
        let settings = &self.settings;
        match (call.method.as_str(), call.path.as_str()) {
            ("GET", path) if settings.resource_metadata_at.contains(&path) => {
                Ok(json(200, &self.odd("resource", self.resource_metadata())))
            }
            ("GET", path) if settings.metadata_at.contains(&path) => {
                Ok(json(200, &self.odd("issuer", self.metadata())))
            }
            ("GET", "/authorize") => self.authorize(call),
            ("POST", "/token") => self.token(call),
            ("POST", "/revoke") if settings.revocation => self.revoke(call),
            ("POST", "/register") if settings.dynamic_registration => self.register(call),
            ("GET" | "DELETE", path)
                if settings.management
                    && let Some(id) = path.strip_prefix("/register/") =>
            {
                self.manage(id, call)
            }
            (_, "/mcp") => self.mcp(call),
            (_, RESOURCE_METADATA | METADATA | "/authorize" | "/token") => Err(empty(405)),
            _ => Err(empty(404)),
        }
    }

    /// An answer as it is really given.
    fn odd(&self, document: &str, mut answer: Value) -> Value {
        for (of, member, value) in &self.settings.odd {
            if *of == document {
                let members = answer.as_object_mut().unwrap();
                members.remove(*member);
                members.extend(value.clone().map(|value| ((*member).to_owned(), value)));
            }
        }
        answer
    }

    fn resource(&self) -> String {
        let own = || format!("{}/mcp", self.url);
        self.settings.resource.clone().unwrap_or_else(own)
    }

    fn resource_metadata(&self) -> Value {
        let scopes = Some(&self.settings.scopes).filter(|scopes| !scopes.is_empty());
        without_nulls(json!({
            "resource": self.resource(), "authorization_servers": [self.url], "scopes_supported": scopes,
            "bearer_methods_supported": ["header"],
        }))
    }

    fn metadata(&self) -> Value {
        let (url, settings) = (&self.url, &self.settings);
        let endpoint = |name: &str, is: bool| is.then(|| format!("{url}/{name}"));
        without_nulls(json!({
            "issuer": url,
            "authorization_endpoint": endpoint("authorize", true),
            "token_endpoint": endpoint("token", true),
            "registration_endpoint": endpoint("register", settings.dynamic_registration),
            "revocation_endpoint": endpoint("revoke", settings.revocation),
            "response_types_supported": ["code"],
            "grant_types_supported": GRANT_TYPES,
            "token_endpoint_auth_methods_supported": settings.client_auth,
            "revocation_endpoint_auth_methods_supported": settings.revocation_auth,
            "scopes_supported": self.scopes(),
            "code_challenge_methods_supported": settings.s256.then_some(["S256"]),
            "authorization_response_iss_parameter_supported": settings.iss.then_some(true),
            "client_id_metadata_document_supported": settings.metadata_documents.then_some(true),
        }))
    }

    fn scopes(&self) -> Vec<String> {
        let mut all = self.settings.scopes.clone();
        if self.settings.offline_access {
            all.push(OFFLINE.to_owned());
        }
        all
    }

    fn client(&self, id: &str) -> Option<Client> {
        let settings = &self.settings;
        let Some(known) = settings.static_clients.iter().find(|one| one.id == id) else {
            return self.clients.iter().find(|one| one.id == id).cloned();
        };
        let public = known.secret.is_none();
        let auth = settings.client_auth.iter().map(ToString::to_string);
        Some(Client {
            id: id.to_owned(),
            secret: known.secret.clone(),
            auth: auth.filter(|auth| (auth == "none") == public).collect(),
            redirect_uris: known.redirect_uris.clone(),
            grant_types: GRANT_TYPES.map(str::to_owned).to_vec(),
            ..Client::default()
        })
    }

    fn authorize(&mut self, call: &Logged) -> Result<Reply, Reply> {
        let asked = Parameters::parse(&call.query)?;
        // Unless both client and redirect are sure, the browser is sent nowhere.
        let client = self.client(asked.need("client_id")?);
        let client = client.ok_or_else(|| bad("invalid_client", "unknown"))?;
        let redirect = asked.need("redirect_uri")?;
        if !has(&client.redirect_uris, redirect) {
            return Err(bad("invalid_request", "redirect_uri is not registered"));
        }
        let mut back = form_urlencoded::Serializer::new(String::new());
        match self.consent(&client, redirect, &asked) {
            Ok(code) => back.append_pair("code", &code),
            Err(code) => back.extend_pairs([("error", code), ("error_description", FOREIGN)]),
        };
        back.extend_pairs(asked.get("state").map(|state| ("state", state)));
        let own = self.settings.iss.then_some(&self.url);
        let iss = self.settings.wrong_iss.as_ref().or(own);
        back.extend_pairs(iss.map(|iss| ("iss", iss)));
        let join = if redirect.contains('?') { '&' } else { '?' };
        let location = format!("{redirect}{join}{}", back.finish());
        Ok((302, vec![("location", location)], String::new()))
    }

    fn consent(
        &mut self,
        client: &Client,
        redirect: &str,
        asked: &Parameters,
    ) -> Result<String, &'static str> {
        match asked.get("response_type") {
            Some("code") => {}
            Some(_) => return Err("unsupported_response_type"),
            None => return Err("invalid_request"),
        }
        let challenge = asked.get("code_challenge").unwrap_or_default();
        let digest = BASE64URL_NOPAD.decode(challenge.as_bytes());
        let hashed = asked.get("code_challenge_method") == Some("S256");
        if !hashed || !digest.is_ok_and(|digest| digest.len() == 32) {
            return Err("invalid_request");
        }
        let resource = self.resource();
        let named = asked.get("resource");
        if named.is_some_and(|named| named != resource)
            || (named.is_none() && self.settings.resource_needed)
        {
            return Err("invalid_target");
        }
        // Who registered for some scopes has registered for no others.
        let allowed = |scope: &String| client.scope.as_ref().is_none_or(|own| own.contains(scope));
        let standard = self.settings.scopes.iter().filter(|scope| allowed(scope));
        let scopes = asked.get("scope").map(words);
        let scopes = scopes.unwrap_or_else(|| standard.cloned().collect());
        if !within(&scopes, &self.scopes()) || !scopes.iter().all(allowed) {
            return Err("invalid_scope");
        }
        let subject = asked.get("login_hint").unwrap_or("nobody").to_owned();
        if subject == DENY {
            return Err("access_denied");
        }
        let code = random("code");
        self.codes.push(Code {
            text: code.clone(),
            redirect_uri: redirect.to_owned(),
            challenge: challenge.to_owned(),
            made: Instant::now(),
            used: false,
            grant: Pair {
                client_id: client.id.clone(),
                scopes,
                resource,
                subject,
                family: self.codes.len() as u64,
                ..Pair::default()
            },
        });
        Ok(code)
    }

    /// A form from a client that proved itself by exactly the method it registered.
    fn authenticated(&self, call: &Logged) -> Result<(Parameters, Client), Reply> {
        let refuse = |why| bad("invalid_request", why);
        let kind = call.header("content-type").unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") || !call.query.is_empty() {
            return Err(refuse("a form in the body, and no query"));
        }
        let form = Parameters::parse(&call.body)?;
        let named = form.get("client_id").map(str::to_owned);
        let posted = form.get("client_secret").map(str::to_owned);
        let (id, secret, method) = match (call.header("authorization"), posted) {
            (Some(_), Some(_)) => return Err(refuse("two methods at once")),
            (Some(header), None) => {
                let (id, secret) = basic(header).ok_or_else(unauthenticated)?;
                if named.is_some_and(|named| named != id) {
                    return Err(refuse("two clients at once"));
                }
                (Some(id), Some(secret), "client_secret_basic")
            }
            (None, Some(secret)) => (named, Some(secret), "client_secret_post"),
            (None, None) => (named, None, "none"),
        };
        let client = id.and_then(|id| self.client(&id));
        let client = client.ok_or_else(unauthenticated)?;
        let way = match (method, form.get("client_id")) {
            ("client_secret_basic", Some(_)) => BASIC_WITH_ID,
            _ => method,
        };
        let own = (call.path == "/revoke").then_some(self.settings.revocation_auth.as_ref());
        let takes = match (
            self.settings.taken_auth.get(call.path.as_str()),
            own.flatten(),
        ) {
            (Some(taken), _) => *taken == way,
            (None, Some(methods)) => methods.contains(&method),
            (None, None) => has(&client.auth, method),
        };
        if (method != "none" && client.secret != secret) || !takes {
            return Err(unauthenticated());
        }
        Ok((form, client))
    }

    fn token(&mut self, call: &Logged) -> Result<Reply, Reply> {
        let (form, client) = self.authenticated(call)?;
        let grant_type = form.need("grant_type")?;
        if !GRANT_TYPES.contains(&grant_type) {
            return Err(bad("unsupported_grant_type", "no such thing"));
        }
        if !has(&client.grant_types, grant_type) {
            return Err(bad("unauthorized_client", "not registered for this"));
        }
        match grant_type {
            "authorization_code" => self.exchange(&form, &client),
            _ => self.refresh(&form, &client),
        }
    }

    fn exchange(&mut self, form: &Parameters, client: &Client) -> Result<Reply, Reply> {
        let refuse = |why| bad("invalid_grant", why);
        let (text, verifier) = (form.need("code")?, form.need("code_verifier")?);
        let redirect = form.need("redirect_uri")?;
        let resource = self.named_resource(form)?;
        let mut codes = self.codes.iter_mut();
        let code = codes.find(|one| one.text == text && one.grant.client_id == client.id);
        let code = code.ok_or_else(|| refuse("no code of this client"))?;
        let grant = code.grant.clone();
        // One attempt, good or bad, is all a code has.
        if std::mem::replace(&mut code.used, true) {
            self.kill(grant.family);
            return Err(refuse("the code was used before"));
        }
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let formed = (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved);
        if !formed || s256(verifier) != code.challenge {
            return Err(refuse("code_verifier"));
        }
        if code.redirect_uri != redirect || code.made.elapsed() > CODE_LIFETIME {
            return Err(refuse("another redirect_uri, or too late"));
        }
        if grant.resource != resource {
            return Err(no_target());
        }
        let asked = !self.settings.offline_access || has(&grant.scopes, OFFLINE);
        let registered = has(&client.grant_types, "refresh_token");
        let refresh = self.settings.refresh_tokens && registered && asked;
        Ok(self.issue(grant, refresh))
    }

    fn named_resource(&self, form: &Parameters) -> Result<String, Reply> {
        let unnamed = (!self.settings.resource_needed).then(|| self.resource());
        let named = form.get("resource").map(str::to_owned);
        named.or(unnamed).ok_or_else(no_target)
    }

    fn refresh(&mut self, form: &Parameters, client: &Client) -> Result<Reply, Reply> {
        let refuse = |why| bad("invalid_grant", why);
        let text = form.need("refresh_token")?;
        let resource = self.named_resource(form)?;
        let mut own = self.issued.iter_mut();
        let old = own.find(|one| one.is_refresh(text) && one.client_id == client.id);
        let old = old.ok_or_else(|| refuse("no refresh token of this client"))?;
        let grant = old.clone();
        if !old.refresh_live {
            if grant.rotated && self.kill(grant.family) {
                self.killed += 1;
            }
            return Err(refuse("revoked, or used before: then the family ends"));
        }
        if grant.resource != resource {
            return Err(no_target());
        }
        // Fewer scopes could be had of others; here a refresh changes nothing.
        if form
            .get("scope")
            .is_some_and(|scope| words(scope) != grant.scopes)
        {
            return Err(bad("invalid_scope", "not what was granted"));
        }
        let rotate = self.settings.rotate;
        (old.refresh_live, old.rotated) = (!rotate, rotate);
        Ok(self.issue(grant, rotate))
    }

    /// Ends every token of a family; whether there was one left.
    fn kill(&mut self, family: u64) -> bool {
        let mut any = false;
        let all = self.issued.iter_mut();
        for one in all.filter(|one| one.family == family) {
            any |= one.access_works() || one.refresh_live;
            (one.access_live, one.refresh_live) = (false, false);
        }
        any
    }

    fn issue(&mut self, grant: Pair, refresh: bool) -> Reply {
        let ttl = self.settings.access_ttl;
        let lasts = ttl.map(|seconds| Duration::from_secs(seconds.max(0) as u64));
        let pair = Pair {
            access: random("at"),
            refresh: refresh.then(|| random("rt")),
            access_live: true,
            refresh_live: refresh,
            rotated: false,
            ends: lasts.map(|lasts| Instant::now() + lasts),
            ..grant
        };
        let answer = without_nulls(json!({
            "access_token": pair.access, "token_type": "Bearer", "expires_in": ttl,
            "refresh_token": pair.refresh, "scope": pair.scopes.join(" "),
        }));
        self.issued.push(pair);
        json(self.settings.token_status, &self.odd("token", answer))
    }

    /// RFC 7009. A refresh token that was rotated away counts as unknown: nobody may rely on more.
    fn revoke(&mut self, call: &Logged) -> Result<Reply, Reply> {
        let (form, client) = self.authenticated(call)?;
        let text = form.need("token")?;
        let mut own = self.issued.iter_mut();
        let found = own
            .find(|one| one.client_id == client.id && (one.access == text || one.is_refresh(text)));
        match (found, &self.settings.access_revocation_error) {
            (Some(one), _) if one.is_refresh(text) => {
                let family = Some(one.family).filter(|_| one.refresh_live);
                family.map(|family| self.kill(family));
            }
            (Some(_), Some((status, body))) => return Err((*status, Vec::new(), body.clone())),
            (Some(one), None) => one.access_live = false,
            (None, _) => {}
        }
        Ok(empty(200))
    }

    /// What a document or a registration asks for, if it may have it.
    fn parse_client(&self, id: String, asked: &Value) -> Result<Client, Reply> {
        let refuse = |why| bad("invalid_client_metadata", why);
        let redirect_uris = list(&asked["redirect_uris"], &[]);
        let native = asked["application_type"] == "native";
        let fine = |uri: &String| {
            let url = Url::parse(uri).ok();
            let url = url.filter(|url| is_secure(url) && url.fragment().is_none());
            url.is_some_and(|url| native || url.scheme() == "https")
        };
        if redirect_uris.is_empty() || !redirect_uris.iter().all(fine) {
            let why = "https, or http on loopback for native applications";
            return Err(bad("invalid_redirect_uri", why));
        }
        let grant_types = list(&asked["grant_types"], &GRANT_TYPES[..1]);
        let known = grant_types
            .iter()
            .all(|one| GRANT_TYPES.contains(&one.as_str()));
        if !known || !has(&grant_types, "authorization_code") {
            return Err(refuse("grant_types"));
        }
        if list(&asked["response_types"], &["code"]) != ["code"] {
            return Err(refuse("response_types"));
        }
        let scope = asked["scope"].as_str().map(words);
        if scope
            .as_ref()
            .is_some_and(|scope| !within(scope, &self.scopes()))
        {
            return Err(refuse("scope"));
        }
        let auth = asked.get("token_endpoint_auth_method");
        let auth = auth.map_or(Some("client_secret_basic"), Value::as_str);
        let auth = self.settings.imposed_client_auth.or(auth);
        let supported = auth.filter(|auth| self.settings.client_auth.contains(auth));
        let auth = supported.ok_or_else(|| refuse("token_endpoint_auth_method"))?;
        Ok(Client {
            id,
            auth: vec![auth.to_owned()],
            redirect_uris,
            grant_types,
            scope,
            ..Client::default()
        })
    }

    fn register(&mut self, call: &Logged) -> Result<Reply, Reply> {
        let kind = call.header("content-type").unwrap_or_default();
        let asked = serde_json::from_str(&call.body).unwrap_or(Value::Null);
        if !asked.is_object() || !is_json(kind.as_bytes()) {
            return Err(bad("invalid_client_metadata", "no JSON object"));
        }
        let mut client = self.parse_client(random("client"), &asked)?;
        let mut answer = asked;
        answer["client_id"] = json!(client.id);
        answer["grant_types"] = json!(client.grant_types);
        answer["token_endpoint_auth_method"] = json!(client.auth[0]);
        if client.auth[0] != "none" {
            client.secret = Some(random("cs"));
            answer["client_secret"] = json!(client.secret);
            answer["client_secret_expires_at"] = json!(0);
        }
        let token = random("rat");
        if self.settings.management {
            let uri = format!("{}/register/{}", self.url, client.id);
            answer["registration_client_uri"] = json!(uri);
            answer["registration_access_token"] = json!(token);
        }
        client.registered = Some((token, answer.clone()));
        self.clients.push(client);
        Ok(json(201, &self.odd("registration", answer)))
    }

    /// RFC 7592. The tokens of a removed client live on and nobody can revoke them: removing it too early shows.
    fn manage(&mut self, id: &str, call: &Logged) -> Result<Reply, Reply> {
        let known = self.clients.iter().position(|one| {
            let token = one.registered.as_ref().map(|(token, _)| token.as_str());
            one.id == id && token.is_some() && token == call.bearer()
        });
        let known = known.ok_or_else(|| error(401, "invalid_token", "not of this client"))?;
        if call.method == "DELETE" {
            self.clients.remove(known);
            return Ok(empty(204));
        }
        let registered = self.clients[known].registered.as_ref();
        Ok(json(200, &registered.unwrap().1))
    }

    fn mcp(&self, call: &Logged) -> Result<Reply, Reply> {
        let demanded = self.settings.challenge_scope.as_deref();
        let challenge = |status: u16, code: &str| {
            let mut text = format!(
                "Bearer resource_metadata=\"{}{RESOURCE_METADATA}\"",
                self.url
            );
            let scope = demanded.unwrap_or_default();
            for (name, value) in [("error", code), ("scope", scope)] {
                if !value.is_empty() {
                    text += &format!(", {name}=\"{value}\"");
                }
            }
            (status, vec![("www-authenticate", text)], String::new())
        };
        let query = Parameters::parse(&call.query)?;
        if query.get("access_token").is_some() {
            return Err(bad("invalid_request", "a token in the query"));
        }
        if call.header("authorization").is_none() {
            return Err(challenge(401, ""));
        }
        let (token, resource) = (call.bearer(), self.resource());
        let mut live = self.issued.iter().filter(|one| one.access_works());
        let one = live.find(|one| Some(&*one.access) == token && one.resource == resource);
        let one = one.ok_or_else(|| challenge(401, "invalid_token"))?;
        if demanded.is_some_and(|demanded| !within(&words(demanded), &one.scopes)) {
            return Err(challenge(403, "insufficient_scope"));
        }
        if call.method != "POST" {
            return Err(empty(405));
        }
        let body: Value = serde_json::from_str(&call.body).unwrap_or_default();
        let tool = json!({"name": format!("of-{}", one.family), "description": one.subject});
        let result = json!({"subject": one.subject, "tools": [tool]});
        let answer = json!({"jsonrpc": "2.0", "id": body["id"], "result": result});
        Ok(json(200, &answer))
    }
}

/// What a query or a form says: each name once; an empty value is none.
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn parse(text: &str) -> Result<Self, Reply> {
        let mut all = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()).into_owned() {
            if all.insert(name, value).is_some() {
                return Err(bad("invalid_request", "a parameter twice"));
            }
        }
        all.retain(|_, value| !value.is_empty());
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn need(&self, name: &str) -> Result<&str, Reply> {
        let missing = || bad("invalid_request", &format!("no {name}"));
        self.get(name).ok_or_else(missing)
    }
}

pub(super) fn empty(status: u16) -> Reply {
    (status, Vec::new(), String::new())
}

pub(super) fn json(status: u16, body: &Value) -> Reply {
    let headers = vec![("cache-control", "no-store".to_owned())];
    (status, headers, body.to_string())
}

pub(super) fn error(status: u16, code: &str, why: &str) -> Reply {
    let why = format!("{FOREIGN}: {why}");
    json(status, &json!({"error": code, "error_description": why}))
}

fn bad(code: &str, why: &str) -> Reply {
    error(400, code, why)
}

fn no_target() -> Reply {
    bad("invalid_target", "resource is not the granted one")
}

fn unauthenticated() -> Reply {
    let mut reply = error(401, "invalid_client", "unknown, or not as registered");
    let challenge = "Basic realm=\"issuer\"".to_owned();
    reply.1.push(("www-authenticate", challenge));
    reply
}

/// Id and secret, each form-encoded before they were joined (RFC 6749 2.3.1).
pub(super) fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, joined) = header.split_once(' ')?;
    let joined = BASE64.decode(joined.as_bytes()).ok()?;
    let joined = String::from_utf8(joined).ok()?;
    let (id, secret) = joined.split_once(':')?;
    let decoded = |text: &str| {
        let (name, value) = form_urlencoded::parse(text.as_bytes()).next()?;
        value.is_empty().then(|| name.into_owned())
    };
    let both = (decoded(id)?, decoded(secret)?);
    scheme.eq_ignore_ascii_case("basic").then_some(both)
}

pub(super) fn s256(verifier: &str) -> String {
    BASE64URL_NOPAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
}

fn is_secure(url: &Url) -> bool {
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "https" || url.scheme() == "http" && loopback
}

fn is_json(kind: &[u8]) -> bool {
    kind.split(|b| *b == b';').next() == Some(b"application/json")
}

/// The texts in an array; the standard ones if there is nothing at all; none if it is anything else.
fn list(value: &Value, standard: &[&str]) -> Vec<String> {
    if value.is_null() {
        return standard.iter().map(ToString::to_string).collect();
    }
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn without_nulls(mut object: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    members.retain(|_, value| !value.is_null());
    object
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn has(all: &[String], one: &str) -> bool {
    all.iter().any(|each| each == one)
}

fn within(some: &[String], all: &[String]) -> bool {
    some.iter().all(|one| all.contains(one))
}

fn random(kind: &str) -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).unwrap();
    format!("{kind}-{}", HEXLOWER.encode(&bytes))
}
