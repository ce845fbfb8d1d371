"""`managed-deepagents` 0.9.5, unmodified: an agent's client registers, connects, calls, disconnects and deletes."""

import json
import os
import subprocess

from parts import HERE, ROOT, Since
from steps import assert_ended, assert_revoked

TOOLS, SERVERS = "/v1/managed-tools/servers", "/v1/deepagents/mcp-servers"


def client(world, command, id, identity="admin", workspace=""):
    """The package, as the runtime of an agent uses it (managed_agents_client.py)."""
    env = {
        "PATH": os.environ["PATH"], "HOME": str(world.folder), "LANGSMITH_API_KEY": world.hawser.api_key,
        "LANGSMITH_ENDPOINT": world.hawser.real, "IDENTITY": identity, "WORKSPACE": workspace,
    }
    program = [world.tools / "managed-deepagents" / "bin" / "python", "-B", HERE / "managed_agents_client.py"]
    words = [str(word) for word in [*program, command, id]]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, f"{command}: {(done.stdout + done.stderr)[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def register(world, name, url, kind):
    body = {"name": name, "upstream_url": url, "connection": {"type": kind}}
    return world.hawser.call(201, "POST", TOOLS, body).json["id"]


def listed(hawser):
    """All servers: other scenarios have left more than one page of them."""
    page = hawser.call(200, "GET", TOOLS).json
    yield from page["items"]
    while page["next_cursor"]:
        page = hawser.call(200, "GET", f"{TOOLS}?cursor={page['next_cursor']}").json
        yield from page["items"]


def managed_agent_uses_a_server(world):
    site, hawser = world.site("dynamic"), world.hawser
    since = Since(site.issuer)
    id = register(world, "managed-agent", site.resource, "oauth")
    (pending,) = client(world, "pending", id)
    assert (pending["slug"], pending["kind"]) == ("managed-agent", "oauth2"), pending
    page = hawser.browser().open(pending["connect_url"])
    assert page.status == 200, page
    assert client(world, "pending", id) == []
    called = client(world, "call", id)
    assert "whoami" in called["tools"], called
    (item,) = [one for one in listed(hawser) if one["id"] == id]
    assert item["connected"] is True, item
    gone = hawser.call(204, "DELETE", f"{TOOLS}/{id}/credential")
    assert_revoked(hawser, gone.headers["Hawser-Receipt"])
    assert_ended(site, since.every_token())
    assert len(client(world, "pending", id)) == 1
    hawser.call(204, "DELETE", f"{TOOLS}/{id}")
    hawser.call(404, "GET", f"{TOOLS}/{id}")


def managed_agent_starts_a_consent_by_slug(world):
    site, hawser = world.site("dynamic"), world.hawser
    id = register(world, "managed-slug", site.resource, "oauth")
    workspace = hawser.call(200, "GET", f"{SERVERS}/{id}").json["tenant_id"]
    begun = client(world, "authorize", "managed-slug", workspace=workspace)
    assert begun["slug"] == "managed-slug" and begun["auth_id"], begun
    assert hawser.browser().open(begun["connect_url"]).status == 200
    assert client(world, "pending", id) == []
    hawser.call(204, "DELETE", f"{TOOLS}/{id}")
