"""The server scenarios of the official conformance suite, run against servers directly and through Hawser. Neither has to
pass all of them: what counts is that the suite sees no difference in the result of any check.
"""

import collections
import re

import suite
from contracts import MCP
from parts import HERE, everything, plain

# A server, and the revision that is spoken with it.
RUNS = {"plain 2025-11-25": plain, "plain 2026-07-28": plain, "everything 2025-11-25": everything}
# Where Hawser answers by itself, so that servers which get it wrong are better off behind it.
MAY_IMPROVE = {
    "dns-rebinding-protection": "Hawser looks at `Origin` and `Host` before it passes anything on",
    "server-session-lifecycle": "Sessions are Hawser's own, and one that was ended is unknown to it: 404",
}

Seen = collections.namedtuple("Seen", "passed failed checks")


def see(tools, arguments, out, env=None, node=()):
    """What the suite says of a server, by scenario."""
    suite.run(tools, "server", arguments, out, env, node)
    found = {}
    for name, _, checks in suite.results(out):
        results = collections.Counter(check["status"] for check in checks)
        scenario = name.removeprefix("server-")
        found[scenario] = Seen(results["SUCCESS"], results["FAILURE"], [told(check) for check in checks])
    return found


def told(check):
    """The result of a check, without the address."""
    message = re.sub(r"127\.0\.0\.1:\d+[\w/.-]*", "SERVER", check.get("errorMessage") or "")
    return check["id"], check["status"], message


def run(tools, hawser, folder):
    """What the suite says of each server directly, and through Hawser."""
    seen = {}
    for title, start in RUNS.items():
        name, revision = title.split()
        place = folder / title.replace(" ", "-")
        place.mkdir()
        arguments = ["--requirements", revision, "--url"]
        # Each time one that has not seen anything yet.
        server = start(tools, place / "direct-server")
        direct = see(tools, [*arguments, server.url], place / "direct")
        server.stop()
        server = start(tools, place / "through-server")
        manifest = {"type": "mcp-server/remote", "name": f"{name}-{revision}", "description": title, "url": server.url}
        proxied = hawser.call(200, "PUT", MCP, {"manifest": manifest}).json["data"]["proxyUrl"]
        env, node = {"HAWSER_URL": hawser.url, "HAWSER_TOKEN": hawser.admin}, ["--import", HERE / "credential.mjs"]
        through = see(tools, [*arguments, proxied], place / "through", env, node)
        server.stop()
        seen[title] = direct, through
    return seen


def differences(seen):
    """Where the suite has seen a difference that is none for the better."""
    for title, (direct, through) in seen.items():
        for scenario in sorted(direct.keys() | through.keys()):
            one, other = direct.get(scenario), through.get(scenario)
            if one == other or (scenario in MAY_IMPROVE and one and other and not other.failed):
                continue
            yield f"{title}, {scenario}: {shown(one)} directly, {shown(other)} through Hawser"
            if one and other:
                yield from (f"  - {check}" for check in one.checks if check not in other.checks)
                yield from (f"  + {check}" for check in other.checks if check not in one.checks)


def shown(seen):
    """So many checks have passed, of so many that could be decided."""
    return f"{seen.passed} of {seen.passed + seen.failed}" if seen else suite.NOT_THERE


def total(run):
    return Seen(sum(one.passed for one in run.values()), sum(one.failed for one in run.values()), [])


def table(seen):
    """The lines of the table."""

    def cell(one, other):
        return shown(one) if shown(one) == shown(other) else f"{shown(one)}, **{shown(other)}**"

    scenarios = sorted({scenario for runs in seen.values() for run in runs for scenario in run})
    rows = []
    for scenario in scenarios:
        cells = [cell(direct.get(scenario), through.get(scenario)) for direct, through in seen.values()]
        rows.append((scenario, *cells, MAY_IMPROVE.get(scenario, "")))
    rows.append(("All", *(cell(total(direct), total(through)) for direct, through in seen.values()), ""))
    return suite.table(("Scenario", *seen, "May be better through Hawser, because"), rows)
