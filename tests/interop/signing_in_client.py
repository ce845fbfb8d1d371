"""A client of the Python SDK that was given the address of a server and nothing else.

    python signing_in_client.py URL

Where it has to be signed in, it prints {"open": ...}, the address for a browser, and reads from a line of its input where the
browser was sent in the end. Once it is connected it prints {"version": ...}. Then each line of the input is the name of a tool to
call, and each line of the output the end of the call: {"text": ..., "is_error": ...}.
"""

import asyncio
import inspect
import json
import sys
import urllib.parse

import httpx2
from mcp import Client
from mcp.client.auth import oauth2
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

REDIRECT = "http://127.0.0.1:7777/callback"


class Storage:
    """What the client keeps while it runs."""

    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


def say(**what):
    print(json.dumps(what), flush=True)


async def heard():
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def open_in_browser(url):
    say(open=url)


async def come_back():
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(await heard()).query))
    known = inspect.signature(oauth2.AuthorizationCodeResult).parameters
    return oauth2.AuthorizationCodeResult(**{name: value for name, value in query.items() if name in known})


async def main(url):
    metadata = OAuthClientMetadata(
        client_name="Python SDK", redirect_uris=[REDIRECT], token_endpoint_auth_method="none",
        grant_types=["authorization_code", "refresh_token"], response_types=["code"],
    )
    auth = oauth2.OAuthClientProvider(
        server_url=url, client_metadata=metadata, storage=Storage(), redirect_handler=open_in_browser,
        callback_handler=come_back,
    )
    http = httpx2.AsyncClient(auth=auth, timeout=120)
    async with Client(streamable_http_client(url, http_client=http)) as client:
        say(version=client.protocol_version)
        while tool := await heard():
            result = await client.call_tool(tool, {})
            say(text="".join(block.text for block in result.content), is_error=result.is_error)


asyncio.run(main(sys.argv[1]))
