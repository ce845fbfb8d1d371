"""The official MCP conformance suite against Hawser: its client scenarios (broker.py), its authorization server
scenarios (authorization.py), and its server scenarios directly and through Hawser (transparency.py).

    python3 tests/interop/conformance.py --tools target/interop [--hawser target/debug/hawser] [--write]

`.ci/conformance` installs the suite. What it says is compared with the tables in docs/CONFORMANCE.md; any difference fails.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

# The checkout stays clean.
sys.dont_write_bytecode = True

import authorization
import broker
import suite
import transparency
from parts import ROOT, Hawser, Process

DOCUMENT = ROOT / "docs" / "CONFORMANCE.md"
# The suite's own: no other client id metadata document is what it looks for. It is never fetched.
METADATA_URL = "https://conformance-test.local/client-metadata.json"


def compare(new):
    """Whether the committed tables say the same; prints what differs."""
    old = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    new = [line for table in new for line in table]
    for line in old:
        if line not in new:
            print(f"- {line}")
    for line in new:
        if line not in old:
            print(f"+ {line}")
    return old == new


def write(new):
    """Puts each table in the place of the one that is there."""
    text, new, inside = [], iter(new), False
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("|"):
            text += [] if inside else next(new)
        else:
            text.append(line)
        inside = line.startswith("|")
    DOCUMENT.write_text("\n".join(text) + "\n")


def run(tools, command, folder):
    """Whether all was as it has to be, and the tables."""
    good, verdicts = True, {}
    for revision in suite.REVISIONS:
        place = folder / revision
        place.mkdir()
        hawser = Hawser(command, place / "data", place / "hawser.log", ["--client-metadata-url", METADATA_URL])
        as_expected, verdicts[revision] = broker.run(tools, hawser, revision, place / "suite")
        good = good and as_expected
    hawser = Hawser(command, folder / "signing-in-data", folder / "signing-in.log", sign_in=True)
    signed_in = authorization.run(tools, hawser, folder / "authorization")
    good = good and authorization.is_good(signed_in)
    hawser = Hawser(command, folder / "through-data", folder / "through.log")
    seen = transparency.run(tools, hawser, folder)
    for difference in transparency.differences(seen):
        print(difference)
        good = False
    return good, [broker.table(verdicts), authorization.table(signed_in), transparency.table(seen)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True, help="where .ci/conformance installed")
    parser.add_argument("--hawser", type=Path, help="the program (default: cargo run)")
    parser.add_argument("--write", action="store_true", help="write the tables instead of comparing them")
    parser.add_argument("--keep", type=Path, help="an empty folder for the logs and Hawser's data (default: not kept)")
    options = parser.parse_args()
    command = [str(options.hawser.resolve())] if options.hawser else ["cargo", "run", "--quiet", "--locked", "--"]
    with tempfile.TemporaryDirectory(prefix="conformance-") as passing:
        folder = (options.keep or Path(passing)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
        try:
            good, tables = run(options.tools.resolve(), command, folder)
        finally:
            for process in reversed(Process.started):
                process.stop()
    if options.write:
        write(tables)
    else:
        good = compare(tables) and good
    print("as expected" if good else "not as expected")
    sys.exit(not good)


if __name__ == "__main__":
    main()
