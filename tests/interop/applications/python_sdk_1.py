"""The official Python SDK of the session era, with its OAuth provider. See common.py."""

import asyncio

import httpx
from common import PATIENCE, URL, Loopback, Storage, converse, open_browser, told
from mcp import ClientSession, McpError
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp.types import URL_ELICITATION_REQUIRED, ElicitResult


def provider(name):
    """What signs in."""
    loopback = Loopback()

    async def come_back():
        parameters = await loopback.parameters()
        return parameters["code"], parameters.get("state")

    return OAuthClientProvider(
        server_url=URL, client_metadata=OAuthClientMetadata(**loopback.metadata(name)), storage=Storage(),
        redirect_handler=open_browser, callback_handler=come_back,
    )


async def elicit(_context, _params):
    """Nothing asks for it in this era, but a handler is what declares that addresses are opened."""
    return ElicitResult(action="cancel")


async def main():
    async def call(tool, arguments):
        """Where an address has to be opened first, it is, and the person calls again. The SDK gives up its stream when that is
        refused twice, so nobody can wait there to be told that it is done.
        """
        try:
            result = await session.call_tool(tool, arguments)
        except McpError as error:
            if error.error.code != URL_ELICITATION_REQUIRED:
                raise
            for asked in UrlElicitationRequiredError.from_error(error.error).elicitations:
                await open_browser(asked.url)
            return {"text": error.error.message, "is_error": True}
        return told(result, result.isError)

    async def tools():
        return (await session.list_tools()).tools

    async with (
        httpx.AsyncClient(auth=provider("Python SDK 1"), timeout=PATIENCE) as http,
        streamable_http_client(URL, http_client=http) as (read, write, _),
        ClientSession(read, write, elicitation_callback=elicit) as session,
    ):
        hello = await session.initialize()
        await converse(hello.protocolVersion, tools, call)


if __name__ == "__main__":
    asyncio.run(main())
