"""An MCP server without authorization, made of the Python SDK, in both eras of the protocol.

    SEEN=FILE python plain.py PORT

The endpoint is /mcp. Names and texts are those that the server scenarios of the conformance suite look for; at the end
are a few tools of our own. What has arrived is in SEEN (see seen.py).
"""

import base64
import json
import sys
from typing import Annotated

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import Field
from seen import Seen, note

# One red pixel, and a WAV file with no sound in it.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="

server = MCPServer("plain", version="1", log_level="WARNING")


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def image() -> ImageContent:
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, words: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type="text/plain", text=words))


# ---- Answers of every kind


@server.tool(structured_output=False)
def test_simple_text() -> str:
    """One text."""
    return "This is a simple text response for testing."


@server.tool(structured_output=False)
def test_image_content():
    """One image."""
    return image()


@server.tool(structured_output=False)
def test_audio_content():
    """One sound."""
    return AudioContent(type="audio", data=WAV, mime_type="audio/wav")


@server.tool(structured_output=False)
def test_embedded_resource():
    """One resource."""
    return embedded("test://embedded-resource", "This is an embedded resource content.")


@server.tool(structured_output=False)
def test_multiple_content_types():
    """One of each."""
    resource = embedded("test://mixed-content-resource", '{"test": "data", "value": 123}')
    resource.resource.mime_type = "application/json"
    return [text("Multiple content types test:"), image(), resource]


@server.tool()
def test_error_handling() -> str:
    """Always fails."""
    raise ToolError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_progress(context: Context) -> str:
    """Reports three times how far it is: the answer has to be a stream."""
    for done in (0, 50, 100):
        await context.report_progress(done, 100)
    return "done"


@server.tool()
async def test_tool_with_logging(context: Context) -> str:
    """Logs three times."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.info(line)
    return "done"


@server.tool()
async def test_logging_tool(context: Context) -> str:
    """Logs once."""
    await context.info("one line")
    return "done"


@server.tool()
async def test_reconnection(context: Context) -> str:
    """Closes the stream before its answer, which has to be fetched."""
    await context.close_sse_stream()
    return "fetched"


@server.tool()
def test_custom_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Its parameter is mirrored in a header."""
    return region


@server.tool()
def json_schema_2020_12_tool() -> str:
    """Has a schema with words that only the newest draft knows."""
    return "ok"


server._tool_manager.get_tool("json_schema_2020_12_tool").parameters = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef", "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        },
    },
    "properties": {
        "name": {"type": "string"}, "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"}, "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


# ---- Requests to the client: on the stream until 2025-11-25


def said_by(user: str) -> list[SamplingMessage]:
    return [SamplingMessage(role="user", content=text(user))]


def form(**properties) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties)}


async def elicited(context: Context, message: str, schema: dict) -> str:
    answer = await context.session.elicit_form(message, schema, context.request_id)
    return f"action={answer.action}, content={json.dumps(answer.content)}"


@server.tool()
async def test_sampling(prompt: str, context: Context) -> str:
    """Has the client's model say something."""
    answer = await context.session.create_message(
        said_by(prompt), max_tokens=100, related_request_id=context.request_id
    )
    return f"LLM response: {answer.content.text}"


@server.tool()
async def test_elicitation(message: str, context: Context) -> str:
    """Asks the client's user for two words."""
    words = {"username": "User's response", "email": "User's email address"}
    schema = form(**{name: {"type": "string", "description": about} for name, about in words.items()})
    return f"User response: {await elicited(context, message, schema)}"


@server.tool()
async def test_elicitation_sep1034_defaults(context: Context) -> str:
    """Asks the client's user, and knows likely answers."""
    schema = form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return f"Elicitation completed: {await elicited(context, 'Please review', schema)}"


@server.tool()
async def test_elicitation_sep1330_enums(context: Context) -> str:
    """Has the client's user choose, in all five ways of offering a choice."""
    options, values = ["option1", "option2", "option3"], ["value1", "value2", "value3"]
    titled = [{"const": value, "title": f"Choice {number}"} for number, value in enumerate(values, 1)]
    schema = form(
        untitledSingle={"type": "string", "enum": options},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": options}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    return f"Elicitation completed: {await elicited(context, 'Please choose', schema)}"


@server.tool()
async def test_roots(context: Context) -> str:
    """Names the client's roots."""
    return ", ".join(str(root.uri) for root in (await context.session.list_roots()).roots)


# ---- Requests to the client: since 2026-07-28 it repeats its own request, with the answers


def elicitation(message: str, **properties) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=form(**properties)))


def sampling(prompt: str, max_tokens: int) -> CreateMessageRequest:
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=said_by(prompt), max_tokens=max_tokens))


STRING, BOOLEAN = {"type": "string"}, {"type": "boolean"}
NAME = elicitation("What is your name?", name=STRING)
CAPITAL = sampling("What is the capital of France?", 100)


def missing(context: Context, state: str | None = None, **questions) -> InputRequiredResult | None:
    """The questions, unless all of them are answered."""
    if set(questions) <= set(context.input_responses or {}):
        return None
    return InputRequiredResult(input_requests=questions, request_state=state)


def answered(context: Context, question: str, field: str):
    return (context.input_responses[question].content or {}).get(field)


@server.tool(structured_output=False)
async def test_input_required_result_elicitation(context: Context):
    """One question to the user."""
    return missing(context, user_name=NAME) or f"Hello, {answered(context, 'user_name', 'name')}!"


@server.tool(structured_output=False)
async def test_input_required_result_sampling(context: Context):
    """One question to the model."""
    ask = missing(context, capital_question=CAPITAL)
    return ask or f"LLM response: {context.input_responses['capital_question'].content.text}"


@server.tool(structured_output=False)
async def test_input_required_result_list_roots(context: Context):
    """The client's roots."""
    ask = missing(context, client_roots=ListRootsRequest())
    return ask or ", ".join(str(root.uri) for root in context.input_responses["client_roots"].roots)


CONFIRM = elicitation("Please confirm", ok=BOOLEAN)


@server.tool(structured_output=False)
async def test_input_required_result_request_state(context: Context):
    """One question, and a state that has to come back."""
    ask = missing(context, "confirming", confirm=CONFIRM)
    return ask or ("state-ok" if context.request_state == "confirming" else "another state")


@server.tool(structured_output=False)
async def test_input_required_result_tampered_state(context: Context):
    """The same; the SDK seals each state, and refuses another."""
    return missing(context, "sealed", confirm=CONFIRM) or "the state has come back"


@server.tool(structured_output=False)
async def test_input_required_result_multiple_inputs(context: Context):
    """Three questions at once."""
    greeting = sampling("Generate a greeting", 50)
    ask = missing(context, "asking", user_name=NAME, greeting=greeting, client_roots=ListRootsRequest())
    return ask or f"{context.input_responses['greeting'].content.text}, {answered(context, 'user_name', 'name')}"


@server.tool(structured_output=False)
async def test_input_required_result_multi_round(context: Context):
    """Two questions, one after the other."""
    if context.request_state is None:
        return missing(context, "1", step1=elicitation("Step 1: What is your name?", name=STRING))
    if context.request_state == "1":
        name = answered(context, "step1", "name")
        return missing(context, f"2 {name}", step2=elicitation("Step 2: What is your favorite color?", color=STRING))
    return f"{context.request_state[2:]} likes {answered(context, 'step2', 'color')}"


@server.tool(structured_output=False)
async def test_input_required_result_capabilities(context: Context):
    """Asks for no more than what the client can do."""
    can = context.client_capabilities
    questions = {"user_name": NAME} if can.elicitation else {}
    questions |= {"capital_question": CAPITAL} if can.sampling else {}
    return missing(context, **questions) or "answered"


@server.tool(structured_output=False)
async def test_streaming_elicitation(context: Context):
    """One question after some progress: it comes at the end of a stream."""
    await context.report_progress(1, 2)
    return missing(context, user_name=NAME) or "answered"


@server.tool()
async def test_missing_capability(context: Context) -> str:
    """Refuses clients without a model."""
    if not context.client_capabilities or not context.client_capabilities.sampling:
        required = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This needs a client with sampling", required)
    return "done"


# ---- Changes that a client listens for


@server.tool()
async def test_trigger_tool_change(context: Context) -> str:
    """Says that the tools have changed."""
    await context.notify_tools_changed()
    return "done"


@server.tool()
async def test_trigger_prompt_change(context: Context) -> str:
    """Says that the prompts have changed."""
    await context.notify_prompts_changed()
    return "done"


# ---- Resources, prompts, completion


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    return base64.b64decode(PNG)


@server.resource("test://watched-resource", mime_type="text/plain")
def watched() -> str:
    return "Never changes."


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.prompt()
def test_simple_prompt() -> str:
    """One message."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """One message, from two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str):
    """A resource, and what to do with it."""
    resource = embedded(resourceUri, "Embedded resource content for testing.")
    return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]


@server.prompt()
def test_prompt_with_image():
    """An image, and what to do with it."""
    return [UserMessage(image()), UserMessage("Please analyze the image above.")]


@server.prompt()
def test_input_required_result_prompt(context: Context):
    """One question to the user first."""
    ask = missing(context, user_context=elicitation("What context should the prompt use?", context=STRING))
    return ask or f"In the context of {answered(context, 'user_context', 'context')}"


@server.completion()
async def complete(_ref, argument, _context):
    words = ["paris", "park", "party", "test"]
    return Completion(values=[word for word in words if word.startswith(argument.value)])


async def agree(_context, _params):
    return EmptyResult()


# Of revisions before 2026-07-28 alone: only the layer below knows them.
for method, params in {
    "logging/setLevel": SetLevelRequestParams, "resources/subscribe": SubscribeRequestParams,
    "resources/unsubscribe": UnsubscribeRequestParams,
}.items():
    server._lowlevel_server.add_request_handler(method, params, agree)


# ---- Tools that the suite does not know


@server.tool(structured_output=False)
def headers(context: Context) -> str:
    """Every header that reached this server."""
    return json.dumps(dict(context.headers))


@server.tool()
async def count(to: int, context: Context) -> str:
    """Reports each number."""
    for number in range(1, to + 1):
        await context.report_progress(number, to)
    return "done"


@server.tool()
async def announce(context: Context) -> str:
    """Tells the client, on the stream that belongs to no request, that the tools have changed."""
    await context.session.send_tool_list_changed()
    return "done"


@server.tool()
async def wait(name: str, context: Context) -> str:
    """Reports that it has begun, and then waits for `release`. Notes how that ended."""
    released = waiting.setdefault(name, anyio.Event())
    await context.report_progress(1, 2)
    try:
        await released.wait()
    except anyio.get_cancelled_exc_class():
        note(cancelled=name)
        raise
    note(finished=name)
    return f"{name} is released"


@server.tool()
def release(name: str) -> str:
    """Ends a `wait`."""
    waiting.setdefault(name, anyio.Event()).set()
    return "done"


waiting = {}


# ---- The server


class Events(EventStore):
    """Every event there was, so that a stream can be taken up again."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        if not last_event_id.isdigit() or not 0 < int(last_event_id) <= len(self.events):
            return None
        stream = self.events[int(last_event_id) - 1][0]
        for number, (stream_id, message) in enumerate(self.events, 1):
            if number > int(last_event_id) and stream_id == stream and message:
                await send_callback(EventMessage(message, str(number)))
        return stream


app = server.streamable_http_app(event_store=Events(), retry_interval=100)
uvicorn.run(Seen(app), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
