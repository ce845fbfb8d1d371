"""The pages that end a consent, in a real browser: Chromium, driven through ChromeDriver by WebDriver's plain HTTP.

Screenshots are beside the logs; run.py keeps them with --keep.
"""

import base64
import functools
import http.server
import json
import shutil
import tempfile
import threading
from urllib.parse import urlencode, urlsplit

from contracts import Kambrium, LangSmith, TrueFoundry, numbers
from parts import Process, Since, free_port, query_of, send, wait_for, with_query

# A name that is harmless only as text, and as wide as a name may be: nowhere can it be broken.
NAME = "<img/src=x/onerror=alert(1)><b>\"'&amp;</b></script><!--" + "w" * 144

SPENT = "This address was used before, is too old, or was not made here. Start again from where you came."

# ---- The browser


@functools.cache
def chromedriver(folder):
    """Where ChromeDriver listens. One for all browsers."""
    for program in ("chromium", "chromedriver"):
        assert shutil.which(program), f"{program} is not installed; .ci/interop installs it"
    port = free_port()
    Process(["chromedriver", f"--port={port}"], folder / "chromedriver.log").listening(port)
    return f"http://127.0.0.1:{port}"


class Chromium:
    """A browser with a profile of its own, to be used in a `with`."""

    def __init__(self, world, script=True):
        self.folder, self.profile = world.folder, tempfile.TemporaryDirectory(prefix="chromium-")
        arguments = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            # Nothing but this machine can be reached.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            f"--user-data-dir={self.profile.name}",
        ]
        if not script:
            arguments.append("--blink-settings=scriptEnabled=false")
        # In place of the page of a search engine, which would still be loading.
        blank = {"session.restore_on_startup": 4, "session.startup_urls": ["about:blank"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": arguments, "prefs": blank},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        # Whatever goes wrong, the profile is a temporary folder that removes itself.
        self.base = chromedriver(world.folder)
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{made['sessionId']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ask("DELETE", "")
        self.profile.cleanup()

    def ask(self, method, path, body=None):
        answer = send(method, self.base + path, body)
        assert answer.status == 200, answer
        return answer.json["value"]

    def devtools(self, command, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url):
        """Goes there, and wherever it is sent on, until that is loaded. The logs begin anew."""
        self.log("performance")
        self.log("browser")
        self.ask("POST", "/url", {"url": url})

    def url(self):
        return self.ask("GET", "/url")

    def title(self):
        return self.ask("GET", "/title")

    def text(self, selector):
        return self.ask("GET", f"/element/{self.element(selector)}/text")

    def click(self, selector):
        """As a person does: windows may be opened."""
        self.ask("POST", f"/element/{self.element(selector)}/click", {})

    def write(self, selector, text):
        self.ask("POST", f"/element/{self.element(selector)}/value", {"text": text})

    def element(self, selector):
        (found,) = self.ask("POST", "/elements", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    def run(self, script):
        """The value of a function with this body. Runs whatever the page's policy and the browser's settings say."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": []})

    def status(self):
        return self.run("return performance.getEntriesByType('navigation')[0].responseStatus")

    def log(self, kind):
        """What was logged since this was last asked."""
        return self.ask("POST", "/se/log", {"type": kind})

    def requests(self):
        """Where the browser went since the last `open`, also for pictures and the like."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def screenshot(self, name):
        (self.folder / f"{name}.png").write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))


# ---- What it visits


OPENER = b"""<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>Application</title>
<button>Connect</button>
<script>
    window.messages = [];
    addEventListener('message', ({data, origin}) => messages.push({data, origin}));
    const url = new URLSearchParams(location.search).get('open');
    document.querySelector('button').onclick = () => window.open(url, 'consent', 'popup,width=480,height=640');
</script>"""


class Application(http.server.ThreadingHTTPServer):
    """The application that people come from, at an origin of its own: one page at every path."""

    daemon_threads = True

    class RequestHandlerClass(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(OPENER)

        def log_message(self, *_):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@functools.cache
def stage(world):
    """A Hawser that knows one application, and that application."""
    application = Application()
    origins = ["--ui-origin", application.origin, "--return-origin", application.origin]
    return world.start_hawser("pages", origins, title=NAME), application


def register(world, contract):
    """A new server, and what the pages call it: NAME where the contract lets it be."""
    place, (hawser, _) = world.site("dynamic"), stage(world)
    connection = contract(hawser, place, name=f"{next(numbers)}{NAME}" if contract is LangSmith else None)
    return connection, NAME if contract is Kambrium else connection.name, Since(place.issuer)


def at_issuer(browser, connection, **changes):
    """Begins a consent, stops at the issuer's page, and returns where to go on from there."""
    page = '<link rel="icon" href="data:,"><title>Sign in</title>'
    connection.site.issuer.fault(path="/auth", status=200, headers={"Content-Type": "text/html"}, body=page)
    consent(browser, connection.begin())
    wait_for("the issuer's page", lambda: browser.title() == "Sign in")
    return with_query(browser.url(), **changes)


def consent(browser, url):
    """Opens the page on which a consent starts, and presses its button."""
    browser.open(url)
    assert browser.title().startswith("Connect "), browser.url()
    browser.click("button")
    wait_for("another page", lambda: not browser.title().startswith("Connect "))


# ---- Popups


def hear(browser, application, connection, url, **changes):
    """Opens the URL in a popup of the application, and returns what that was told and the popup's heading."""
    hawser = connection.hawser
    if changes:
        page = '<link rel="icon" href="data:,"><title>Sign in</title>'
        connection.site.issuer.fault(path="/auth", status=200, headers={"Content-Type": "text/html"}, body=page)
    browser.open(f"{application.origin}/?{urlencode({'open': url})}")
    browser.click("button")
    windows = wait_for("a popup", lambda: len(found := browser.ask("GET", "/window/handles")) == 2 and found)
    opener = browser.ask("GET", "/window")
    (popup,) = set(windows) - {opener}
    browser.ask("POST", "/window", {"handle": popup})
    wait_for("the page of the consent", lambda: browser.title().startswith("Connect "))
    browser.click("button")
    if changes:
        wait_for("the issuer's page", lambda: browser.title() == "Sign in")
        # As a link of that page, which keeps the opener.
        browser.run(f"location.href = {json.dumps(with_query(browser.url(), **changes))}")
    wait_for("Hawser's page", lambda: browser.url().startswith(f"{hawser.url}/api/mcp-servers/saas-oauth/"))
    wait_for("all of it", lambda: browser.run("return document.readyState") == "complete")
    heading = browser.text("h1")
    # Messages from one window to another keep their order: when this one is there, there are no others to come.
    browser.run("opener.postMessage('last', '*')")
    browser.ask("POST", "/window", {"handle": opener})
    wait_for("the last message", lambda: browser.run("return messages.some(({data}) => data === 'last')"))
    *told, last = browser.run("return messages")
    assert last == {"data": "last", "origin": hawser.url}, last
    return told, heading


def page_popup_of_success(world):
    """The application that opened the popup is told once, by Hawser's own origin."""
    _, application = stage(world)
    connection, name, _ = register(world, Kambrium)
    with Chromium(world) as browser:
        told, heading = hear(browser, application, connection, connection.begin())
        message = {"type": "oauth_success", "providerName": name}
        assert told == [{"data": message, "origin": connection.hawser.url}], told
        assert heading == "Connected" and connection.state() == "active", heading


def page_popup_of_denial(world):
    _, application = stage(world)
    connection, _, since = register(world, Kambrium)
    with Chromium(world) as browser:
        told, heading = hear(browser, application, connection, connection.begin(), login_hint="deny")
        message = {"type": "oauth_error", "error": "access_denied"}
        assert told == [{"data": message, "origin": connection.hawser.url}], told
        assert heading == "Not connected" and connection.state() == "failed", heading
        assert not since.requests("/token")


def page_popup_of_a_stranger(world):
    """A page at another origin may open the popup, and hears nothing; the consent is given all the same."""
    connection, _, _ = register(world, Kambrium)
    with Chromium(world) as browser:
        told, heading = hear(browser, Application(), connection, connection.begin())
        assert told == [], told
        assert heading == "Connected" and connection.state() == "active", heading


# ---- Result pages


def assert_page(browser, status, heading, sentence, referred=False):
    """The page says this and nothing else, but for a reference, and it is all there is to it."""
    shown = browser.title(), browser.text("h1"), browser.text("h1 + p"), browser.text("body")
    reference = f"\n{browser.text('.reference')}" if referred else ""
    assert shown == (heading, heading, sentence, f"{heading}\n{sentence}{reference}"), shown
    assert not referred or reference.startswith("\nReference: "), reference
    assert browser.run("return document.querySelectorAll('img, b, link, iframe').length") == 0
    assert browser.status() == status
    assert browser.run("return performance.getEntriesByType('resource').length") == 0


def assert_quiet(browser, connection):
    """The browser went nowhere else, and had nothing to complain about. To be asked before the page is left."""
    complaints = browser.log("browser")
    assert not complaints, complaints
    requests, last = browser.requests(), browser.url()
    ours = {urlsplit(url).netloc for url in (connection.hawser.url, connection.site.issuer.url)}
    assert requests and {urlsplit(url).netloc for url in requests} <= ours, requests
    assert requests[-1] == last, requests


COLOURS = """
    const {color, backgroundColor} = getComputedStyle(document.body);
    return [color, backgroundColor].map((one) => one.match(/\\d+/g).slice(0, 3).map(Number));
"""


def assert_readable(browser, name):
    """In a wide window and on a phone, by day and by night."""
    grounds = []
    for scheme in ("light", "dark"):
        browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        text, ground = browser.run(COLOURS)
        assert abs(sum(text) - sum(ground)) > 3 * 128, f"{scheme}: {text} on {ground}"
        grounds.append(sum(ground))
        for device, width in (("wide", 1024), ("phone", 360)):
            metrics = {"width": width, "height": 640, "deviceScaleFactor": 1, "mobile": device == "phone"}
            browser.devtools("Emulation.setDeviceMetricsOverride", **metrics)
            browser.screenshot(f"{name}-{device}-{scheme}")
            # A long page may have a scroll bar at its side, and none below it.
            root = "document.documentElement"
            widths = browser.run(f"return [innerWidth, {root}.clientWidth, {root}.scrollWidth]")
            assert widths[0] == width and widths[1] == widths[2], f"{device}: {widths}"
    assert grounds[0] > grounds[1], grounds


def page_of_success(world, contract):
    connection, name, _ = register(world, contract)
    sentence = f"{name} is connected for admin. You can close this window."
    with Chromium(world) as browser:
        browser.open(connection.begin())
        assert_readable(browser, f"page-{contract.contract}-start")
        browser.click("button")
        wait_for("the page at the end", lambda: browser.title() == "Connected")
        assert_page(browser, 200, "Connected", sentence)
        assert_quiet(browser, connection)
        assert connection.state() == connection.connected
        assert_readable(browser, f"page-{contract.contract}-connected")
        if contract is Kambrium:
            return
        # Whoever loads the page again is told that this cannot be, and stays connected.
        browser.ask("POST", "/refresh", {})
        assert_page(browser, 400, "Not connected", SPENT)
        assert connection.state() == connection.connected


def page_of_denial(world, contract):
    connection, name, since = register(world, contract)
    with Chromium(world) as browser:
        url = at_issuer(browser, connection, login_hint="deny")
        browser.open(url)
        assert_page(
            browser, 200, "Not connected", f"Access to {name} was declined. You can close this window.", referred=True
        )
        assert_quiet(browser, connection)
        browser.screenshot(f"page-{contract.contract}-denied")
        assert connection.state() == connection.denied
        assert not since.requests("/token")


def page_without_script(world, contract):
    _, application = stage(world)
    connection, name, _ = register(world, contract)
    with Chromium(world, script=False) as browser:
        browser.open(application.origin)
        assert browser.run("return 'messages' in window") is False, "scripts run"
        consent(browser, connection.begin())
        sentence = f"{name} is connected for admin. You can close this window."
        wait_for("the page at the end", lambda: browser.title() == "Connected")
        assert_page(browser, 200, "Connected", sentence)
        assert_quiet(browser, connection)
        assert connection.state() == connection.connected


# ---- Back to the application


def page_of_return(world):
    """The browser ends where the application wanted it, which learns what came of it and not where it was."""
    _, application = stage(world)
    wanted = application.origin + "/settings?tab=mcp%20servers&x=1"
    denied = {"status": "authentication_required", "reason": "consent_denied"}
    for hint, result in ((None, {"status": "authenticated"}), ("deny", denied)):
        connection, _, _ = register(world, TrueFoundry)
        connection.return_to = wanted
        with Chromium(world) as browser:
            browser.open(at_issuer(browser, connection, login_hint=hint))
            end = browser.url()
            expected = {"tab": "mcp servers", "x": "1", "mcpServerId": connection.id} | result
            assert query_of(end) == expected, end
            assert end.startswith(application.origin + "/settings?"), end
            assert browser.run("return document.referrer") == ""
            assert browser.title() == "Application"


# ---- One browser's consent is not another's


def page_of_another_browser(world):
    """Whoever is lured to somebody else's consent is refused; the one who began it can still end it."""
    connection, name, since = register(world, TrueFoundry)
    with Chromium(world) as browser, Chromium(world) as other:
        url = at_issuer(browser, connection)
        other.open(url)
        assert urlsplit(other.url()).path == "/oauth/callback" and "code" in query_of(other.url()), other.url()
        assert_page(other, 400, "Not connected", SPENT)
        other.screenshot("page-truefoundry-refused")
        assert not since.requests("/token")
        assert connection.status()["status"] == "authentication_required"

        (cookie,) = [one for one in browser.ask("GET", "/cookie") if one["name"].startswith("hawser-")]
        assert cookie["httpOnly"] and cookie["sameSite"] == "Lax" and cookie["path"] == "/", cookie
        browser.open(url)
        assert_page(browser, 200, "Connected", f"{name} is connected for admin. You can close this window.")
        assert connection.state() == connection.connected
