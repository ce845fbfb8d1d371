"""An MCP server without authorization, both eras of the protocol, for the conformance suite's server scenarios.

    python plain.py PORT

The endpoint is /mcp. The names and texts are the suite's. Not everything is here: the point is to run the suite
directly and through a proxy, and to see the same.
"""

import asyncio
import base64
import json
import sys

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from mcp_types import AudioContent, EmbeddedResource, ImageContent, TextContent, TextResourceContents

# One red pixel, and a WAV file with no sound in it.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="

server = FastMCP("plain")


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def image() -> ImageContent:
    return ImageContent(type="image", data=PNG, mimeType="image/png")


def embedded() -> EmbeddedResource:
    words = "This is an embedded resource content."
    contents = TextResourceContents(uri="test://embedded-resource", mimeType="text/plain", text=words)
    return EmbeddedResource(type="resource", resource=contents)


@server.tool
def test_simple_text() -> str:
    """One text."""
    return "This is a simple text response for testing."


@server.tool
def test_image_content():
    """One image."""
    return image()


@server.tool
def test_audio_content():
    """One sound."""
    return AudioContent(type="audio", data=WAV, mimeType="audio/wav")


@server.tool
def test_embedded_resource():
    """One resource."""
    return embedded()


@server.tool
def test_multiple_content_types():
    """One of each."""
    return [text("Multiple content types test:"), image(), embedded()]


@server.tool
def test_error_handling() -> str:
    """Always fails."""
    raise ToolError("This tool intentionally returns an error for testing")


@server.tool
async def test_tool_with_progress(context: Context) -> str:
    """Reports three times how far it is: the answer has to be a stream."""
    for done in (0, 50, 100):
        await context.report_progress(done, 100)
        await asyncio.sleep(0.05)
    return "done"


@server.tool
async def test_tool_with_logging(context: Context) -> str:
    """Logs three times."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.info(line)
        await asyncio.sleep(0.05)
    return "done"


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    return base64.b64decode(PNG)


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.prompt
def test_simple_prompt() -> str:
    """One message."""
    return "This is a simple prompt for testing."


@server.prompt
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """One message, from two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


port = int(sys.argv[1])
server.run(transport="http", host="127.0.0.1", port=port, path="/mcp", show_banner=False, log_level="warning")
