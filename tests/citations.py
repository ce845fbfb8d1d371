"""Fails if a comment cites a rule that docs/contracts does not have.

A citation in a Rust comment names a contract and one or more of its numbers:

    (Kambrium 10)    (TrueFoundry 3.8)    (LangSmith 1.2, 2.6 to 2.9)    (MCP authorization rows 7 and 8)

A page of docs/contracts has a number where a heading ("## 3. Create") or a list item ("- **3.2** A timeout ...") begins with
it, and a row where a line of a table does ("| 7 | ..."). A number without a contract's name, such
as "(3.8)" or "row 7", is refused too: a reader could not tell what it cites.

`--list` prints every citation instead.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "Inbound": "inbound.md",
    "Kambrium": "kambrium.md",
    "LangSmith": "langsmith.md",
    "MCP authorization": "mcp-authorization.md",
    "TrueFoundry": "truefoundry.md",
}
NUMBER = r"\d+(?:\.\d+)?"
NUMBERS = rf"{NUMBER}(?:(?:, | and | to ){NUMBER})*"
CITATION = re.compile(rf"\b({'|'.join(PAGES)}) (rows? )?({NUMBERS})\b")
# What other standards number is theirs.
OTHERS = re.compile(rf"\b(?:RFC \d+|OpenID Connect Discovery 1\.0),? section {NUMBER}")
NAMELESS = re.compile(rf"\((?:sections? |rows? )?{NUMBERS}[);:]|\b(?:rows?|sections?|checklist) \d+", re.IGNORECASE)


def rules(page):
    """The numbers that a page has; rows of its table as "row 7"."""
    found = set()
    for line in page.read_text().splitlines():
        if heading := re.match(rf"#+ ({NUMBER})\.? ", line):
            found.add(heading[1])
        elif point := re.match(rf"- \*\*({NUMBER})\*\* ", line):
            found.add(point[1])
        elif row := re.match(r"\| (\d+) \|", line):
            found.add(f"row {row[1]}")
    return found


def comments(file):
    """Each comment of a file as one line of text, with the number of the line that it begins at."""
    text, begun = "", 0
    for number, line in enumerate(file.read_text().splitlines(), 1):
        whole = re.match(r"\s*//[/!]?(.*)", line)
        after_code = re.search(r"\s// (.*)", line)
        if whole:
            text, begun = f"{text} {whole[1].strip()}".strip(), begun or number
            continue
        if text:
            yield begun, text
        text, begun = "", 0
        if after_code:
            yield number, after_code[1]
    if text:
        yield begun, text


def spelt_out(prefix, numbers):
    """The single rules of "1.2, 2.6 to 2.9"."""
    parts = re.split(r"(, | and | to )", numbers)
    for place, part in enumerate(parts[::2]):
        if place and parts[2 * place - 1] == " to ":
            *above, first = map(int, parts[2 * place - 2].split("."))
            last = int(part.split(".")[-1])
            for between in range(first + 1, last):
                yield prefix + ".".join(map(str, [*above, between]))
        yield prefix + part


def main():
    pages = {name: rules(ROOT / "docs/contracts" / page) for name, page in PAGES.items()}
    tracked = subprocess.run(["git", "ls-files", "*.rs"], cwd=ROOT, capture_output=True, text=True, check=True)
    faults, cited = [], set()
    for file in tracked.stdout.split():
        for line, text in comments(ROOT / file):
            for contract, row, numbers in CITATION.findall(text):
                for rule in spelt_out("row " if row else "", numbers):
                    cited.add((contract, rule))
                    if rule not in pages[contract]:
                        faults.append(f"{file}:{line}: docs/contracts/{PAGES[contract]} has no {rule}")
            rest = OTHERS.sub("", CITATION.sub("", text))
            for nameless in NAMELESS.findall(rest):
                faults.append(f"{file}:{line}: {nameless!r} does not say which contract it cites")
    if "--list" in sys.argv:
        print(*sorted(f"{contract} {rule}" for contract, rule in cited), sep="\n")
        return
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(cited)} rules are cited, and docs/contracts has them all")


if __name__ == "__main__":
    main()
