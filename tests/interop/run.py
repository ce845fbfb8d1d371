"""Interoperability tests: Hawser between real MCP clients and servers, with a real authorization server and a browser.

    python3 tests/interop/run.py --tools target/interop [--hawser target/debug/hawser] [--only PATTERN]

`.ci/interop` installs the tools. Standard library only. What is said about tokens is never taken from Hawser: the
issuer knows which it gave out, and its introspection says which still live. What has reached a server, the server says.
"""

import argparse
import base64
import fnmatch
import functools
import hashlib
import json
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

# The checkout stays clean.
sys.dont_write_bytecode = True

import clients
import endings
import managed_agents
import own_issuer
import pages
import parts
import refusals
import signing_in
import streams
import tfy
from contracts import ALL, LANGSMITH, MCP, Kambrium, LangSmith, TrueFoundry
from parts import (
    HERE, LIBRARIES, MODES, PUBLIC, Browser, Hawser, Process, SdkSite, Since, Site, free_port, query_of, send, with_query,
)
from steps import (
    assert_alive, assert_by_the_book, assert_deregistered, assert_ended, assert_no_exchange, assert_revoked, assert_state,
    connect, hold, register, start, visit,
)

# ---- What is assumed about Hawser, where no contract says it

# The redirect URIs that an operator registers by hand where neither documents nor dynamic registration are taken.
CALLBACK, KAMBRIUM_CALLBACK = "/oauth/callback", "/api/mcp-servers/saas-oauth/{}/callback/"
WITH_CATALOGUE = "--integrations"
WITH_PUBLIC_URL = "--public-url"


# ---- The world


KNOWN = {"client_id": "known", "client_secret": "known-secret-0123456789"}


class World:
    """Everything that runs, started when first asked for."""

    def __init__(self, tools, command, folder):
        self.tools, self.command, self.folder = tools, command, folder
        closed = {"REGISTRATION": "0", "DOCUMENTS": "0"}
        kinds = {
            "dynamic": {"DOCUMENTS": "0"},
            "document": {"REGISTRATION": "0"},
            "known": closed,
            "jwt": {"DOCUMENTS": "0", "ACCESS_TOKENS": "jwt"},
            "brief": {"DOCUMENTS": "0", "ACCESS_TTL": "30"},
            "endless": {"DOCUMENTS": "0", "REVOCATION": "0"},
        }
        self.sites = {name: Site(name, tools, folder, settings) for name, settings in kinds.items()}
        # Tokens for too little are refused in these ways.
        refusals = {
            "unnamed": ["--insufficient-scope"], "named": ["--insufficient-scope", "--named"],
            "withheld": ["--insufficient-scope", "--named", "--scope", "mcp:admin"],
        }
        for name, protection in refusals.items():
            settings = {"DOCUMENTS": "0", "SCOPES": "mcp:tools mcp:read mcp:admin", "WITHHELD": "mcp:admin"}
            self.sites[name] = Site(name, tools, folder, settings, protection)
        self.sites["sdk"] = SdkSite("sdk", tools, folder, {})
        self.hawsers = []

    def site(self, name):
        site = self.sites[name]
        settings = {}
        if name == "known":
            url = self.hawser.url
            redirects = [url + CALLBACK, url + KAMBRIUM_CALLBACK.format(name)]
            client = {**KNOWN, "redirect_uris": redirects, "grant_types": ["authorization_code", "refresh_token"]}
            settings["CLIENTS"] = json.dumps([client])
        if name == "sdk":
            client = {**KNOWN, "redirect_uris": [self.hawser.url + CALLBACK], "scope": "mcp:tools mcp:read"}
            settings["CLIENT"] = json.dumps({**client, "token_endpoint_auth_method": "client_secret_basic"})
        if name == "document":
            settings["ORIGINS"] = json.dumps({PUBLIC: self.public_hawser.real})
        site.start(**settings)
        return site

    @functools.cached_property
    def plain(self):
        return parts.plain(self.tools, self.folder / "plain")

    @functools.cached_property
    def everything(self):
        return parts.everything(self.tools, self.folder / "everything")

    @functools.cached_property
    def hawser(self):
        return self.start_hawser("hawser")

    @functools.cached_property
    def public_hawser(self):
        """One with a public https URL: without it there is no client ID metadata document."""
        return self.start_hawser("public", [WITH_PUBLIC_URL, PUBLIC], PUBLIC)

    def start_hawser(self, name, options=(), public=None, title=None, sign_in=False):
        """The title is what every integration is called; by default each has its own."""
        catalogue = self.folder / f"{name}-integrations.json"
        integrations = {site.name: self.integration(site, title) for site in self.sites.values()}
        catalogue.write_text(json.dumps({"integrations": integrations}))
        options = [WITH_CATALOGUE, str(catalogue), *options]
        hawser = Hawser(
            self.command, self.folder / f"{name}-data", self.folder / f"{name}.log", options, public, sign_in
        )
        self.hawsers.append(hawser)
        return hawser

    def integration(self, site, title):
        oauth = KNOWN if site.name == "known" else {}
        return {"display_name": title or site.name.title(), "mcp_url": site.resource, "oauth": oauth}


SCENARIOS, LATER = {}, set()


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def each(*contracts):
    """One scenario for each of the contracts."""

    def add(function):
        for contract in contracts:
            SCENARIOS[f"{function.__name__}/{contract.contract}"] = functools.partial(function, contract=contract)
        return function

    return add


def each_of(parameter, values):
    """One scenario for each value of a parameter."""

    def add(function):
        for value in values:
            SCENARIOS[f"{function.__name__}/{value}"] = functools.partial(function, **{parameter: value})

    return add


def each_client(function):
    """One scenario for each of the real clients, in each era it knows."""
    for library in LIBRARIES:
        for mode in MODES:
            name = f"{function.__name__}/{library}-{mode}"
            SCENARIOS[name] = functools.partial(function, library=library, mode=mode)


def later(function):
    """Hawser cannot do it yet: runs only when it is named."""
    LATER.add(function.__name__)
    return function


# ---- The programs around Hawser do what the rest takes for granted


REDIRECT = "http://127.0.0.1:9/callback"


def own_consent(site, client_id, **changes):
    """A consent without Hawser: the parameters of the redirect back, and the verifier."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    parameters = {
        "response_type": "code", "client_id": client_id, "redirect_uri": REDIRECT,
        "state": secrets.token_urlsafe(32), "scope": "mcp:tools", "resource": site.resource,
        "code_challenge": challenge, "code_challenge_method": "S256",
    }
    browser = Browser({})
    url = with_query(site.issuer.url + "/auth", **parameters | changes)
    assert browser.open(url, at_callback=lambda _: None) is None
    return query_of(browser.callback), verifier


def own_tokens(site, client_id):
    back, verifier = own_consent(site, client_id)
    form = {"grant_type": "authorization_code", "code": back["code"], "code_verifier": verifier}
    form |= {"client_id": client_id, "redirect_uri": REDIRECT, "resource": site.resource}
    answer = send("POST", site.issuer.url + "/token", form=form)
    assert answer.status == 200, answer
    return answer.json


def own_refresh(site, client_id, token):
    form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": token}
    return send("POST", site.issuer.url + "/token", form=form)


def own_registration(site):
    metadata = {
        "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none", "application_type": "native",
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
    }
    answer = send("POST", site.issuer.url + "/reg", metadata)
    assert answer.status == 201, answer
    return answer.json


def mcp(url, method, params=None, token=None, name=None):
    """One request to an MCP server, in the current revision of the protocol."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "interop", "version": "0"},
    }
    headers = {
        "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method,
    }
    if name:
        headers["Mcp-Name"] = name
    if token:
        headers["Authorization"] = f"Bearer {token}"
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": meta}}
    answer = send("POST", url, message, headers)
    for line in answer.body.splitlines():
        if line.startswith("data: {"):
            answer.json = json.loads(line[6:])
    return answer


@scenario
def counterparts_issuer(world):
    """Rotation, reuse, revocation, denial and foreign resources at the issuer. Needs no Hawser."""
    site = world.sites["dynamic"]
    site.start()
    since, client = Since(site.issuer), own_registration(site)
    client_id = client["client_id"]

    first = own_tokens(site, client_id)
    assert_alive(site, [first["access_token"], first["refresh_token"]])
    second = own_refresh(site, client_id, first["refresh_token"]).json
    assert second["refresh_token"] != first["refresh_token"]
    assert own_refresh(site, client_id, first["refresh_token"]).json["error"] == "invalid_grant"
    assert len(since.every_token()) == 4
    assert_ended(site, since.every_token(), 0)

    kept, dropped = own_tokens(site, client_id), own_tokens(site, client_id)
    form = {"client_id": client_id, "token": dropped["refresh_token"]}
    assert send("POST", site.issuer.url + "/token/revocation", form=form).status == 200
    assert_ended(site, [dropped["access_token"], dropped["refresh_token"]], 0)
    assert_alive(site, [kept["access_token"], kept["refresh_token"]])

    assert own_consent(site, client_id, login_hint="deny")[0]["error"] == "access_denied"
    assert own_consent(site, client_id, resource="https://elsewhere.example/")[0]["error"] == "invalid_target"
    without_challenge = {"code_challenge": None, "code_challenge_method": None}
    assert own_consent(site, client_id, **without_challenge)[0]["error"] == "invalid_request"
    assert own_consent(site, client_id, scope=None)[0]["iss"] == site.issuer.url

    site.issuer.fault(path="/token", status=503, headers={"Retry-After": "1"}, body="down")
    assert own_refresh(site, client_id, kept["refresh_token"]).status == 503
    assert own_refresh(site, client_id, kept["refresh_token"]).status == 200

    assert client_id in site.issuer.clients()
    bearer = {"Authorization": f"Bearer {client['registration_access_token']}"}
    assert send("DELETE", client["registration_client_uri"], headers=bearer).status == 204
    assert client_id not in site.issuer.clients()


@scenario
def counterparts_servers(world):
    """The protected server takes its issuer's tokens only; the plain one speaks both eras. Needs no Hawser."""
    site = world.sites["dynamic"]
    site.start()
    refused = mcp(site.resource, "tools/list")
    assert refused.status == 401 and "resource_metadata=" in refused.headers["WWW-Authenticate"], refused
    client_id = own_registration(site)["client_id"]
    token = own_tokens(site, client_id)["access_token"]
    called = mcp(site.resource, "tools/call", {"name": "whoami", "arguments": {}}, token, "whoami")
    who = called.json["result"]["structuredContent"]
    assert (who["client"], who["sub"], who["aud"]) == (client_id, "alice", site.resource), who
    called = mcp(site.resource, "tools/call", {"name": "headers", "arguments": {}}, token, "headers")
    assert called.json["result"]["structuredContent"]["authorization"] == f"Bearer {token}", called
    called = mcp(site.resource, "tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}}, token, "add")
    assert called.json["result"]["structuredContent"] == {"result": 5}, called

    url = world.plain.url
    assert "test_simple_text" in [tool["name"] for tool in mcp(url, "tools/list").json["result"]["tools"]]
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "interop", "version": "0"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    answer = send("POST", url, message, {"Accept": "application/json, text/event-stream"})
    assert answer.status == 200 and answer.headers["Mcp-Session-Id"], answer


@scenario
def counterparts_documents(world):
    """The issuer takes a client ID metadata document from where ORIGINS says it is. Needs no Hawser."""
    site = Site("own-document", world.tools, world.folder, {"REGISTRATION": "0"})
    client_id = PUBLIC + "/client.json"
    document = {
        "client_id": client_id, "client_name": "interop", "redirect_uris": [REDIRECT], "application_type": "native",
        "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"],
    }
    folder, port = world.folder / "documents", free_port()
    folder.mkdir()
    (folder / "client.json").write_text(json.dumps(document))
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    files = Process(command, world.folder / "documents.log")
    files.listening(port)
    site.start(ORIGINS=json.dumps({PUBLIC: f"http://127.0.0.1:{port}"}))
    tokens = own_tokens(site, client_id)
    assert_alive(site, [tokens["access_token"], tokens["refresh_token"]])


# ---- Consent


@each(*ALL)
def consent_with_registration(world, contract):
    connection, since = connect(world, contract)
    issued = assert_by_the_book(connection, since)
    (registered,) = since.requests("/reg")
    assert registered["answer"]["client_id"] == issued["clientId"]
    assert "refresh_token" in registered["body"]["grant_types"], registered
    assert_alive(connection.site, since.every_token())


@each(*ALL)
def consent_with_document(world, contract):
    connection, since = connect(world, contract, "document")
    issued = assert_by_the_book(connection, since)
    assert issued["clientId"].startswith(PUBLIC + "/"), issued
    assert_alive(connection.site, since.every_token())


@each(TrueFoundry, Kambrium)
def consent_with_known_client(world, contract):
    connection, since = connect(world, contract, "known", KNOWN)
    issued = assert_by_the_book(connection, since)
    assert issued["clientId"] == KNOWN["client_id"], issued
    assert_alive(connection.site, since.every_token())


@each(*ALL)
def consent_denied(world, contract):
    connection, since = register(world, contract)
    visit(connection, at_issuer=lambda url: with_query(url, login_hint="deny"))
    assert_state(connection, connection.denied)
    assert_no_exchange(since)


@each(TrueFoundry, LangSmith)
def denial_keeps_what_there_is(world, contract):
    """Kambrium has no second consent."""
    connection, since = register(world, contract)
    first_started, second_started = start(connection), start(connection)
    visit(connection, started=first_started)
    visit(connection, started=second_started, at_issuer=lambda url: with_query(url, login_hint="deny"))
    status = connection.status()
    assert status.pop("lastFailedConsent")["reason"] == "access_denied", status
    assert status == {"status": "authenticated", "method": "oauth"}, status
    assert_alive(connection.site, since.every_token())


@each(*ALL)
def wrong_issuer(world, contract):
    """Another authorization server claims the answer: its code goes nowhere."""
    connection, since = register(world, contract)
    visit(connection, at_callback=lambda url: with_query(url, iss="https://evil.example"))
    assert_state(connection, connection.failed)
    assert_no_exchange(since)


@each(*ALL)
def missing_issuer(world, contract):
    """The metadata promises `iss`, so an answer without it is not this issuer's."""
    connection, since = register(world, contract)
    visit(connection, at_callback=lambda url: with_query(url, iss=None))
    assert_state(connection, connection.failed)
    assert_no_exchange(since)


@each(*ALL)
def unknown_state(world, contract):
    connection, since = register(world, contract)
    browser = hold(connection)
    forged = browser.get(with_query(browser.callback, state=secrets.token_urlsafe(32)))
    assert_refused(connection, forged)
    assert_no_exchange(since)
    # Guessing does no harm to the real one.
    assert browser.get(browser.callback).status == 200
    assert_state(connection, connection.connected)


@each(*ALL)
def replayed_callback(world, contract):
    """A second use of the code would make the issuer end the tokens of the first."""
    connection, since = register(world, contract)
    browser, page = visit(connection)
    assert page.status == 200, page
    assert_refused(connection, browser.get(browser.callback))
    assert len(since.requests("/token")) == 1
    assert_alive(connection.site, since.every_token())
    assert_state(connection, connection.connected)


BAD_STATE = {
    "success": False, "error": "Invalid state parameter",
    "message": "OAuth state validation failed. Possible CSRF attack.",
}


def assert_refused(connection, page):
    assert page.status == 400, page
    if connection.contract == "kambrium":
        assert page.json == BAD_STATE, page


@scenario
def callback_after_disconnect(world):
    """A consent begun before the disconnect cannot bring a credential back after it."""
    connection, since = register(world, TrueFoundry)
    first_started, second_started = start(connection), start(connection)
    visit(connection, started=first_started)
    browser = hold(connection, started=second_started)
    connection.disconnect()
    assert_refused(connection, browser.get(browser.callback))
    assert connection.status()["status"] == "authentication_required"
    assert len(since.requests("/token")) == 1
    assert_ended(connection.site, since.every_token())


@each(*ALL)
def callback_after_delete(world, contract):
    connection, since = register(world, contract)
    browser = hold(connection)
    connection.delete()
    assert_refused(connection, browser.get(browser.callback))
    assert_no_exchange(since)


# ---- Revocation


@each(*ALL)
def disconnect(world, contract):
    """Whichever contract made the connection, its TrueFoundry disconnect ends it at the issuer."""
    connection, since = connect(world, contract)
    (issued,) = since.tokens()
    assert_revoked(connection.hawser, connection.disconnect())
    assert connection.status() == {"status": "authentication_required", "method": None, "reason": "revoked"}
    assert connection.state() != connection.connected
    assert_ended(connection.site, since.every_token())
    # Revoking either token ends the grant here, so the order shows in the log alone.
    presented = [request["body"]["token"] for request in since.requests("/token/revocation")]
    assert presented == [issued["refreshToken"], issued["accessToken"]], "not the refresh token, then the access token"


@each(*ALL)
def delete_server(world, contract):
    connection, since = connect(world, contract)
    assert_revoked(connection.hawser, connection.delete())
    assert_ended(connection.site, since.every_token())
    assert_deregistered(connection.site, since)


@scenario
def delete_server_of_three_subjects(world):
    connection, since = connect(world, TrueFoundry)
    for name in ("ada", "bob"):
        token = world.hawser.token(f"user:{name}")
        _, page = visit(connection, connection.begin(token))
        assert page.status == 200, page
        assert connection.status(name)["status"] == "authenticated"
    assert len({one["grantId"] for one in since.tokens()}) == 3
    assert_revoked(world.hawser, connection.delete(), grants=3)
    assert_ended(connection.site, since.every_token())
    assert_deregistered(connection.site, since)


@scenario
def revoke_everybody(world):
    connection, since = connect(world, TrueFoundry)
    answer = world.hawser.call(200, "DELETE", f"{MCP}/{connection.id}/auth/tokens").json
    assert answer == {"deletedCount": 1}, answer
    assert_ended(connection.site, since.every_token())


@scenario
def offboarding(world):
    """One call ends what a subject has under all contracts."""
    site = world.site("dynamic")
    since = Since(site.issuer)
    connections = [connect(world, contract)[0] for contract in ALL]
    receipt = world.hawser.call(200, "DELETE", "/v1/subjects/user/admin/credentials").json["data"]
    assert_revoked(world.hawser, receipt["id"], grants=3)
    assert_ended(site, since.every_token())
    for connection in connections:
        assert connection.status()["status"] == "authentication_required"
        assert connection.state() != connection.connected


@each(TrueFoundry, LangSmith)
def consent_again(world, contract):
    """The last of two consents wins; the tokens of the first are nobody's, and end."""
    connection, since = register(world, contract)
    first_started, second_started = start(connection), start(connection)
    visit(connection, started=first_started)
    first = since.every_token()
    visit(connection, started=second_started)
    second = since.every_token()[len(first) :]
    assert_ended(connection.site, first)
    assert_alive(connection.site, second)
    assert_state(connection, connection.connected)
    assert_revoked(connection.hawser, connection.delete())
    assert_ended(connection.site, second)


@scenario
def jwt_access_tokens(world):
    """JWTs cannot be revoked here; their refresh token can, and it decides the outcome."""
    connection, since = connect(world, TrueFoundry, "jwt")
    (issued,) = since.tokens()
    assert_alive(connection.site, [issued["refreshToken"]])
    assert_revoked(world.hawser, connection.disconnect())
    assert_ended(connection.site, [issued["refreshToken"]])


@scenario
def revocation_is_repeated(world):
    """The issuer is down for a moment: the disconnect is answered at once, and the revocation done later."""
    connection, since = connect(world, TrueFoundry)
    connection.site.issuer.fault(path="/token/revocation", status=503, times=2)
    try:
        receipt = connection.disconnect()
        assert connection.status()["reason"] == "revoked"
        assert_revoked(world.hawser, receipt)
    finally:
        connection.site.issuer.mend()
    assert_ended(connection.site, since.every_token())


scenario(endings.forced_update)
each(*ALL)(endings.patch_that_moves)
scenario(endings.tokens_after_disconnect)
each(*ALL)(endings.tokens_after_delete)
each(LangSmith)(endings.refresh_after_disconnect)
scenario(endings.revocation_is_cut_off)
scenario(endings.client_is_refused)
each(*ALL)(endings.no_revocation_endpoint)
scenario(endings.delete_server_of_a_thousand_subjects)


# ---- Use of a connection


@scenario
def refresh_and_delete(world):
    """REUSE of a token that is about to end refreshes it; afterwards all four tokens end with the server."""
    connection, since = connect(world, LangSmith, "brief")
    session = connection.session(200, "REUSE")
    assert session["status"] == "COMPLETED", session
    refreshed = since.requests("/token")[1]
    assert refreshed["body"]["grant_type"] == "refresh_token", refreshed
    assert refreshed["body"]["resource"] == connection.site.resource, refreshed
    assert len(since.every_token()) == 4
    assert_revoked(world.hawser, connection.delete())
    assert_ended(connection.site, since.every_token())


@scenario
def tools_of_a_protected_server(world):
    connection, _ = connect(world, LangSmith)
    path = with_query(f"{LANGSMITH}/mcp/tools", url=connection.site.resource, oauth_provider_id=connection.provider())
    tools = world.hawser.call(200, "GET", path).json["tools"]
    assert {tool["name"] for tool in tools} == {"whoami", "headers", "add"}, tools


# ---- Servers that are their own issuer


each(*ALL)(own_issuer.own_issuer)
scenario(own_issuer.own_issuer_refreshes)


@scenario
def own_issuer_that_wants_the_id_twice(world):
    own_issuer.own_issuer_that_wants_the_id_twice(world, KNOWN)


# ---- Calls, by clients that are some


each_client(clients.real_client)
scenario(clients.real_client_with_api_key)
each(*ALL)(clients.called_by_id)
each_of("library", LIBRARIES)(clients.server_starts_anew)
each_client(clients.end_between_calls)
each_client(clients.replaced_between_calls)
scenario(clients.end_under_calls)


each_of("mode", MODES)(refusals.refused_token_is_replaced)
scenario(refusals.revoked_elsewhere)
scenario(refusals.refused_at_every_call)
each_of("site", ["named", "unnamed"])(refusals.step_up)
scenario(refusals.step_up_in_vain)
for place in signing_in.PLACES:
    for kind in signing_in.APPLICATIONS:
        name = f"an_address_alone_is_enough/{place}/{kind}"
        SCENARIOS[name] = functools.partial(signing_in.an_address_alone_is_enough, kind=kind, place=place)


# ---- Official clients of the contracts


scenario(tfy.tfy_applies_and_deletes)
scenario(tfy.tfy_is_told_why_a_reference_is_refused)
scenario(tfy.truefoundry_sdk_applies_and_deletes)
scenario(managed_agents.managed_agent_uses_a_server)
scenario(managed_agents.managed_agent_starts_a_consent_by_slug)


# ---- Streams


scenario(streams.call_is_resumed)
scenario(streams.answer_is_fetched_again)
scenario(streams.call_is_called_off)
scenario(streams.call_is_called_off_by_word)
scenario(streams.stream_of_no_request)
scenario(streams.stream_of_a_subscription)
scenario(streams.stream_ends_with_its_credential)
scenario(streams.batch)
scenario(streams.batch_that_is_refused)


# ---- Pages, in a browser that is one


scenario(pages.page_popup_of_success)
scenario(pages.page_popup_of_denial)
scenario(pages.page_popup_of_a_stranger)
each(*ALL)(pages.page_of_success)
each(TrueFoundry, LangSmith)(pages.page_of_denial)
each(*ALL)(pages.page_without_script)
scenario(pages.page_of_return)
scenario(pages.page_of_another_browser)


# ---- At the end, over all that was done


def secrets_of(issuer):
    """Every secret the issuer has seen or given: those that no answer of the API may hold, and the rest."""
    hidden, others = {KNOWN["client_secret"]}, set()
    names = ("access_token", "refresh_token", "client_secret", "registration_access_token", "code_verifier", "token")
    for entry in issuer.log():
        for part in (entry.get("body"), entry.get("answer")):
            if isinstance(part, dict):
                hidden |= {part[name] for name in names if part.get(name)}
                others |= {part[name] for name in ("code",) if part.get(name)}
        others |= {value for name, value in entry["query"].items() if name == "state"}
    return hidden, others


def carried_to(server):
    """Every secret that has reached an MCP server: credentials, and its own ids of sessions."""
    names = ("authorization", "x-stored", "x-personal", "mcp-session-id")
    headers = [header for request in server.requests() for header in request["headers"]]
    return {value.split(" ")[-1] for name, value in headers if name in names}


@scenario
def no_secret_shows(world):
    """Not in an answer of the API, nor in a log or the store."""
    hidden, others = set(), set()
    for site in world.sites.values():
        if site.issuer:
            some, more = secrets_of(site.issuer)
            hidden, others = hidden | some, others | more
            hidden |= carried_to(site.server)
    for server in (world.plain, world.everything):
        hidden |= carried_to(server)
    hidden.add(signing_in.CLIENT["client_secret"])
    # What callers have sent that went nowhere.
    others.add(clients.PLANTED_WORD)
    assert hidden and len(others) > 1, "nothing was done that could show"
    for hawser in world.hawsers:
        shown = [number for number, body in enumerate(hawser.answers) if any(one in body for one in hidden)]
        assert not shown, f"answers {shown}"
        stored = [file for file in hawser.folder.rglob("*") if file.is_file()]
        for file in [hawser.process.log, hawser.process.out, *stored]:
            content = file.read_bytes()
            found = sum(secret.encode() in content for secret in hidden | others)
            assert not found, f"{file.name} holds {found} secrets"


@scenario
def integrity_check_passes(world):
    """Ends Hawser and audits its store."""
    hawser = world.hawser
    hawser.process.stop()
    command = [*world.command, "audit", "--data-dir", str(hawser.folder)]
    audit = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True)
    assert audit.returncode == 0, audit.stdout[-2000:] + audit.stderr[-500:]


# ---- The runner


def chosen(only):
    def bare(name):
        return name.split("/")[0]

    if only:
        names = [name for name in SCENARIOS if fnmatch.fnmatch(name, only) or bare(name) == only]
        return names or sys.exit(f"no scenario is called {only}")
    return [name for name in SCENARIOS if bare(name) not in LATER]


def run(world, names):
    failures = {}
    for name in names:
        start = time.monotonic()
        try:
            SCENARIOS[name](world)
        except Exception as error:
            # Where in the scenario, and where in its helpers.
            frames = traceback.extract_tb(error.__traceback__)[1:]
            lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
            failures[name] = f"{', '.join(lines)}: {type(error).__name__}: {error}"
        result = "FAIL" if name in failures else "ok  "
        print(f"{result} {name} ({time.monotonic() - start:.1f} s)", flush=True)
    for name, reason in failures.items():
        print(f"\n{name}: {reason}")
    print(f"\n{len(names) - len(failures)} passed, {len(failures)} failed")
    return not failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True, help="where .ci/interop installed")
    parser.add_argument("--hawser", type=Path, help="the program (default: cargo run)")
    parser.add_argument("--only", help="a scenario, or a pattern")
    parser.add_argument("--list", action="store_true", help="print the names and do nothing")
    parser.add_argument("--keep", type=Path, help="an empty folder for the logs and Hawser's data (default: not kept)")
    options = parser.parse_args()
    if options.list:
        return print("\n".join(SCENARIOS))
    command = [str(options.hawser.resolve())] if options.hawser else ["cargo", "run", "--quiet", "--locked", "--"]
    with tempfile.TemporaryDirectory(prefix="interop-") as passing:
        folder = options.keep or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        world = World(options.tools.resolve(), command, folder.resolve())
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
        try:
            passed = run(world, chosen(options.only))
        finally:
            for process in reversed(Process.started):
                process.stop()
    sys.exit(not passed)


if __name__ == "__main__":
    main()
