"""What a real server refuses, and what becomes of it: tokens that are over, and tokens for too little."""

from clients import Called, caller
from contracts import TrueFoundry
from parts import Client
from steps import assert_alive, register, visit

TOO_LITTLE = {"scopes": ["mcp:read"]}


class Use:
    """A caller's consent at a server with OAuth, a client that is connected through it, and what comes of its calls."""

    def __init__(self, world, site="dynamic", oauth=None, mode="auto"):
        self.connection, self.since = register(world, TrueFoundry, site, oauth)
        self.token, self.mode, self.world = caller(world), mode, world
        self.site = self.connection.site
        self.called = Called(world.hawser, self.site.server, self.connection.id)
        self.consent(self.connection.begin(self.token))

    def consent(self, url):
        _, page = visit(self.connection, url)
        assert page.status == 200, page

    def client(self):
        headers = {"Authorization": f"Bearer {self.token}"}
        return Client(self.world.tools, self.world.folder, "sdk", self.mode, self.called.url, headers)

    def status(self):
        status = self.connection.status("caller")
        return status["status"] if status["status"] == "authenticated" else status["reason"]

    def arrived(self, seen):
        """The tokens that the server has seen, in order."""
        headers = [dict(request["headers"]) for request in self.site.server.requests()[seen:]]
        return [each["authorization"].removeprefix("Bearer ") for each in headers]


def refused(use, answer):
    """Insists that Hawser tells the caller to connect, in its own words; the consent's URL, if it has one."""
    if asked := answer.get("asked"):
        assert all(use.called.is_asked(question) for question in asked), answer
        return asked[-1]["url"]
    assert answer.get("is_error") and use.called.is_told(answer["text"]), answer
    return next((word for word in answer["text"].split() if "/oauth/start?session=" in word), None)


def added(answer):
    assert answer.get("text") == "5", answer


SUM = {"a": 2, "b": 3}


def refused_token_is_replaced(world, mode):
    """The server refuses a token before its time: it is refreshed, and the call repeated, once."""
    use = Use(world, mode=mode)
    (first,) = use.since.tokens()
    with use.client() as client:
        added(client.call("add", **SUM))
        use.site.issuer.end(token=first["accessToken"])
        seen = len(use.site.server.requests())
        added(client.call("add", **SUM))
        _, second = use.since.tokens()
        assert second["grantType"] == "refresh_token", second
        assert use.arrived(seen)[:2] == [first["accessToken"], second["accessToken"]], "not once refused, once repeated"
        # The session outlives it, and the old token is not tried again.
        seen = len(use.site.server.requests())
        added(client.call("add", **SUM))
        assert set(use.arrived(seen)) == {second["accessToken"]}
    assert use.status() == "authenticated"


def revoked_elsewhere(world):
    """The grant is revoked at the issuer, by somebody else: the caller is told to connect again, and does, in one session."""
    use = Use(world)
    (first,) = use.since.tokens()
    with use.client() as client:
        added(client.call("add", **SUM))
        use.site.issuer.end(grant=first["grantId"])
        assert not use.site.issuer.introspect(first["accessToken"])["active"]
        refused(use, client.call("add", **SUM))
        # What was refused is not sent once more.
        seen = len(use.site.server.requests())
        url = refused(use, client.call("add", **SUM))
        assert not use.arrived(seen), "a token that was refused has arrived again"
        assert use.status() == "invalid_grant"
        use.consent(url)
        added(client.call("add", **SUM))
    assert use.status() == "authenticated"


def refused_at_every_call(world):
    """The server never takes such tokens: it is not the issuer that has to suffer for it."""
    use = Use(world, "dynamic", TOO_LITTLE)
    for _ in range(3):
        with use.client() as client:
            refused(use, client.call("add", **SUM))
    # The consent's, and what replaced it once.
    assert [token["grantType"] for token in use.since.tokens()] == ["authorization_code", "refresh_token"]
    assert use.status() == "authenticated"


def step_up(world, site):
    """The server wants a token for more: the caller consents to the union, and goes on in one session."""
    use = Use(world, site, TOO_LITTLE)
    (first,) = use.since.tokens()
    assert first["scope"] == "mcp:read", first
    with use.client() as client:
        url = refused(use, client.call("add", **SUM))
        use.consent(url)
    asked = use.since.requests("/auth", "GET")[-1]["query"]
    assert set(asked["scope"].split()) >= {"mcp:read", "mcp:tools"}, asked
    *_, second = use.since.tokens()
    assert set(second["scope"].split()) >= {"mcp:read", "mcp:tools"}, second
    with use.client() as client:
        added(client.call("add", **SUM))
    assert_alive(use.site, [second["accessToken"]])
    # The grant that was replaced is revoked, and nothing else.
    assert use.status() == "authenticated"


def step_up_in_vain(world):
    """The caller does not grant the scope that the server wants: nobody sends them there again and again."""
    use = Use(world, "withheld", TOO_LITTLE)
    with use.client() as client:
        use.consent(refused(use, client.call("add", **SUM)))
    with use.client() as client:
        assert refused(use, client.call("add", **SUM)) is None, client.hello
    assert len(use.since.requests("/auth", "GET")) == 2
