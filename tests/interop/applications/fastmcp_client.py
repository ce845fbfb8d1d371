"""The client of fastmcp, which does all of a sign-in by itself. See common.py."""

import asyncio

from common import PATIENCE, URL, converse, open_browser, told
from fastmcp import Client
from mcp_types import ElicitResult


async def elicit(_message, _type, params, _context):
    await open_browser(params.url)
    return ElicitResult(action="accept")


async def main():
    client = Client(URL, auth="oauth", timeout=PATIENCE, init_timeout=PATIENCE, elicitation_handler=elicit)

    async def call(tool, arguments):
        result = await client.call_tool(tool, arguments, raise_on_error=False)
        return told(result, result.is_error)

    async with client:
        await converse(client.session.protocol_version, client.list_tools, call)


asyncio.run(main())
