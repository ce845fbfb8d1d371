"""One address is enough: real applications, unmodified, find out by themselves where a person signs in, and how the person
connects to the server behind; and they can be thrown out.

The applications are in `applications/`, one file for each. Their browser is Chromium, with a person before it who reads the
pages and presses the button that goes on.
"""

import collections
import functools
import itertools
import json
import re
import subprocess

from contracts import MCP, TrueFoundry
from pages import Chromium
from parts import HERE, Process, Since, free_port, wait_for
from steps import assert_alive, assert_ended, assert_revoked, revoked, settled

# How an application gets its person to connect upstream: its SDK asks them and repeats the call (ASKED); the application opens
# the address of the error -32042, and the person calls again (OPENED); or the result of the tool says so to whoever reads it
# (READ).
ASKED, OPENED, READ = "elicitation", "error -32042", "result of the tool"
STATELESS, SESSIONS = "2026-07-28", "2025-11-25"

Kind = collections.namedtuple("Kind", "program name speaks connects")
APPLICATIONS = {
    "mcp-remote": Kind("mcp_remote.mjs", "MCP CLI Proxy", SESSIONS, READ),
    "fastmcp": Kind("fastmcp_client.py", "FastMCP Client", STATELESS, ASKED),
    "langchain": Kind("langchain_adapters.py", "LangChain", SESSIONS, READ),
    "python-sdk-1": Kind("python_sdk_1.py", "Python SDK 1", SESSIONS, OPENED),
    "python-sdk-2": Kind("python_sdk_2.py", "Python SDK 2", STATELESS, ASKED),
    "typescript-sdk-1": Kind("typescript_sdk_1.mjs", "TypeScript SDK 1", SESSIONS, OPENED),
    "typescript-sdk-2": Kind("typescript_sdk_2.mjs", "TypeScript SDK 2", STATELESS, ASKED),
}
# Those that need another Python SDK than the rest.
ON_PYTHON_SDK_1 = ("langchain", "python-sdk-1")

# ---- The person


class Person:
    """Somebody before a browser, who says what they are called, and lets everything in."""

    # The pages that ask something: by their heading, what is filled in, and the button.
    QUESTIONS = (
        (r"Who are you\?", ["[name=name]"], "[value=name]"),
        (r"Sign-in", ["[name=login]", "[name=password]"], "button"),
        (r"Authorize|Consent", [], "button"),
        (r"Let .* in\?", [], "[value=allow]"),
        (r"Connect .*", [], "button"),
    )

    def __init__(self, browser, name):
        self.browser, self.name = browser, name

    def go(self, url):
        """Opens the address, and answers each page until there is one that asks nothing; their headings."""
        self.browser.open(url)
        headings = [self.heading()]
        while question := next((one for one in self.QUESTIONS if re.fullmatch(one[0], headings[-1])), None):
            _, fields, button = question
            for field in fields:
                self.browser.write(field, self.name)
            before = self.shown()
            self.browser.click(button)
            wait_for("another page", lambda before=before: self.shown() != before)
            headings.append(self.heading())
        return headings

    def heading(self):
        return self.browser.run("return document.querySelector('h1')?.innerText ?? document.title")

    def shown(self):
        return self.browser.url(), self.heading()


# ---- The applications


class Application(Process):
    """One of them, with a person before its browser. To be used in a `with`."""

    numbers = itertools.count(1)

    def __init__(self, world, kind, url, person):
        name = f"application-{next(self.numbers)}-{kind}"
        self.person, self.heard, self.ways = person, 0, []
        home, log = world.folder / name, world.folder / f"{name}.log"
        home.mkdir()
        self.said_at = log.with_suffix(".said")
        env = {"HOME": str(home), "BROWSER": str(HERE / "applications" / "browser"), "SAID": str(self.said_at)}
        command = [*program(world, kind), url]
        # What it says, and what its browser is told, one after the other.
        with open(self.said_at, "ab") as said:
            super().__init__([str(word) for word in command], log, env, stdin=subprocess.PIPE, stdout=said, text=True)
        self.hello = self.end()

    def said(self):
        """The next line."""

        def line():
            lines = self.said_at.read_text().splitlines(keepends=True)[self.heard :]
            return lines[0] if lines and lines[0].endswith("\n") else self.running()

        said = json.loads(wait_for("a line of the application", line, 120))
        self.heard += 1
        return said

    def end(self):
        """What comes of what it does. Its person goes wherever they are sent on the way."""
        while "open" in (said := self.said()):
            self.ways.append(self.person.go(said["open"]))
        return said

    def ask(self, **what):
        """What comes of this, and what pages its person has answered meanwhile."""
        self.ways.clear()
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        said = self.end()
        assert "error" not in said, said
        return said

    def tools(self):
        return self.ask(list=True)["tools"]

    def call(self, tool, **arguments):
        return self.ask(tool=tool, arguments=arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.stop()


def program(world, kind):
    file = APPLICATIONS[kind].program
    if file.endswith(".mjs"):
        return ["node", world.tools / "applications" / file]
    python = "python-1" if kind in ON_PYTHON_SDK_1 else "python"
    return [world.tools / python / "bin" / "python", "-B", HERE / "applications" / file]


# ---- Where people sign in

CLIENT = {"client_id": "hawser", "client_secret": "sign-in-secret-0123456789", "grant_types": ["authorization_code", "refresh_token"]}


@functools.cache
def at_provider(world):
    """A Hawser whose people sign in at an OpenID provider, set up as an operator does."""
    secret, port = world.folder / "sign-in-secret", free_port()
    secret.write_text(CLIENT["client_secret"])
    options = ["--sign-in-issuer", f"http://127.0.0.1:{port}", "--sign-in-client-id", CLIENT["client_id"]]
    options += ["--sign-in-secret-file", str(secret)]
    hawser = world.start_hawser("at-provider", options, sign_in=True)
    client = CLIENT | {"redirect_uris": [f"{hawser.url}/oauth/signed-in"]}
    command = ["node", str(world.tools / "issuer" / "provider.mjs"), str(port), json.dumps(client)]
    Process(command, world.folder / "provider.log").ready()
    # A login that ends is over there, too: the provider asks its person again.
    return hawser, ["Sign-in", "Authorize"], ["Authorize"]


@functools.cache
def at_development(world):
    """A Hawser as a newcomer starts it, with the page for development."""
    hawser = world.start_hawser("at-development", sign_in=True)
    return hawser, ["Who are you?"], ["Who are you?"]


PLACES = {"provider": at_provider, "development": at_development}

# ---- What it is all for


class Use:
    """An application and its person, at a server that wants a consent of each."""

    def __init__(self, world, kind, place, browser):
        self.kind, self.person = APPLICATIONS[kind], Person(browser, f"{kind}-{place}")
        self.place, self.folder = place, world.folder
        self.hawser, self.first, self.again = PLACES[place](world)
        self.connection = TrueFoundry(self.hawser, world.site("dynamic"))
        self.site, self.since = self.connection.site, Since(self.connection.site.issuer)
        url = f"{self.hawser.url}/mcp/{self.connection.name}"
        self.application = Application(world, kind, url, self.person)

    def login(self):
        """The one that there is."""
        logins = self.hawser.call(200, "GET", "/v1/logins").json["data"]
        (mine,) = [one for one in logins if one["subjectId"] == self.person.name]
        return mine

    def signs_in(self, pages):
        """Insists that the person has signed in on these pages, and let the application in."""
        (way,) = self.application.ways
        assert way[:-1] == [*pages, f"Let {self.kind.name} in?"], way

    def connects(self, tool, **arguments):
        """A call for which the person has to connect to the server first; its end."""
        called = self.application.call(tool, **arguments)
        ways = self.application.ways.copy()
        if self.kind.connects == READ:
            assert not ways, ways
            (url,) = re.findall(r"http\S+/oauth/start\?\S+[^\s.,]", called["text"])
            ways.append(self.person.go(url))
        if self.kind.connects in (OPENED, READ):
            assert called["is_error"], called
            called = self.application.call(tool, **arguments)
        assert ways == [[f"Connect {self.connection.name}", "Connected"]], (ways, called)
        assert not called["is_error"], called
        return called["text"]

    def end_login(self):
        """Ends it, at the provider as well, where that gave a token for it."""
        ended, before = self.login(), self.revoked_at_provider()
        answer = self.hawser.call(200, "DELETE", f"/v1/logins/{ended['id']}").json["data"]
        receipt = settled(self.hawser, answer["id"])
        at_provider = int(self.place == "provider")
        assert revoked(receipt) == receipt["removed"].get("providerTokens", 0) == at_provider, receipt
        assert self.revoked_at_provider() - before == at_provider
        return ended

    def revoked_at_provider(self):
        """How often the provider says that it has revoked what it had given."""
        log = self.folder / "provider.out"
        said = log.read_text() if log.exists() else ""
        return said.count('"event":"revoked"')

    def end_credential(self):
        body = {"authSource": "oauth", "subjectId": self.person.name, "subjectType": "user"}
        path = f"{MCP}/{self.connection.mcp_id()}/auth"
        return self.hawser.call(200, "DELETE", path, body).json["data"]["receiptId"]


SUM = {"a": 2, "b": 3}


def an_address_alone_is_enough(world, kind, place):
    """Sign-in, consent and a call; then the login ends, and the credential, and the application's person is asked anew."""
    with Chromium(world) as browser:
        use = Use(world, kind, place, browser)
        with use.application as application:
            signed_in_connected_and_called(use, application)
            login_ends(use, application)
            credential_ends(use, application)


def signed_in_connected_and_called(use, application):
    assert application.hello == {"version": use.kind.speaks}, application.hello
    use.signs_in(use.first)
    login = use.login()
    assert login["clientName"] == use.kind.name, login
    assert application.tools() == ["connect"]
    assert use.connects("connect") == f"{use.connection.name} is connected. List its tools again."
    assert "add" in application.tools()
    assert application.call("add", **SUM) == {"text": "5", "is_error": False}


def login_ends(use, application):
    """The next call is refused, and the application signs in anew; the person's credential is where it was."""
    ended = use.end_login()
    # Some open a stream of their own accord, until now.
    seen = len(use.site.server.requests())
    arrived = []
    go = use.person.go
    use.person.go = lambda url: arrived.append(len(use.site.server.requests())) or go(url)
    assert application.call("add", **SUM) == {"text": "5", "is_error": False}
    use.person.go = go
    assert arrived == [seen], "a call has gone on without a sign-in"
    use.signs_in(use.again)
    assert use.login()["id"] != ended["id"]
    assert_alive(use.site, use.since.every_token())


def credential_ends(use, application):
    """The next call wants a consent, as the first one did, and in the same session."""
    login, ended = use.login(), use.since.every_token()
    assert_revoked(use.hawser, use.end_credential())
    assert_ended(use.site, ended)
    assert use.connects("add", **SUM) == "5"
    assert use.login()["id"] == login["id"]
