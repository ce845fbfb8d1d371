"""LangChain's adapters, on the official Python SDK of the session era. An agent can call the tools alone that were listed.
See common.py.
"""

import asyncio

from common import URL, converse
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from python_sdk_1 import provider


async def main():
    servers = {"server": {"transport": "http", "url": URL, "auth": provider("LangChain")}}
    client, listed = MultiServerMCPClient(servers), {}

    async def tools():
        listed.update((tool.name, tool) for tool in await load_mcp_tools(session))
        return listed.values()

    async def call(tool, arguments):
        message = await listed[tool].ainvoke({"type": "tool_call", "id": "1", "name": tool, "args": arguments})
        return {"text": message.text, "is_error": message.status == "error"}

    async with client.session("server", auto_initialize=False) as session:
        hello = await session.initialize()
        await converse(hello.protocolVersion, tools, call)


asyncio.run(main())
