"""The official Python SDK, with its OAuth provider. See common.py."""

import asyncio

import httpx2
from common import PATIENCE, URL, Loopback, Storage, converse, open_browser, told
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from mcp_types import ElicitResult


async def elicit(_context, params):
    await open_browser(params.url)
    return ElicitResult(action="accept")


async def main():
    loopback = Loopback()

    async def come_back():
        return AuthorizationCodeResult(**await loopback.parameters())

    auth = OAuthClientProvider(
        server_url=URL, client_metadata=OAuthClientMetadata(**loopback.metadata("Python SDK 2")), storage=Storage(),
        redirect_handler=open_browser, callback_handler=come_back,
    )

    async def call(tool, arguments):
        result = await client.call_tool(tool, arguments)
        return told(result, result.is_error)

    async def tools():
        return (await client.list_tools()).tools

    async with (
        httpx2.AsyncClient(auth=auth, timeout=PATIENCE) as http,
        Client(streamable_http_client(URL, http_client=http), elicitation_callback=elicit) as client,
    ):
        await converse(client.protocol_version, tools, call)


asyncio.run(main())
