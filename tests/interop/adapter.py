"""The client that the official conformance suite runs: an MCP client whose connections are Hawser's.

    HAWSER_URL=... HAWSER_TOKEN=... python3 tests/interop/adapter.py SERVER_URL

The suite says in its environment variables which scenario this is and which era to speak. The server is registered in
Hawser; its tools are listed and called through Hawser's proxy, and whenever that asks for a consent, one is given. How
often that is repeated is left to Hawser: the limit here is higher than any that it should have.
"""

import base64
import contextlib
import json
import os
import re
import secrets
import sys

sys.dont_write_bytecode = True

from contracts import ADMIN, MCP
from parts import Browser, send

# The first revision without sessions.
MODERN = "2026-07-28"
CLIENT = {"name": "hawser-conformance", "version": "0"}
UNSUPPORTED_VERSION = -32022
MOST_CONSENTS = 6
# In seconds, without a byte: one of the suite's servers waits for what no broker answers.
PATIENCE = 10

HAWSER, TOKEN = os.environ["HAWSER_URL"], os.environ["HAWSER_TOKEN"]
SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"]
ERA = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))


class Wanted(Exception):
    """Hawser wants a consent first."""


class Refused(Exception):
    """The call has failed, and nothing that a client could do would help."""


class Said(Exception):
    """The server has answered, with an error."""


def api(method, path, body=None):
    answer = send(method, HAWSER + path, body, {"Authorization": f"Bearer {TOKEN}"})
    if answer.status != 200:
        raise Refused(f"{method} {path}: {answer}")
    return answer.json


def register(url):
    """The id of a new server in Hawser."""
    manifest = {
        "type": "mcp-server/remote", "name": f"conformance-{secrets.token_hex(8)}", "description": SCENARIO, "url": url,
    }
    if SCENARIO.startswith("auth/"):
        client = {name: CONTEXT[name] for name in ("client_id", "client_secret") if name in CONTEXT}
        manifest["auth_data"] = {"type": "oauth2", **client}
    return api("PUT", MCP, {"manifest": manifest})["data"]["id"]


def consent(server, url):
    page = Browser({}).open(url)
    status = api("GET", f"{MCP}/{server}/auth/status?subjectId={ADMIN['subjectId']}&subjectType={ADMIN['subjectType']}")
    if status["status"] != "authenticated":
        raise Refused(f"the consent ended with {page.status}, and then: {status}")


class Client:
    """An MCP client of one era, on its way through the proxy."""

    def __init__(self, server):
        self.url, self.session, self.version, self.number = f"{HAWSER}/mcp/{server}", None, ERA, 0
        if ERA < MODERN:
            hello = {"protocolVersion": ERA, "capabilities": {}, "clientInfo": CLIENT}
            self.version = None
            self.version = self.request("initialize", hello)["protocolVersion"]
            self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def headers(self):
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
        if self.version:
            headers["MCP-Protocol-Version"] = self.version
        if self.session:
            headers["Mcp-Session-Id"] = self.session
        return headers

    def post(self, message, more=None):
        answer = send("POST", self.url, message, self.headers() | (more or {}), timeout=PATIENCE)
        self.session = answer.headers.get("Mcp-Session-Id") or self.session
        return answer

    def request(self, method, params, headers=None):
        self.number += 1
        headers, message = dict(headers or {}), {"jsonrpc": "2.0", "id": self.number, "method": method}
        message["params"] = params
        if ERA >= MODERN:
            headers["Mcp-Method"] = method
            meta = {
                "io.modelcontextprotocol/protocolVersion": self.version,
                "io.modelcontextprotocol/clientInfo": CLIENT, "io.modelcontextprotocol/clientCapabilities": {},
            }
            message["params"] = {**params, "_meta": meta}
        answer = self.post(message, headers)
        said = next((one for one in messages(answer) if one.get("id") == self.number), {})
        if "result" in said:
            texts = [one.get("text", "") for one in said["result"].get("content", [])]
            words = " ".join(texts).split() if said["result"].get("isError") else []
            if page := next((word for word in words if "/oauth/start?session=" in word), None):
                raise Wanted(page)
            return said["result"]
        error = said.get("error") or {}
        data = error.get("data") if isinstance(error.get("data"), dict) else {}
        if "consentUrl" in data:
            raise Wanted(data["consentUrl"])
        if error.get("code") == UNSUPPORTED_VERSION and ERA in data.get("supported", []) and self.number == 1:
            return self.request(method, params)
        raise (Said if error and answer.status == 200 else Refused)(f"{method}: {answer}")

    def call(self, tool, arguments):
        headers = {"Mcp-Name": tool["name"], **mirrored(tool, arguments)} if ERA >= MODERN else {}
        with contextlib.suppress(Said):
            self.request("tools/call", {"name": tool["name"], "arguments": arguments}, headers)

    def leave(self):
        if self.session:
            send("DELETE", self.url, headers=self.headers(), timeout=PATIENCE)


def messages(answer):
    """The JSON-RPC messages in an answer of either kind."""
    if "text/event-stream" not in answer.headers.get("Content-Type", ""):
        return [answer.json] if isinstance(answer.json, dict) else []
    events = [line.removeprefix("data:").strip() for line in answer.body.splitlines() if line.startswith("data:")]
    return [json.loads(event) for event in events if event]


# ---- Tools


def properties(tool):
    return (tool.get("inputSchema") or {}).get("properties") or {}


def named(tool):
    """The headers that a tool's parameters are mirrored in, by parameter."""
    return {name: schema["x-mcp-header"] for name, schema in properties(tool).items() if "x-mcp-header" in schema}


def usable(tool):
    """A tool that names headers as they must not be is left out."""
    headers = named(tool)
    primitive = all(properties(tool)[name].get("type") in ("string", "integer", "boolean") for name in headers)
    words = all(isinstance(word, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", word) for word in headers.values())
    return primitive and words and len({word.lower() for word in headers.values()}) == len(headers)


def mirrored(tool, arguments):
    given = {word: arguments[name] for name, word in named(tool).items() if arguments.get(name) is not None}
    return {f"Mcp-Param-{word}": header_value(value) for word, value in given.items()}


def header_value(value):
    text = value if isinstance(value, str) else json.dumps(value)
    if re.fullmatch(r"([!-~]([ -~]*[!-~])?)?", text) and not re.fullmatch(r"=\?base64\?.*\?=", text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def made_up(tool):
    """Arguments that fit a tool's schema."""
    examples = {"string": "text", "number": 2, "integer": 2, "boolean": True, "array": [], "object": {}, "null": None}
    wanted = (tool.get("inputSchema") or {}).get("required") or []
    return {name: examples.get(properties(tool).get(name, {}).get("type"), "text") for name in wanted}


# ---- The scenario


def visit(server):
    client = Client(server)
    tools = [tool for tool in client.request("tools/list", {})["tools"] if usable(tool)]
    known = {call["name"]: call["arguments"] for call in CONTEXT.get("toolCalls", [])}
    if SCENARIO == "json-schema-2020-12-preservation":
        # It wants to see what has arrived here.
        known["json_schema_echo"] = {"schema": tools[0]["inputSchema"]}
    for tool in tools:
        client.call(tool, known.get(tool["name"]) or made_up(tool))
    client.leave()


def main():
    server = register(sys.argv[1])
    for _ in range(MOST_CONSENTS):
        try:
            return visit(server)
        except Wanted as wanted:
            print("a consent is wanted")
            consent(server, str(wanted))
    sys.exit("there is no end to consents")


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        sys.exit(f"refused: {refused}")
    except TimeoutError:
        sys.exit("no answer")
