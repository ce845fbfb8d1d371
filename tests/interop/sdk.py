"""An MCP server whose authorization server is the MCP Python SDK's own, as fastmcp puts them into one process.

    SEEN=FILE [CLIENT=JSON] python sdk.py PORT

The endpoint is /mcp. CLIENT is the registration of a client that the operator knows. Everybody agrees to
everything. Under /__log, /__tokens, /__clients and /token/introspection is what a test may see, as at the other issuer.
"""

import json
import os
import sys
from urllib.parse import parse_qsl

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth.auth import ClientRegistrationOptions, RevocationOptions
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from fastmcp.server.dependencies import get_access_token
from mcp.shared.auth import OAuthClientInformationFull
from seen import Seen
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

PORT = int(sys.argv[1])
SCOPES = ["mcp:tools", "mcp:read"]


class Provider(InMemoryOAuthProvider):
    """Remembers which tokens it gave out."""

    issued = []

    async def exchange_authorization_code(self, client, authorization_code):
        return self.note(client, await super().exchange_authorization_code(client, authorization_code))

    async def exchange_refresh_token(self, client, refresh_token, scopes):
        return self.note(client, await super().exchange_refresh_token(client, refresh_token, scopes))

    def note(self, client, tokens):
        one = {"clientId": client.client_id, "accessToken": tokens.access_token, "refreshToken": tokens.refresh_token}
        self.issued.append(one)
        return tokens


auth = Provider(
    base_url=f"http://127.0.0.1:{PORT}",
    client_registration_options=ClientRegistrationOptions(enabled=True, valid_scopes=SCOPES, default_scopes=SCOPES),
    revocation_options=RevocationOptions(enabled=True),
    required_scopes=SCOPES[:1],
)
if os.environ.get("CLIENT"):
    known = OAuthClientInformationFull(**json.loads(os.environ["CLIENT"]))
    auth.clients[known.client_id] = known
server = FastMCP("sdk", auth=auth)


@server.tool
def whoami() -> dict:
    """Whose token reached this server."""
    token = get_access_token()
    return {"client": token.client_id, "scopes": token.scopes}


@server.tool
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


class Log:
    """The requests to the authorization server, in the order in which they were answered."""

    entries = []

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] in ("/mcp", "/token/introspection") or "/__" in scope["path"]:
            return await self.app(scope, receive, send)
        body, answer = b"", b""

        async def reading():
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        async def writing(message):
            nonlocal answer
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            answer += message.get("body", b"")
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        entry = {"method": scope["method"], "path": scope["path"], "authorization": headers.get("authorization")}
        entry["query"] = dict(parse_qsl(scope["query_string"].decode()))
        self.entries.append(entry)
        await self.app(scope, reading, writing)
        entry["body"], entry["answer"] = parsed(body), parsed(answer)


def parsed(body):
    text = body.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return dict(parse_qsl(text))


@server.custom_route("/__log", methods=["GET"])
async def log(_: Request) -> Response:
    return JSONResponse(Log.entries)


@server.custom_route("/__tokens", methods=["GET"])
async def tokens(_: Request) -> Response:
    return JSONResponse(auth.issued)


@server.custom_route("/__clients", methods=["GET"])
async def clients(_: Request) -> Response:
    return JSONResponse(list(auth.clients))


@server.custom_route("/__end", methods=["POST"])
async def end(request: Request) -> Response:
    """Ends an access token alone; its refresh token stays."""
    auth.access_tokens.pop((await request.json())["token"], None)
    return Response(status_code=204)


@server.custom_route("/token/introspection", methods=["POST"])
async def introspection(request: Request) -> Response:
    token = (await request.form())["token"]
    return JSONResponse({"active": token in auth.access_tokens or token in auth.refresh_tokens})


uvicorn.run(Seen(Log(server.http_app(path="/mcp"))), host="127.0.0.1", port=PORT, log_level="warning")
