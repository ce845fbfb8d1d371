"""Fails if a file of the shared crate or of the functions imports against the direction of the layers, or if files import
one another in a circle.

A file may import files of its own layer and of the layers above it in this list:
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# From the bottom up. A name stands for the file or the folder of that name in shared/src.
LAYERS = [
    ["domain"],
    ["mcp", "sse", "logs", "egress", "seal", "catalogue", "secret_store", "trust_anchors"],
    ["oauth", "table"],
    ["auth"],
    ["state"],
    ["operations"],
]
# The crate's front page names all of them.
FRONT = "lib"


def expanded(tree):
    """The paths of a use tree: `a::{b, c::{d}}` is `a::b` and `a::c::d`."""
    head, brace, rest = tree.partition("{")
    if not brace:
        return [tree.strip().split(" as ")[0]]
    depth, part, parts = 0, "", []
    for letter in rest[: rest.rindex("}")]:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [head.strip() + path for one in [*parts, part] if one.strip() for path in expanded(one)]


def product(text):
    """The code of a file without comments and without its unit tests."""
    text = re.split(r"^#\[cfg\(test\)\]\n(?:#\[.*\n)*mod \w+ \{", text, flags=re.MULTILINE)[0]
    return re.sub(r"//.*", "", text)


def modules(folder):
    found = {}
    for path in sorted(folder.rglob("*.rs")):
        name = path.relative_to(folder).with_suffix("").parts
        found["::".join(name[:-1] if name[-1] == "mod" else name)] = path
    return found


def imports(files):
    """For each module the modules that it names, by `use` or by a path in the text."""

    def module(path):
        while path and "::".join(path) not in files:
            path = path[:-1]
        return "::".join(path) or None

    edges = {}
    for name, file in files.items():
        text = product(file.read_text())
        paths = re.findall(r"^\s*(?:pub(?:\([^)]*\))? )?use ([^;]+);", text, flags=re.MULTILINE)
        paths = [path for tree in paths for path in expanded(re.sub(r"\s+", " ", tree))]
        paths += re.findall(r"\b(?:crate|super)(?:::\w+)+", text)
        edges[name] = set()
        for path in paths:
            parts = path.split("::")
            if parts[0] == "crate":
                target = module(parts[1:])
            elif parts[0] in ("self", "super"):
                ups = sum(1 for part in parts if part == "super")
                own = name.split("::")
                target = module(own[: len(own) - ups] + parts[max(ups, 1) :])
            else:
                continue
            if target and target != name:
                edges[name].add(target)
    return edges


def circles(edges):
    """The sets of modules that import one another, by Tarjan's algorithm."""
    found, index, low, stack = [], {}, {}, []

    def visit(one):
        index[one] = low[one] = len(index)
        stack.append(one)
        for other in sorted(edges.get(one, ())):
            if other not in index:
                visit(other)
                low[one] = min(low[one], low[other])
            elif other in stack:
                low[one] = min(low[one], index[other])
        if low[one] == index[one]:
            circle = stack[stack.index(one) :]
            del stack[stack.index(one) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for one in sorted(edges):
        if one not in index:
            visit(one)
    return found


def main():
    sys.setrecursionlimit(10_000)
    faults = []
    shared = imports(modules(ROOT / "shared/src"))
    floor = {name: at for at, names in enumerate(LAYERS) for name in names}
    for name, targets in shared.items():
        layer = name.split("::")[0]
        if layer == FRONT:
            continue
        if layer not in floor:
            faults.append(f"{layer} is in no layer of tests/layers.py")
            continue
        for target in sorted(targets):
            over = target.split("::")[0]
            if over != FRONT and floor.get(over, -1) > floor[layer]:
                faults.append(f"{name} imports {target}, which is in a layer above")
    functions = modules(ROOT / "functions")
    for name, file in functions.items():
        if re.search(r"\bhawser_core::table\b", product(file.read_text())):
            faults.append(f"functions: {name} imports the table")
    for crate, edges in [("shared", shared), ("functions", imports(functions))]:
        faults += [f"{crate}: a circle of imports: {', '.join(circle)}" for circle in circles(edges)]
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


__doc__ += "".join(f"\n    {', '.join(names)}" for names in LAYERS)
if "--help" in sys.argv:
    print(__doc__)
else:
    main()
