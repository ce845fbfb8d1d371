"""The command line `tfy` and the SDK of TrueFoundry, both unmodified: they apply, show and delete an MCP server."""

import json
import os
import subprocess

from contracts import MCP
from parts import HERE, ROOT, send

APPLY = "/api/svc/v1/apply"


def manifest(name, url, description="Interoperability test"):
    auth = {"type": "header", "auth_level": "per_user", "headers": {"Authorization": "Bearer {{API_KEY}}"}}
    return {"type": "mcp-server/remote", "name": name, "description": description, "url": url, "auth_data": auth}


def run(world, *command, expected=0):
    """A program of TrueFoundry's own environment, as its user runs it. Returns what it says."""
    home = world.folder / "tfy-home"
    home.mkdir(exist_ok=True)
    env = {
        "PATH": os.environ["PATH"], "HOME": str(home), "TFY_HOST": world.hawser.real, "TFY_API_KEY": world.hawser.admin,
        "NO_PROXY": "*", "COLUMNS": "300",
    }
    words = [str(world.tools / "tfy" / "bin" / command[0]), *map(str, command[1:])]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180)
    said = done.stdout + done.stderr
    assert done.returncode == expected, f"{command}: {done.returncode}: {said[-2000:]}"
    return said


def written(world, manifest):
    # JSON is YAML.
    file = world.folder / f"{manifest['name']}.yaml"
    file.write_text(json.dumps(manifest))
    return file


def registered(world, name):
    return world.hawser.call(200, "GET", f"{MCP}?name={name}").json["data"]


def tfy_applies_and_deletes(world):
    """What is asked before needs no credentials; the order of manifests it finds out by itself."""
    for path in ("/api/svc/v1/min-cli-version", "/api/svc/v1/tenant-id?hostName=127.0.0.1"):
        assert send("GET", world.hawser.real + path).status == 200
    first = manifest("tfy-applied", world.plain.url)
    file = written(world, first)
    assert "Successfully configured manifest tfy-applied" in run(world, "tfy", "apply", "-f", file, "--dry-run")
    assert registered(world, "tfy-applied") == []
    assert "Successfully configured manifest tfy-applied" in run(world, "tfy", "apply", "-f", file)
    (made,) = registered(world, "tfy-applied")
    second = manifest("tfy-applied", world.plain.url, "Another description")
    file = written(world, second)
    shown = run(world, "tfy", "apply", "-f", file, "--dry-run", "--show-diff")
    assert "Another description" in shown and "Interoperability test" in shown, shown
    assert registered(world, "tfy-applied") == [made]
    run(world, "tfy", "apply", "-f", file)
    (changed,) = registered(world, "tfy-applied")
    assert (changed["id"], changed["manifest"]["description"]) == (made["id"], "Another description")
    assert "Successfully deleted resource manifest tfy-applied" in run(world, "tfy", "delete", "-f", file)
    assert registered(world, "tfy-applied") == []
    assert "There is no such MCP server." in run(world, "tfy", "delete", "-f", file, expected=1)


def tfy_is_told_why_a_reference_is_refused(world):
    """No mapping is set here. The command line shows the message alone."""
    refused = manifest("tfy-secret", world.plain.url)
    refused["auth_data"] = {"type": "header", "headers": {"Authorization": "Bearer tfy-secret://local:group:KEY"}}
    said = run(world, "tfy", "apply", "-f", written(world, refused), expected=1)
    assert "the operator has not set where secrets are" in " ".join(said.split()), said


def truefoundry_sdk_applies_and_deletes(world):
    said = run(world, "python", "-B", HERE / "tfy_sdk.py", world.plain.url)
    made, guarded, forced, deleted = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert made == {"action": "CREATE", "existing": None, "type": "McpServer", "name": "sdk-applied"}, made
    assert guarded == {"action": "UPDATE", "existing": "sdk-applied"}, guarded
    assert forced == {"action": "UPDATE"}, forced
    assert deleted == {"again": 404}, deleted
