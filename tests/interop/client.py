"""An MCP client for a test to talk to, made of one of two Python libraries. `rmcp/` is the same, made of a Rust one.

    HEADERS='{"Authorization": "Bearer ..."}' python client.py sdk|fastmcp auto|legacy URL

It connects and lists the tools: {"version": ..., "tools": [...]}. Then each line of the input is a call, {"tool": ...,
"arguments": {...}}, and each line of the output its end, {"text": ..., "progress": [...]}, or {"error": {...}} with what
the server or the way to it said. The session is open as long as the input. Whatever a server asks of the client is
answered: its model says the prompt again, its user agrees and fills in the form, and it has one root. An address that the
user is asked to open is told with the end of the call, {"asked": [...]}, and the user goes there later.
"""

import asyncio
import json
import os
import sys

import httpx2
import mcp_types
from fastmcp import Client as FastClient
from fastmcp.client.transports import StreamableHttpTransport
from mcp import Client as SdkClient
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

ROOT = "file:///work"
# In seconds: this is no test of time.
PATIENCE = 120


def sampled(params):
    said = params.messages[-1].content
    return mcp_types.CreateMessageResult(
        role="assistant", model="echo", content=mcp_types.TextContent(type="text", text=f"{said.text}!")
    )


# The addresses that the user was asked to open during a call, each with what was said of it.
asked = []


def filled_in(params):
    if params.mode == "url":
        asked.append({"url": params.url, "message": params.message})
        return mcp_types.ElicitResult(action="cancel")
    examples = {"string": "text", "integer": 2, "number": 2.5, "boolean": True}
    fields = params.requested_schema["properties"].items()
    content = {name: schema.get("default", examples[schema["type"]]) for name, schema in fields}
    return mcp_types.ElicitResult(action="accept", content=content)


def sdk(mode, url, headers):
    async def sample(_context, params):
        return sampled(params)

    async def elicit(_context, params):
        return filled_in(params)

    async def roots(_context):
        return mcp_types.ListRootsResult(roots=[mcp_types.Root(uri=ROOT)])

    http = httpx2.AsyncClient(headers=headers, timeout=PATIENCE)
    transport = streamable_http_client(url, http_client=http)
    return SdkClient(
        transport, mode=mode, sampling_callback=sample, elicitation_callback=elicit, list_roots_callback=roots
    )


def fastmcp(mode, url, headers):
    async def sample(_messages, params, _context):
        return sampled(params)

    async def elicit(_message, _type, params, _context):
        return filled_in(params)

    return FastClient(
        StreamableHttpTransport(url, headers=headers), mode=mode, timeout=PATIENCE, init_timeout=PATIENCE,
        sampling_handler=sample, elicitation_handler=elicit, roots=[ROOT],
    )


class Library:
    """Where the two differ."""

    def __init__(self, name, client):
        self.name, self.client = name, client

    def version(self):
        if self.name == "sdk":
            return self.client.protocol_version
        return self.client.session.protocol_version

    async def tools(self):
        tools = await self.client.list_tools()
        return [tool.name for tool in getattr(tools, "tools", tools)]

    async def call(self, tool, arguments):
        progress = []

        async def report(done, _total, _message):
            progress.append(done)

        if self.name == "sdk":
            result = await self.client.call_tool(tool, arguments, progress_callback=report)
        else:
            result = await self.client.call_tool(tool, arguments, progress_handler=report, raise_on_error=False)
        text = "".join(block.text for block in result.content if block.type == "text")
        return {"text": text, "progress": progress, "is_error": result.is_error}


def say(**what):
    print(json.dumps(what), flush=True)


def failure(error):
    """What is at the bottom of an exception."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError):
        return {"code": error.error.code, "message": error.error.message, "data": error.error.data}
    if isinstance(error.__cause__, httpx2.HTTPStatusError):
        error = error.__cause__
    return {"message": f"{type(error).__name__}: {error}"}


async def main():
    name, mode, url = sys.argv[1:]
    client = {"sdk": sdk, "fastmcp": fastmcp}[name](mode, url, json.loads(os.environ["HEADERS"]))
    try:
        async with client:
            library = Library(name, client)
            say(version=library.version(), tools=await library.tools())
            while line := await asyncio.to_thread(sys.stdin.readline):
                call = json.loads(line)
                asked.clear()
                try:
                    end = await library.call(call["tool"], call["arguments"])
                except Exception as error:
                    end = {"error": failure(error)}
                say(**end, **({"asked": asked} if asked else {}))
    except Exception as error:
        say(error=failure(error))


asyncio.run(main())
