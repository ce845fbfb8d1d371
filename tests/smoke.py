"""Drives every endpoint once through a front door: the real Lambda binaries under `cargo lambda watch`, a deployed
stack, or the local server. Standard library only.

    python3 tests/smoke.py BASE_URL TOKEN

TOKEN is one of a tenant admin with all LangSmith permissions and Kambrium scopes, such as the local server's adminToken.
"""

import json
import sys
import urllib.error
import urllib.request
import uuid

BASE, TOKEN = sys.argv[1].rstrip("/"), sys.argv[2]
MCP, LANGSMITH, KAMBRIUM = "/api/svc/v1/mcp", "/v1/deepagents/mcp-servers", "/api/v1/mcp-servers"
NAME = "smoke-" + uuid.uuid4().hex[:12]
calls = 0


def call(expected, method, path, body=None, token=TOKEN):
    """Sends one request, insists on the status, returns the body."""
    global calls
    calls += 1
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(BASE + path, data=data, method=method, headers=headers)
    try:
        # The first request to a function under `cargo lambda watch` builds it.
        with urllib.request.urlopen(request, timeout=600) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as answer:
        status, text = answer.code, answer.read()
    if status != expected:
        sys.exit(f"{method} {path}: {status} instead of {expected}: {text[:500]!r}")
    return json.loads(text) if text else None


manifest = {
    "type": "mcp-server/remote", "name": NAME, "description": "Smoke test", "url": "https://smoke.example/mcp",
    "auth_data": {"type": "header", "headers": {"Authorization": "Bearer {{KEY}}"}, "auth_level": "per_user"},
}
ada = {"subjectId": "ada", "subjectType": "user"}
asked = "subjectId=ada&subjectType=user"

# TrueFoundry
call(401, "GET", MCP, token="nonsense")
mcp = call(200, "PUT", MCP, {"manifest": manifest})["data"]["id"]
assert [s["id"] for s in call(200, "GET", f"{MCP}?name={NAME}")["data"]] == [mcp]
call(200, "GET", f"{MCP}/{mcp}")
call(200, "PUT", f"{MCP}/{mcp}/auth", {**ada, "authOverride": {"type": "header", "headerValue": "v"}})
assert call(200, "GET", f"{MCP}/{mcp}/auth")["pagination"]["total"] == 1
assert call(200, "GET", f"{MCP}/{mcp}/auth/status?{asked}")["status"] == "authenticated"
call(200, "DELETE", f"{MCP}/{mcp}/auth", {**ada, "authSource": "auth-override"})
assert call(200, "GET", f"{MCP}/{mcp}/auth/state?{asked}")["reason"] == "revoked"
call(404, "DELETE", f"{MCP}/{mcp}/auth", {**ada, "authSource": "auth-override"})
call(200, "DELETE", f"{MCP}/{mcp}")
call(404, "GET", f"{MCP}/{mcp}")

# LangSmith
header = {"key": "X-Key", "value": "v"}
made = call(201, "POST", LANGSMITH, {"name": NAME, "url": "https://smoke.example/mcp", "headers": [header]})
assert made["id"] in [s["id"] for s in call(200, "GET", LANGSMITH)]
assert call(200, "GET", f"{LANGSMITH}/{made['id']}")["headers"] == [header]
assert call(200, "PATCH", f"{LANGSMITH}/{made['id']}", {"headers": []})["headers"] == []
call(204, "DELETE", f"{LANGSMITH}/{made['id']}")
call(204, "DELETE", f"{LANGSMITH}/{made['id']}")
call(404, "GET", f"{LANGSMITH}/{made['id']}")

# Kambrium
integrations = call(200, "GET", f"{KAMBRIUM}/available")["data"]
if integrations:
    new = {"mcp_server": integrations[0]["name"], "access_type": "read", "api_key": "k"}
    number = call(201, "POST", KAMBRIUM, new)["data"]["id"]
    assert number in [c["id"] for c in call(200, "GET", KAMBRIUM)["data"]]
    call(200, "GET", f"{KAMBRIUM}/{number}")
    assert call(200, "PUT", f"{KAMBRIUM}/{number}", {"agent_enabled": False})["data"]["agent_enabled"] is False
    call(200, "DELETE", f"{KAMBRIUM}/{number}")
    call(404, "DELETE", f"{KAMBRIUM}/{number}")

# Hawser's own, and everything else
receipts = call(200, "GET", f"/v1/receipts?serverId={mcp}")["data"]
assert {r["kind"] for r in receipts} == {"disconnect", "delete-server"}
assert call(200, "GET", f"/v1/receipts/{receipts[0]['id']}")["data"] == receipts[0]
ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
assert call(200, "POST", f"/mcp/{mcp}", ping)["error"]["code"] == -32001
call(404, "GET", "/api/svc/v1/nothing")
print(f"smoke: {calls} calls answered as they should")
