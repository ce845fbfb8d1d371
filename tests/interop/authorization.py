"""The authorization server scenarios of the official conformance suite, run against Hawser's authorization server. The suite is
an application that registers itself, without a secret: where a server takes such, the suite sends none. The person whom it sends to Hawser signs in on the page for development, and lets it in.
"""

import collections
import re
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import suite
from parts import Browser, Form, free_port, send, wait_for

# What the person presses, of what a page has.
PRESSED = ("admin", "allow")


def run(tools, hawser, folder):
    """How many checks have which result, by scenario, in each revision."""
    folder.mkdir()
    return {revision: see(tools, hawser, revision, folder / revision) for revision in suite.REVISIONS}


def see(tools, hawser, revision, out):
    port = free_port()
    client_id = registered(hawser, f"http://127.0.0.1:{port}/callback")
    arguments = ["--url", hawser.url, "--client-id", client_id, "--resource", f"{hawser.url}/mcp/wiki"]
    arguments += ["--spec-version", revision, "--port", port]
    log = out.with_suffix(".log")
    with ThreadPoolExecutor(1) as background:
        running = background.submit(suite.run, tools, "authorization", arguments, out)
        url = wait_for("the suite's address", lambda: running.done() or address(log, hawser), 60)
        if not running.done():
            sign_in(url)
        running.result()
    return {name.removeprefix("authorization-server-"): counted(checks) for name, _, checks in suite.results(out)}


def registered(hawser, redirect_uri):
    metadata = {
        "client_name": "Conformance suite", "redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
    }
    answer = send("POST", f"{hawser.url}/oauth/register", metadata)
    assert answer.status == 201, answer
    return answer.json["client_id"]


def address(log, hawser):
    """Where the suite wants a person to go, once it waits for them."""
    printed = log.read_text() if log.exists() else ""
    if "Callback server started" not in printed:
        return None
    return re.search(rf"^{re.escape(hawser.url)}/\S+$", printed, re.MULTILINE)[0]


def sign_in(url):
    """Presses the button of each page, to the one on which the application has its browser again."""
    browser = Browser({})
    page = browser.get(url)
    for _ in range(10):
        if page.status in (302, 303):
            url = urllib.parse.urljoin(url, page.headers["Location"])
            page = browser.get(url)
        elif "<form" in page.body:
            buttons = Form(page.body).buttons
            page = browser.press(url, page, next(one for one in PRESSED if one in buttons))
        else:
            return
    raise AssertionError("too many pages")


def counted(checks):
    """How many checks have which status; the bad ones are printed."""
    for check in checks:
        if check["status"] in ("FAILURE", "WARNING"):
            print(f"  {check['id']}: {check['status']}: {check.get('errorMessage')}")
    return collections.Counter(check["status"] for check in checks)


def is_good(seen):
    """Whether every scenario has run, and nothing in it has failed."""
    runs = [one for scenarios in seen.values() for one in scenarios.values()]
    ran = all(len(scenarios) > 1 for scenarios in seen.values())
    return ran and all(one["SUCCESS"] and not one["FAILURE"] and not one["WARNING"] for one in runs)


def table(seen):
    """The lines of the table."""

    def cell(one):
        return f"{one['SUCCESS']} of {one['SUCCESS'] + one['FAILURE'] + one['WARNING']}" if one else suite.NOT_THERE

    scenarios = sorted({scenario for one in seen.values() for scenario in one})
    return suite.table(("Scenario", *seen), [(name, *(cell(one.get(name)) for one in seen.values())) for name in scenarios])
