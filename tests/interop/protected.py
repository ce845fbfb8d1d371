"""An MCP server that takes only tokens of one issuer, checked there by introspection. Both eras of the protocol.

    SEEN=FILE python protected.py PORT ISSUER [--scope SCOPE] [--insufficient-scope] [--named]

The endpoint is /mcp. A token without the scope (mcp:tools) is refused with 401, or with 403 `insufficient_scope`; both
challenges name it only if they are told to. What has arrived is in SEEN (see seen.py).
"""

import argparse

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.dependencies import get_access_token, get_http_headers
from seen import Seen

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("issuer")
parser.add_argument("--scope", default="mcp:tools")
parser.add_argument("--insufficient-scope", action="store_true")
parser.add_argument("--named", action="store_true")
options = parser.parse_args()
scopes = [options.scope]
origin = f"http://127.0.0.1:{options.port}"

auth = RemoteAuthProvider(
    token_verifier=IntrospectionTokenVerifier(
        introspection_url=f"{options.issuer}/token/introspection",
        client_id="rs",
        client_secret="rs-secret",
        audience=f"{origin}/mcp",
        # A scope that the verifier wants makes the whole token invalid; one that only the provider wants is a 403.
        required_scopes=None if options.insufficient_scope else scopes,
    ),
    authorization_servers=[options.issuer],
    base_url=origin,
    scopes_supported=[*scopes, "mcp:read"],
    challenge_scopes=scopes if options.named else None,
)
auth.required_scopes = scopes
server = FastMCP("protected", auth=auth)


@server.tool
def whoami() -> dict:
    """Whose token reached this server."""
    token = get_access_token()
    return {"client": token.client_id, "scopes": token.scopes} | {k: token.claims.get(k) for k in ("sub", "aud", "iss")}


@server.tool
def headers() -> dict:
    """Every header that reached this server."""
    return dict(get_http_headers(include_all=True))


@server.tool
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


uvicorn.run(Seen(server.http_app(path="/mcp")), host="127.0.0.1", port=options.port, log_level="warning")
