"""Streams of real servers through Hawser: taken up again, called off, left alone. Each scenario does the same without
Hawser first, so that what is expected of it is what the server does.
"""

import http.client
import itertools
import json
import time
import urllib.parse

from clients import caller, put, with_override
from parts import wait_for

MODERN, LEGACY, BATCHES = "2026-07-28", "2025-11-25", "2025-03-26"
CLIENT = {"name": "interop", "version": "0"}
# In seconds, for what has to come at last.
PATIENCE = 120

names = (f"call-{number}" for number in itertools.count(1))


class Stream:
    """An answer, as it comes."""

    def __init__(self, method, url, headers, body):
        address = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(address.netloc, timeout=PATIENCE)
        self.connection.request(method, address.path, body, headers)
        self.answer = self.connection.getresponse()
        self.status, self.headers, self.last = self.answer.status, self.answer.headers, None

    def events(self):
        """The messages of an event stream. The id of the last event is kept, also of those without a message."""
        end = time.monotonic() + PATIENCE
        while line := self.answer.readline().decode():
            # Some servers keep a stream alive by saying nothing now and then.
            assert time.monotonic() < end, f"nothing in {PATIENCE} s"
            field, _, value = line.rstrip("\r\n").partition(":")
            if field == "id":
                self.last = value.strip()
            if field == "data" and value.strip():
                yield json.loads(value)

    def until(self, method=None, id=None):
        """The first message that is this notification, or the answer to this request."""
        for message in self.events():
            if message.get("method") == method or (id is not None and message.get("id") == id):
                return message
        raise AssertionError(f"ended before {method or id}")

    def messages(self):
        """All of them, in either kind of answer."""
        if "text/event-stream" in self.headers.get("Content-Type", ""):
            return list(self.events())
        body = self.answer.read()
        said = json.loads(body) if body else []
        return said if isinstance(said, list) else [said]

    def hang_up(self):
        self.answer.close()
        self.connection.close()


class Speaker:
    """Speaks MCP by hand, and so can hang up and come back."""

    def __init__(self, url, credentials, version):
        self.url, self.version, self.ids = url, version, itertools.count(1)
        self.headers = {"Accept": "application/json, text/event-stream", **credentials}
        if version < MODERN:
            hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
            stream = self.request("initialize", hello)
            (self.hello,) = stream.messages()
            self.headers |= {"Mcp-Session-Id": stream.headers["Mcp-Session-Id"]}
        self.headers |= {"MCP-Protocol-Version": version}
        if version < MODERN:
            assert self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).status == 202

    def post(self, message, **headers):
        headers = self.headers | {"Content-Type": "application/json"} | headers
        return Stream("POST", self.url, headers, json.dumps(message))

    def get(self, last=None):
        headers = self.headers | ({"Last-Event-ID": last} if last else {})
        return Stream("GET", self.url, headers, None)

    def request(self, method, params, name=None):
        """The stream of its answer. Its id is `self.id`."""
        self.id, headers = next(self.ids), {}
        if self.version >= MODERN:
            params = params | {"_meta": params.get("_meta", {}) | {
                "io.modelcontextprotocol/protocolVersion": self.version, "io.modelcontextprotocol/clientInfo": CLIENT,
                "io.modelcontextprotocol/clientCapabilities": {},
            }}
            headers = {"Mcp-Method": method} | ({"Mcp-Name": name} if name else {})
        return self.post({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}, **headers)

    def call(self, tool, **arguments):
        """The stream of a call that may report how far it is."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": next(self.ids)}}
        return self.request("tools/call", params, tool)

    def done(self, tool, **arguments):
        """What a call has come to."""
        *_, last = self.call(tool, **arguments).messages()
        return last["result"]["content"][0]["text"]


def both_ways(world, upstream, version):
    """Somebody who speaks to the server, and somebody who speaks to it through Hawser."""
    called = put(world, upstream)
    yield Speaker(upstream.url, {}, version)
    yield Speaker(called.url, {"Authorization": f"Bearer {caller(world)}"}, version)


def ended(world, name):
    """How the calls of `wait` by that name have ended, as the server noted it."""
    return [how for note in world.plain.notes() for how in ("cancelled", "finished") if note.get(how) == name]


def progress(stream):
    return stream.until(method="notifications/progress")


def call_is_resumed(world):
    """In the session era who hangs up has not called off: the answer can be fetched."""
    for speaker in both_ways(world, world.plain, LEGACY):
        name = next(names)
        stream = speaker.call("wait", name=name)
        id = speaker.id
        progress(stream)
        stream.hang_up()
        assert speaker.done("release", name=name) == "done"
        wait_for("the call's end", lambda: ended(world, name), PATIENCE)
        assert ended(world, name) == ["finished"]
        result = speaker.get(stream.last).until(id=id)
        assert result["result"]["content"][0]["text"] == f"{name} is released", result


def answer_is_fetched_again(world):
    """The same with a server of another make, which keeps answers and not calls."""
    for speaker in both_ways(world, world.everything, LEGACY):
        stream = speaker.call("trigger-long-running-operation", duration=0, steps=4)
        id = speaker.id
        progress(stream)
        first, rest = stream.last, list(stream.events())
        assert rest[-1]["id"] == id, rest
        again = speaker.get(first).events()
        assert [next(again) for _ in rest] == rest


def call_is_called_off(world):
    """Since 2026-07-28 who hangs up has called off, and the server hears of it."""
    for speaker in both_ways(world, world.plain, MODERN):
        name = next(names)
        stream = speaker.call("wait", name=name)
        progress(stream)
        stream.hang_up()
        wait_for("the call's end", lambda: ended(world, name), PATIENCE)
        assert ended(world, name) == ["cancelled"]


def call_is_called_off_by_word(world):
    """In the session era that takes a message."""
    for speaker in both_ways(world, world.plain, LEGACY):
        name = next(names)
        stream = speaker.call("wait", name=name)
        id = speaker.id
        progress(stream)
        params = {"requestId": id, "reason": "enough"}
        assert speaker.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).status == 202
        assert "error" in stream.until(id=id)
        assert ended(world, name) == ["cancelled"]


def stream_of_no_request(world):
    """What a server says by itself arrives, and what it said while nobody listened can be fetched."""
    for speaker in both_ways(world, world.plain, LEGACY):
        stream = speaker.get()
        assert speaker.done("announce") == "done"
        assert stream.until(method="notifications/tools/list_changed")
        stream.hang_up()
        assert speaker.done("announce") == "done"
        assert speaker.get(stream.last).until(method="notifications/tools/list_changed")


def stream_of_a_subscription(world):
    """What took its place since 2026-07-28."""
    for speaker in both_ways(world, world.plain, MODERN):
        stream = speaker.request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        assert next(stream.events())["method"] == "notifications/subscriptions/acknowledged"
        assert speaker.done("test_trigger_tool_change") == "done"
        assert stream.until(method="notifications/tools/list_changed")
        stream.hang_up()


def stream_ends_with_its_credential(world):
    """All that is open ends soon: the stream of no request, and an answer that is still to come."""
    called = with_override(world)
    speaker = Speaker(called.url, {"Authorization": f"Bearer {caller(world)}"}, LEGACY)
    streams, name = [speaker.get(), speaker.call("wait", name=next(names))], next(names)
    progress(streams[1])
    later = Speaker(called.url, {"Authorization": f"Bearer {caller(world)}"}, MODERN).call("wait", name=name)
    progress(later)
    called.disconnect("caller", "auth-override")
    for stream in [*streams, later]:
        assert not list(stream.events()), "has gone on"
    # The server is told, where that means something.
    wait_for("the call's end", lambda: ended(world, name), PATIENCE)
    assert ended(world, name) == ["cancelled"]


def batch(world):
    """Of the revision that had batches: each message of one is answered, and the rest is the server's business."""
    answers = []
    for speaker in both_ways(world, world.everything, BATCHES):
        assert speaker.hello["result"]["protocolVersion"] == BATCHES, speaker.hello
        messages = [
            {"jsonrpc": "2.0", "id": "a", "method": "ping"},
            {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
            {"jsonrpc": "2.0", "id": "b", "method": "tools/list"},
            {"jsonrpc": "2.0", "id": "c", "method": "tools/call",
             "params": {"name": "echo", "arguments": {"message": "hello"}}},
        ]
        stream = speaker.post(messages)
        answers.append((stream.status, sorted(stream.messages(), key=lambda message: message["id"])))
        nothing = speaker.post([messages[1]])
        answers[-1] += (nothing.status, nothing.messages())
    direct, through = answers
    assert [message["id"] for message in direct[1]] == ["a", "b", "c"], direct
    assert through == direct, through


def batch_that_is_refused(world):
    """By a server that knows none."""
    answers = []
    for speaker in both_ways(world, world.plain, LEGACY):
        stream = speaker.post([{"jsonrpc": "2.0", "id": "a", "method": "ping"}])
        answers.append((stream.status, stream.messages()))
    direct, through = answers
    assert direct[0] == 400 and through == direct, answers
