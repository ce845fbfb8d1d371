"""The client scenarios of the official conformance suite, run against Hawser by `adapter.py`."""

import re
import sys

import suite
from parts import HERE

BASELINE = HERE / "baseline.yml"


def run(tools, hawser, revision, out):
    """Runs what a revision requires; whether its exit status is good, and the verdict on each scenario."""
    arguments = ["--command", f"{sys.executable} {HERE / 'adapter.py'}", "--requirements", revision]
    arguments += ["--expected-failures", BASELINE]
    env = {"HAWSER_URL": hawser.url, "HAWSER_TOKEN": hawser.admin}
    status, printed = suite.run(tools, "client", arguments, out, env)
    # What fails and is not in the baseline, or is and passes.
    for line in re.findall(r"^  ([✗✓] \S+)$", printed, re.MULTILINE):
        print(f"  {line} is not as {BASELINE.name} says")
    return status == 0, {name: verdict(name, *rest) for name, *rest in suite.results(out)}


def verdict(scenario, folder, checks):
    """What the suite says of a scenario."""
    bad = {check["id"] for check in checks if check["status"] in ("FAILURE", "WARNING")}
    if scenario in reasons():
        return "fails" if bad else "passes"
    if bad or not any(check["status"] == "SUCCESS" for check in checks):
        return f"**fails**: {', '.join(sorted(bad))}"
    return "passes" + ended((folder / "stderr.txt").read_text())


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
    """The lines of the table, from the verdicts of each revision."""
    why = reasons()
    scenarios = sorted({scenario for one in verdicts.values() for scenario in one})
    rows = []
    for scenario in scenarios:
        told = (one.get(scenario, suite.NOT_THERE) for one in verdicts.values())
        rows.append((scenario, *told, why.get(scenario, "")))
    return suite.table(("Scenario", *verdicts, "Expected to fail, because"), rows)
