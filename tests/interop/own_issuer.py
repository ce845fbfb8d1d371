"""Servers that are their own issuer, as those made of the Python SDK or fastmcp are: from the consent to the end of it."""

from parts import Since
from refusals import SUM, Use, added
from steps import assert_alive, assert_ended, assert_revoked, connect


def own_issuer(world, contract):
    """A consent under each contract, with a client that is registered on the spot, and its end."""
    connection, since = connect(world, contract, "sdk")
    (registered,) = since.requests("/register")
    (exchange,) = since.requests("/token")
    (issued,) = since.tokens()
    assert issued["clientId"] == registered["answer"]["client_id"], (issued, registered)
    assert exchange["status"] == 200 and exchange["body"]["client_secret"], exchange
    assert_alive(connection.site, since.every_token())
    assert_revoked(connection.hawser, connection.disconnect())
    assert_ended(connection.site, since.every_token())
    assert connection.status() == {"status": "authentication_required", "method": None, "reason": "revoked"}
    assert connection.state() != connection.connected


def own_issuer_refreshes(world, oauth=None):
    """A token is refused before its time and replaced; with the disconnect all four are over."""
    use = Use(world, "sdk", oauth)
    (first,) = use.since.tokens()
    with use.client() as client:
        added(client.call("add", **SUM))
        use.site.issuer.end(token=first["accessToken"])
        added(client.call("add", **SUM))
    second = use.since.tokens()[1]
    assert_alive(use.site, [second["accessToken"], second["refreshToken"]])
    use.called.disconnect("caller", "oauth")
    assert_ended(use.site, use.since.every_token())
    return use


def own_issuer_that_wants_the_id_twice(world, known):
    """The operator's client may use HTTP Basic alone there, and its id has to be in the form besides. Once that is found it is
    remembered, for the revocation too."""
    use = own_issuer_refreshes(world, known)
    exchanges = [(request["status"], way(request)) for request in use.since.requests("/token")]
    assert exchanges == [(401, "form"), (401, "basic"), (200, "both"), (200, "both")], exchanges
    since = Since(use.site.issuer)
    use.consent(use.connection.begin(use.token))
    (exchange,) = since.requests("/token")
    assert way(exchange) == "both", exchange


def way(request):
    body, header = request["body"], request["authorization"]
    if header:
        return "both" if "client_id" in body else "basic"
    return "form" if "client_secret" in body else "none"
