"""How grants end: in every way that Hawser has, and with an issuer that makes it hard. Whether they have, the issuer's
introspection says."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

from contracts import LANGSMITH, MCP, TrueFoundry
from parts import ROOT, Since, send, wait_for
from steps import (
    assert_alive, assert_deregistered, assert_ended, assert_revoked, connect, hold, register, settled, start,
    visit,
)

ELSEWHERE = "https://elsewhere.example/mcp"
# Long enough for one call to Hawser, in milliseconds.
MEANWHILE = 3000


def forced_update(world):
    connection, since = connect(world, TrueFoundry)
    manifest = {
        "type": "mcp-server/remote", "name": connection.name, "description": "Moved", "url": ELSEWHERE,
        "auth_data": {"type": "oauth2"},
    }
    refused = connection.hawser.call(417, "PUT", MCP, {"manifest": manifest}).json
    assert refused["details"] == [{"oauthRecords": 1, "overrides": 0}], refused
    assert_alive(connection.site, since.every_token())
    connection.hawser.call(200, "PUT", MCP, {"manifest": manifest, "force": True})
    assert connection.status()["reason"] == "server_changed"
    assert_ended(connection.site, since.every_token())


def patch_that_moves(world, contract):
    """Whichever contract made the server, LangSmith's PATCH moves it."""
    connection, since = connect(world, contract)
    servers = connection.hawser.call(200, "GET", f"{LANGSMITH}/mcp-servers").json
    (server,) = [one for one in servers if one["name"] == connection.name]
    connection.hawser.call(200, "PATCH", f"{LANGSMITH}/mcp-servers/{server['id']}", {"url": ELSEWHERE})
    assert connection.status()["status"] == "authentication_required"
    assert_ended(connection.site, since.every_token())


def during(connection, since, asked, meanwhile):
    """Makes a request that needs a token request, and does something else while the issuer's answer is on its way."""
    before = len(since.tokens())
    connection.site.issuer.fault(path="/token", late=MEANWHILE)
    with ThreadPoolExecutor(1) as background:
        answer = background.submit(asked)
        wait_for("tokens that are not answered yet", lambda: len(since.tokens()) > before)
        assert not answer.done()
        result = meanwhile()
        assert not answer.done(), "the issuer has answered already"
        return answer.result(), result


def tokens_after_disconnect(world):
    """The issuer answers a consent when its subject has been disconnected."""
    connection, since = register(world, TrueFoundry)
    first_started, second_started = start(connection), start(connection)
    visit(connection, started=first_started)
    browser = hold(connection, started=second_started)
    page, receipt = during(connection, since, lambda: browser.get(browser.callback), connection.disconnect)
    assert "Not connected" in page.body, page
    assert_revoked(connection.hawser, receipt)
    assert connection.status()["reason"] == "revoked"
    assert len({one["grantId"] for one in since.tokens()}) == 2
    assert_ended(connection.site, since.every_token())


def tokens_after_delete(world, contract):
    """The issuer answers a consent when its server has been deleted."""
    connection, since = register(world, contract)
    browser = hold(connection)
    _, receipt = during(connection, since, lambda: browser.get(browser.callback), connection.delete)
    assert len(since.every_token()) == 2
    assert_ended(connection.site, since.every_token())
    assert_deregistered(connection.site, since)
    removed = settled(connection.hawser, receipt)["removed"]
    assert removed == {"oauthRecords": 0, "overrides": 0}, "it has never been a grant"


def refresh_after_disconnect(world, contract):
    """The issuer answers a refresh when the grant has ended: what it gives is refused, and ends too."""
    connection, since = connect(world, contract, "brief")
    body = {"provider_id": connection.provider(), "scopes": [], "strategy": "REUSE"}
    headers = {"Authorization": f"Bearer {connection.hawser.admin}"}
    url = connection.hawser.real + f"{LANGSMITH}/auth-sessions"
    _, receipt = during(connection, since, lambda: send("POST", url, body, headers), connection.disconnect)
    assert len(since.every_token()) == 4
    settled(connection.hawser, receipt)
    assert_ended(connection.site, since.every_token())


# ---- Issuers that make it hard


def revocation_is_cut_off(world):
    """The issuer revokes, and hangs up before it has said so: nothing is claimed, and it is asked again."""
    connection, since = connect(world, TrueFoundry)
    connection.site.issuer.fault(path="/token/revocation", drop=True, times=2)
    receipt = settled(connection.hawser, connection.disconnect())
    assert receipt["outcomes"] == {"revoked": 1}, receipt
    assert [one["attempts"] for one in receipt["presented"]] == [2, 2], receipt
    assert len(since.requests("/token/revocation")) == 4
    assert_ended(connection.site, since.every_token())


def client_is_refused(world):
    """400 invalid_client, whatever is presented: after three attempts that is believed, and said."""
    connection, since = connect(world, TrueFoundry)
    body = json.dumps({"error": "invalid_client"})
    headers = {"Content-Type": "application/json"}
    connection.site.issuer.fault(path="/token/revocation", status=400, headers=headers, body=body, times=100)
    try:
        receipt = settled(connection.hawser, connection.disconnect(), 120)
    finally:
        connection.site.issuer.mend()
    assert receipt["outcomes"] == {"failed": 1}, receipt
    assert {(one["outcome"], one["httpStatus"]) for one in receipt["presented"]} == {("failed", 400)}, receipt
    assert len(since.requests("/token/revocation")) == 6
    assert connection.status()["reason"] == "revoked", "it is gone here all the same"
    assert_alive(connection.site, since.every_token())


def no_revocation_endpoint(world, contract):
    """The issuer cannot revoke, and that is what the receipt says."""
    connection, since = connect(world, contract, "endless")
    receipt = settled(connection.hawser, connection.disconnect())
    assert receipt["outcomes"] == {"unsupported": 1}, receipt
    assert {one["outcome"] for one in receipt["presented"]} == {"unsupported"}, receipt
    assert connection.status()["reason"] == "revoked", "it is gone here all the same"
    assert_alive(connection.site, since.every_token())
    # A deletion completes all the same.
    settled(connection.hawser, connection.delete())


# ---- Many


def delete_server_of_a_thousand_subjects(world):
    """Each consents for real; one call ends them all, and nothing is left of them."""
    site, hawser = world.site("dynamic"), world.start_hawser("thousand")
    since = Since(site.issuer)
    connection = TrueFoundry(hawser, site)

    def consent(number):
        _, page = visit(connection, connection.begin(hawser.token(f"user:subject-{number}")))
        assert page.status == 200, page

    with ThreadPoolExecutor(8) as several:
        list(several.map(consent, range(1000)))
        tokens = since.every_token()
        assert len(tokens) == 2000 and len({one["grantId"] for one in since.tokens()}) == 1000
        assert all(answer["active"] for answer in several.map(site.issuer.introspect, tokens))
        receipt = settled(hawser, connection.delete(), 300)
        assert not any(answer["active"] for answer in several.map(site.issuer.introspect, tokens))
    assert receipt["removed"] == {"oauthRecords": 1000, "overrides": 0}, receipt
    assert receipt["outcomes"] == {"revoked": 1000}, receipt
    assert_deregistered(site, since)
    hawser.process.stop()
    command = [*world.command, "audit", "--data-dir", str(hawser.folder)]
    audit = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    figures = json.loads(audit.stdout)
    # Nothing of a server, dead or alive; and the catalogue.
    left = {"api-key", "catalogue", "counter", "event", "integration", "receipt", "tenant-key", "trail"}
    assert set(figures["items"]) == left, figures
