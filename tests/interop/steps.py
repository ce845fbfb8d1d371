"""What scenarios are made of: servers registered, consents given, and what must be true afterwards."""

from parts import Since, query_of, wait_for


def revoked(receipt):
    """How many grants a receipt says were revoked."""
    return (receipt.get("outcomes") or {}).get("revoked", 0)


def register(world, contract, site="dynamic", oauth=None):
    """A new server under the contract, and what its issuer sees from now on."""
    place = world.site(site)
    since = Since(place.issuer)
    hawser = world.public_hawser if site == "document" else world.hawser
    return contract(hawser, place, oauth), since


def start(connection):
    """Begins a consent and presses the button of its page; returns the browser and where it is sent, to be visited later."""
    browser = connection.hawser.browser()
    return browser, browser.start(connection.begin())


def visit(connection, url=None, started=None, **bends):
    """Goes through a consent, or through one that was started; returns the browser and the page it ended on."""
    browser, url = started or (connection.hawser.browser(), url or connection.begin())
    return browser, browser.open(url, **bends)


def hold(connection, started=None):
    """Consents, and stops at the door of Hawser's callback."""
    browser, page = visit(connection, started=started, at_callback=lambda _: None)
    assert page is None and "code" in query_of(browser.callback), page
    return browser


def connect(world, contract, site="dynamic", oauth=None):
    """A server with a consent given."""
    connection, since = register(world, contract, site, oauth)
    _, page = visit(connection)
    assert page.status == 200, page
    assert_state(connection, connection.connected)
    return connection, since


def assert_state(connection, expected):
    state = connection.state()
    assert state == expected, f"{state} instead of {expected}"


def assert_by_the_book(connection, since):
    """One authorization request and one token request, as the MCP specification wants them; returns the tokens."""
    (asked,) = since.requests("/auth", "GET")
    (exchange,) = since.requests("/token")
    (issued,) = since.tokens()
    query, body, resource = asked["query"], exchange["body"], connection.site.resource
    assert query["response_type"] == "code" and query["code_challenge_method"] == "S256", query
    # 256 bits take 43 characters of base64url.
    assert len(query["state"]) >= 43 and len(query["code_challenge"]) == 43, query
    assert "mcp:tools" in query["scope"].split(), query
    assert query["resource"] == body["resource"] == issued["resource"] == resource, (query, body, issued)
    assert body["redirect_uri"] == query["redirect_uri"], (query, body)
    return issued


def assert_alive(site, tokens):
    ended = [number for number, token in enumerate(tokens) if not site.issuer.introspect(token)["active"]]
    assert tokens and not ended, f"ended: {ended} of {len(tokens)}"


def assert_ended(site, tokens, seconds=60):
    """Nothing may have been forgotten: an empty list of tokens proves nothing."""
    assert tokens
    wait_for(
        "tokens inactive", lambda: not any(site.issuer.introspect(token)["active"] for token in tokens), seconds
    )


def assert_no_exchange(since):
    assert not since.requests("/token"), "the code went to the token endpoint"


def settled(hawser, receipt_id, seconds=60):
    """The receipt, once it is complete."""
    assert receipt_id, "no receipt"

    def complete():
        receipt = hawser.call(200, "GET", f"/v1/receipts/{receipt_id}?waitSeconds=20").json["data"]
        return receipt if receipt["state"] == "complete" else None

    return wait_for("receipt complete", complete, seconds)


def assert_revoked(hawser, receipt_id, grants=1):
    """The receipt says that so many grants were revoked at the issuer."""
    receipt = settled(hawser, receipt_id)
    assert revoked(receipt) >= grants, receipt


def assert_deregistered(site, since):
    """The clients that got tokens are gone; all of them were registered for the server that is deleted now."""
    ours = {one["clientId"] for one in since.tokens()}
    wait_for("client deregistered", lambda: not ours & set(site.issuer.clients()))
