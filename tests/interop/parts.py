"""What the interoperability tests are made of: the programs they start, and a browser."""

import base64
import contextlib
import html.parser
import http.cookiejar
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Where a Hawser with a public URL says it is. Only the issuer and the browser here know where that really leads.
PUBLIC = "https://hawser.test"


class Answer:
    """An HTTP answer. `json` is None where the body is none."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.json = None
        with contextlib.suppress(ValueError):
            self.json = json.loads(body)

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects)


def send(method, url, body=None, headers=None, form=None, opener=DIRECT, timeout=60):
    """One request, no redirects followed. Every answer is returned, refusals too."""
    headers, data = dict(headers or {}), None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    if form is not None:
        data, headers["Content-Type"] = urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with opener.open(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers, answer.read().decode())
    except urllib.error.HTTPError as answer:
        return Answer(answer.code, answer.headers, answer.read().decode())


def wait_for(what, found, seconds=30):
    """Repeats `found` until it returns something true."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"still not after {seconds} s: {what}"
        time.sleep(0.1)
    return result


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def query_of(url):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


def with_query(url, /, **changes):
    """The URL with these parameters set, or taken out where the value is None."""
    parts = urllib.parse.urlsplit(url)
    query = {name: value for name, value in (query_of(url) | changes).items() if value is not None}
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(query)))


class Process:
    """A program of its own process group, with its output in two files, or on pipes."""

    started = []

    def __init__(self, command, log, env=None, **pipes):
        self.log, self.out = log, log.with_suffix(".out")
        environment = os.environ | (env or {})
        with open(self.out, "wb") as out, open(log, "wb") as err:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err} | pipes
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **streams)
        self.started.append(self)

    def running(self):
        assert self.process.poll() is None, f"ended: {self.log.read_text(errors='replace')[-2000:]}"

    def ready(self, seconds=60):
        """The ready line, for programs that print one."""

        def line():
            self.running()
            lines = self.out.read_text().splitlines(keepends=True)
            return next((one for one in lines if one.startswith("{") and one.endswith("\n")), None)

        return json.loads(wait_for("the ready line", line, seconds))

    def listening(self, port, seconds=60):
        """Waits until the port answers, for programs that print nothing."""

        def connected():
            self.running()
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), timeout=1).close() or True

        wait_for(f"port {port}", connected, seconds)

    def stop(self):
        if self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Upstream:
    """An MCP server that listens on a port of its own, and what has reached it (seen.py)."""

    def __init__(self, command, log, env=None, port=None):
        """`log` is without its ending; `PORT` in the command stands for the port."""
        self.port, self.seen = port or free_port(), log.with_suffix(".seen")
        self.seen.touch()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        words = [str(self.port) if word == "PORT" else str(word) for word in command]
        env = {"SEEN": str(self.seen), "PORT": str(self.port)} | (env or {})
        self.process = Process(words, log.with_suffix(".log"), env)
        self.process.listening(self.port)
        self.stop = self.process.stop

    def notes(self):
        return [json.loads(line) for line in self.seen.read_text().splitlines()]

    def requests(self):
        return [note for note in self.notes() if "method" in note]


def plain(tools, log, port=None):
    """A server in both eras, made of the Python SDK."""
    return Upstream([tools / "python" / "bin" / "python", "-B", HERE / "plain.py", "PORT"], log, port=port)


def everything(tools, log):
    """The reference server, in the session era alone, made of the TypeScript SDK."""
    program = tools / "everything" / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    return Upstream(["node", "--import", HERE / "seen.mjs", program, "streamableHttp"], log)


LIBRARIES, MODES = ("sdk", "fastmcp", "rmcp"), ("auto", "legacy")


class Client(Process):
    """A real client (client.py, rmcp/), which calls what it is told to. To be used in a `with`."""

    numbers = itertools.count(1)

    def __init__(self, tools, folder, library, mode, url, headers):
        program = [tools / "rmcp" / "debug" / "hawser-interop-rmcp"]
        if library != "rmcp":
            program = [tools / "python" / "bin" / "python", "-B", HERE / "client.py", library]
        log, pipes = folder / f"client-{next(self.numbers)}.log", {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [str(word) for word in [*program, mode, url]]
        super().__init__(command, log, {"HEADERS": json.dumps(headers)}, **pipes, text=True)
        self.hello = self.said()

    def said(self, seconds=180):
        """The next line. There is never more than one to come."""
        assert select.select([self.process.stdout], [], [], seconds)[0], f"nothing in {seconds} s"
        line = self.process.stdout.readline()
        assert line, f"gone: {self.log.read_text(errors='replace')[-2000:]}"
        return json.loads(line)

    def call(self, tool, **arguments):
        self.process.stdin.write(json.dumps({"tool": tool, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        return self.said()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """The end of its input is the end of its session."""
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.stop()
        self.process.stdout.close()


class Shown:
    """What an authorization server lets a test see."""

    def __init__(self, url):
        self.url = url

    def log(self):
        return send("GET", self.url + "/__log").json

    def tokens(self):
        return send("GET", self.url + "/__tokens").json

    def clients(self):
        return send("GET", self.url + "/__clients").json

    def end(self, **what):
        """Ends an access token alone (token=...), or all tokens of a grant (grant=...)."""
        assert send("POST", self.url + "/__end", what).status == 204

    def introspect(self, token):
        basic = base64.b64encode(b"rs:rs-secret").decode()
        headers = {"Authorization": f"Basic {basic}"}
        answer = send("POST", self.url + "/token/introspection", form={"token": token}, headers=headers)
        assert answer.status == 200, answer
        return answer.json


class Issuer(Shown):
    """The authorization server."""

    def __init__(self, tools, log, settings):
        self.process = Process(["node", str(tools / "issuer" / "issuer.mjs")], log, settings)
        super().__init__(self.process.ready()["url"])

    def fault(self, **fault):
        assert send("POST", self.url + "/__fault", fault).status == 200

    def mend(self):
        send("DELETE", self.url + "/__fault")


class Site:
    """An MCP server and its issuer, started when first asked for. Its name is also that of an integration."""

    def __init__(self, name, tools, logs, settings, protection=()):
        self.name, self.tools, self.logs, self.settings, self.protection = name, tools, logs, settings, protection
        self.port = free_port()
        self.resource = f"http://127.0.0.1:{self.port}/mcp"
        self.issuer = self.server = None

    def start(self, **settings):
        if self.issuer:
            return
        self.issuer = Issuer(self.tools, self.logs / f"{self.name}-issuer.log", self.settings | settings)
        command = [self.tools / "python" / "bin" / "python", "-B", HERE / "protected.py", "PORT", self.issuer.url]
        self.server = Upstream([*command, *self.protection], self.logs / f"{self.name}-server", port=self.port)


class SdkSite(Site):
    """An MCP server that is its own issuer, made of the Python SDK."""

    def start(self, **settings):
        if self.issuer:
            return
        command = [self.tools / "python" / "bin" / "python", "-B", HERE / "sdk.py", "PORT"]
        self.server = Upstream(command, self.logs / f"{self.name}-server", self.settings | settings, self.port)
        self.issuer = Shown(f"http://127.0.0.1:{self.port}")


class Since:
    """What an issuer has seen from now on."""

    def __init__(self, issuer):
        self.issuer, self.requests_before, self.tokens_before = issuer, len(issuer.log()), len(issuer.tokens())

    def requests(self, path, method="POST"):
        new = self.issuer.log()[self.requests_before :]
        return [entry for entry in new if (entry["method"], entry["path"]) == (method, path)]

    def tokens(self):
        return self.issuer.tokens()[self.tokens_before :]

    def every_token(self):
        """Access and refresh tokens, first to last."""
        return [one[kind] for one in self.tokens() for kind in ("accessToken", "refreshToken") if one.get(kind)]


class Hawser:
    """The product, as a user starts it."""

    def __init__(self, command, folder, log, options=(), public=None, sign_in=False):
        self.command, self.folder, self.answers = command, folder, []
        # Without it whoever has the address of a consent gives it, as most scenarios do.
        options = options if sign_in else ["--no-sign-in", *options]
        self.process = Process(
            [*command, "serve", "--listen", "127.0.0.1:0", "--data-dir", str(folder), *options], log
        )
        # Under cargo the first start is a build.
        ready = self.process.ready(seconds=900)
        self.real, self.admin, self.api_key = ready["url"], ready["adminToken"], ready["apiKey"]
        self.url = public or self.real

    def call(self, expected, method, path, body=None, token=None):
        """One request to the API; insists on the status."""
        headers = {"Authorization": f"Bearer {token or self.admin}"}
        answer = send(method, self.real + path, body, headers)
        self.answers.append(answer.body)
        assert answer.status == expected, f"{method} {path}: {expected} expected, not {answer}"
        return answer

    def token(self, subject, *options):
        """A token for somebody else than the administrator."""
        command = [*self.command, "token", "--data-dir", str(self.folder), "--tenant", "local", "--subject", subject]
        return subprocess.run([*command, *options], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    def browser(self):
        return Browser({self.url: self.real})


class Form(html.parser.HTMLParser):
    """The one form of a page."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields, self.buttons = None, [], {}
        self.feed(page)
        assert self.action, page

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            assert self.action is None and attributes["method"] == "post", attributes
            self.action = attributes["action"]
        elif tag == "input":
            self.fields.append((attributes["name"], attributes.get("value") or ""))
        elif tag == "button" and "name" in attributes:
            self.buttons[attributes["value"]] = attributes["name"]


class Browser:
    """Follows redirects with a cookie jar, presses the button of the page on which a consent starts, and can stop or bend the way at two places:

    at_issuer(url)    the authorization request, before it is made
    at_callback(url)  the redirect back to Hawser, before it is followed; returning None stops there
    """

    def __init__(self, origins):
        self.origins = origins
        # Browsers treat loopback as secure: cookies marked so are stored and sent there without https.
        policy = http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https"))
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar(policy))
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects, jar)
        self.callback = None

    def real(self, url):
        for shown, real in self.origins.items():
            if url == shown or url.startswith(shown + "/"):
                return real + url[len(shown) :]
        return url

    def get(self, url):
        return send("GET", self.real(url), opener=self.opener)

    def press(self, url, page, button=None):
        """Presses the button of the page at this address; of several, the one with this value."""
        form = Form(page.body)
        target = urllib.parse.urljoin(url, form.action)
        pressed = [(form.buttons[button], button)] if button else []
        return send("POST", self.real(target), form=form.fields + pressed, opener=self.opener)

    def start(self, url):
        """Opens the page on which a consent starts, presses its button, and returns where at the issuer that leads to."""
        page = self.get(url)
        assert page.status == 200, page
        started = self.press(url, page)
        assert started.status == 303, started
        return started.headers["Location"]

    def open(self, url, at_issuer=lambda url: url, at_callback=lambda url: url):
        """The page that the way ends at; None if it was stopped before the callback."""
        seen_issuer = False
        for _ in range(20):
            if urllib.parse.urlsplit(url).path in ("/auth", "/authorize"):
                url, seen_issuer = at_issuer(url), True
            elif seen_issuer and self.callback is None:
                self.callback = url
                url = at_callback(url)
                if url is None:
                    return None
            page = self.get(url)
            # The page comes once more where the server has named another sign-in meanwhile.
            for _ in range(2):
                if page.status == 200 and urllib.parse.urlsplit(url).path == "/oauth/start" and "<form" in page.body:
                    page = self.press(url, page)
            if page.status not in (301, 302, 303, 307, 308):
                return page
            url = urllib.parse.urljoin(url, page.headers["Location"])
        raise AssertionError("too many redirects")
