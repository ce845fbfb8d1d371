"""Calls by real clients through Hawser to real servers. What has arrived there is said by the servers' own logs (seen.py)."""

import itertools
import json
import threading
import time

from contracts import MCP, TrueFoundry
from parts import Client, plain, send, wait_for
from steps import connect, register, visit

numbers = itertools.count(1)

# ---- Servers, and what a caller has there


class Called:
    """A server in Hawser, as those see it who call it: its address, and what calls to it carry."""

    def __init__(self, hawser, upstream, id, carried=None):
        self.hawser, self.upstream, self.id, self.carried = hawser, upstream, id, carried or {}
        shown = hawser.call(200, "GET", f"{MCP}/{id}").json["data"]
        self.name = shown["manifest"]["name"]
        # The only address that a client of this contract knows.
        self.url = shown["proxyUrl"]
        assert self.url == f"{hawser.url}/mcp/v1/{self.name}/mcp", shown

    def is_told(self, text):
        """Whether a caller without a credential is told so by Hawser, in the result of a tool."""
        return text.startswith((
            f"{self.name} is not connected yet. Open this address in a browser, connect there, and try again: ",
            f"{self.name} needs a credential that is not stored here. Ask those who manage it to store one, and try again.",
        ))

    def is_asked(self, question):
        """Whether it is Hawser that asks its user to open an address."""
        words = f"{self.name} is not connected yet. Open the page to connect it: it says who is connected to what."
        return question["message"] == words and question["url"].startswith(f"{self.hawser.url}/oauth/start?session=")

    def install(self, subject, own):
        body = {"subjectId": subject, "subjectType": "user", "authOverride": own}
        self.hawser.call(200, "PUT", f"{MCP}/{self.id}/auth", body)

    def disconnect(self, subject, source):
        body = {"authSource": source, "subjectId": subject, "subjectType": "user"}
        self.hawser.call(200, "DELETE", f"{MCP}/{self.id}/auth", body)

    def delete(self):
        self.hawser.call(200, "DELETE", f"{MCP}/{self.id}")


def caller(world, name="caller"):
    """A token of somebody who may call servers, and nothing else."""
    return world.hawser.token(f"user:{name}", "--permission", "mcp-servers:invoke")


def put(world, upstream, auth=None, carried=None):
    name = f"called-{next(numbers)}"
    manifest = {"type": "mcp-server/remote", "name": name, "description": "Interoperability test", "url": upstream.url}
    manifest |= {"auth_data": auth} if auth else {}
    made = world.hawser.call(200, "PUT", MCP, {"manifest": manifest}).json["data"]
    return Called(world.hawser, upstream, made["id"], carried)


def open_server(world):
    return put(world, world.everything)


def with_headers(world):
    """A server with headers of its own, one of them where the caller's token was."""
    headers = {"X-Stored": f"stored-{next(numbers)}", "Authorization": f"Basic stored-{next(numbers)}"}
    return put(world, world.plain, {"type": "header", "auth_level": "global", "headers": headers}, headers)


def with_override(world, subject="caller"):
    """A server that each caller has a key of their own for."""
    key = f"personal-{next(numbers)}"
    auth = {"type": "header", "auth_level": "per_user", "headers": {"X-Personal": "Key {{KEY}}"}}
    server = put(world, world.plain, auth, {"X-Personal": f"Key {key}"})
    server.install(subject, {"type": "key_value", "values": {"KEY": key}})
    return server


def with_grant(world, subject="caller"):
    """A server with OAuth, and a consent."""
    connection, since = register(world, TrueFoundry)
    _, page = visit(connection, connection.begin(caller(world, subject)))
    assert page.status == 200, page
    (issued,) = since.tokens()
    carried = {"Authorization": f"Bearer {issued['accessToken']}"}
    return Called(world.hawser, connection.site.server, connection.id, carried)


# ---- What arrives

# Headers of a caller that go on.
PASSING = {
    "accept", "content-type", "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id", "traceparent",
    "tracestate",
}
# Those that Hawser sets by itself.
OWN = {"host", "user-agent", "content-length", "mcp-session-id", "accept-encoding", "hawser-hops"}
# What a caller may send along and no server may see. The `Origin` is one that may call.
PLANTED_WORD = "planted-by-the-caller"
PLANTED = {
    name: PLANTED_WORD
    for name in (
        "X-Api-Key", "Cookie", "Proxy-Authorization", "Proxy-Connection", "Forwarded", "X-Forwarded-For",
        "X-Forwarded-Host", "X-Real-IP", "Via", "X-Amz-Date", "X-Amz-Security-Token", "X-Amzn-Trace-Id", "Referer",
        "Sec-Fetch-Site", "Sec-Anything", "X-Anything", "X-Stored", "X-Personal",
    )
} | {"Origin": "http://localhost:4321"}
# Real clients set this one by themselves, as soon as there is a session; one of them does not let others do so.
PLANTED_SESSION = {"Mcp-Session-Id": PLANTED_WORD}


def assert_arrived(requests, server, token):
    """Every request has what calls to the server carry, and nothing of the caller but what may pass."""
    assert requests, "nothing has arrived"
    carried = {name.lower(): value for name, value in server.carried.items()}
    for request in requests:
        headers = dict(request["headers"])
        assert len(headers) == len(request["headers"]), f"twice: {request}"
        extra = headers.keys() - PASSING - OWN - carried.keys()
        extra = {name for name in extra if not name.startswith("mcp-param-")}
        assert not extra, f"{extra} in {request}"
        assert carried.items() <= headers.items(), f"without {carried}: {request}"
        assert headers["user-agent"].startswith("hawser/"), request
        assert headers["accept-encoding"] == "identity" and headers["hawser-hops"] == "1", request
        assert PLANTED_WORD not in json.dumps(request) and token not in json.dumps(request), request


# ---- Real clients

# What is called, and as which tool a server has it that can tell which headers have arrived.
CALLS = {
    open_server: [("echo", {"message": "hello"}), ("get-sum", {"a": 2, "b": 3})],
    with_headers: [("test_simple_text", {}), ("count", {"to": 3}), ("test_error_handling", {})],
    with_override: [("test_reconnection", {}), ("test_custom_header", {"region": "Zürich"})],
    with_grant: [("whoami", {}), ("add", {"a": 2, "b": 3})],
}
# What a server asks of its client, which has to answer: how that is done is what the eras differ in most.
ASKING = {
    "auto": [
        ("test_input_required_result_multiple_inputs", {}), ("test_input_required_result_multi_round", {}),
        ("test_streaming_elicitation", {}),
    ],
    "legacy": [("test_sampling", {"prompt": "hello"}), ("test_elicitation_sep1034_defaults", {}), ("test_roots", {})],
}


def converse(world, library, mode, url, headers, calls):
    """What the client has found, and what has come of each call."""
    with Client(world.tools, world.folder, library, mode, url, headers) as client:
        return [client.hello, *(client.call(tool, **arguments) for tool, arguments in calls)]


def real_client(world, library, mode):
    """It sees through Hawser what it sees without, and the server sees what it is to see."""
    token = caller(world)
    planted = PLANTED if library == "rmcp" else PLANTED | PLANTED_SESSION
    for make, calls in CALLS.items():
        server = make(world)
        calls = calls + (ASKING[mode] if make is with_headers else [])
        direct = converse(world, library, mode, server.upstream.url, server.carried, calls)
        assert "tools" in direct[0], direct
        seen = len(server.upstream.requests())
        through = converse(world, library, mode, server.url, planted | {"Authorization": f"Bearer {token}"}, calls)
        assert through == direct, f"{make.__name__}: {through} instead of {direct}"
        assert_arrived(server.upstream.requests()[seen:], server, token)
    # By the words of a tool too.
    for make in (with_headers, with_grant):
        server = make(world)
        seen = len(server.upstream.requests())
        _, told = converse(world, library, mode, server.url, {"Authorization": f"Bearer {token}"}, [("headers", {})])
        requests = [{"headers": list(json.loads(told["text"]).items())}]
        assert_arrived(requests + server.upstream.requests()[seen:], server, token)


def real_client_with_api_key(world):
    """The other credential that callers have."""
    key = world.hawser.api_key
    for make in (with_headers, open_server):
        server = make(world)
        seen = len(server.upstream.requests())
        hello, *_ = converse(world, "sdk", "auto", server.url, {"X-Api-Key": key}, [])
        assert "tools" in hello, hello
        assert_arrived(server.upstream.requests()[seen:], server, key)


def called_by_id(world, contract):
    """Whichever contract made a server, it is called by its id there."""
    connection, since = connect(world, contract)
    site, token = connection.site, connection.hawser.admin
    (issued,) = since.tokens()
    server = Called(connection.hawser, site.server, connection.mcp_id(), {"Authorization": f"Bearer {issued['accessToken']}"})
    for library, mode in (("sdk", "auto"), ("fastmcp", "legacy")):
        seen = len(site.server.requests())
        url = f"{connection.hawser.url}/mcp/{connection.id}"
        hello, added = converse(world, library, mode, url, {"Authorization": f"Bearer {token}"}, [("add", {"a": 2, "b": 3})])
        assert "whoami" in hello["tools"] and added["text"] == "5", (hello, added)
        assert_arrived(site.server.requests()[seen:], server, token)


def server_starts_anew(world, library):
    """And knows no session of before: the client is told so by the server, and fares with it as it would without Hawser."""
    fates = []
    for through in (False, True):
        name = f"anew-{library}-{through}"
        server = plain(world.tools, world.folder / name)
        called = put(world, server)
        url, headers = server.url, {}
        if through:
            url, headers = called.url, {"Authorization": f"Bearer {caller(world)}"}
        with Client(world.tools, world.folder, library, "legacy", url, headers) as client:
            assert client.call("test_simple_text")["text"], client.hello
            server.stop()
            again = plain(world.tools, world.folder / f"{name}-again", server.port)
            fates.append([client.call("test_simple_text") for _ in range(2)])
        again.stop()
    direct, through = fates
    assert through == direct, f"{through} instead of {direct}"


# ---- The end between two calls


def ends(world):
    """Each a server, a call, what ends the caller's credential there, and whether the server is then gone as well."""
    server = with_grant(world)
    yield server, ("add", {"a": 2, "b": 3}), lambda: server.disconnect("caller", "oauth"), False
    server = with_override(world)
    yield server, ("test_simple_text", {}), lambda: server.disconnect("caller", "auth-override"), False
    server = with_headers(world)
    yield server, ("test_simple_text", {}), server.delete, True
    server = with_grant(world)
    yield server, ("add", {"a": 2, "b": 3}), server.delete, True


NOT_FOUND = "MCP server not found or not accessible"


def is_of_hawser(server, answer, gone):
    """Whether what the end of a call says is Hawser's: that there is no such server, or session, or how to connect."""
    if error := answer.get("error"):
        if error.get("code") == -32042:
            return not gone and all(server.is_asked(question) for question in error["data"]["elicitations"])
        words = [NOT_FOUND] if gone else ["Connecting to this MCP server was cancelled"]
        # In the session era the session ends with its server. A client that starts anew by itself wraps what it is told.
        words += ["Authentication failed"]
        return any(word in error["message"] for word in words)
    return not gone and answer["is_error"] and server.is_told(answer["text"])


def await_stream(server, start, mode):
    """In the session era a client opens a stream besides, when it pleases: not in the middle of what is to be seen."""
    def methods():
        return [request["method"] for request in server.upstream.requests()[start:]]

    if mode == "legacy":
        wait_for("the client's stream", lambda: "GET" in methods(), 120)


def end_between_calls(world, library, mode):
    """In one open session of a real client: the second call does not reach the server."""
    headers = {"Authorization": f"Bearer {caller(world)}"}
    for server, (tool, arguments), end, gone in ends(world):
        start = len(server.upstream.requests())
        with Client(world.tools, world.folder, library, mode, server.url, headers) as client:
            first = client.call(tool, **arguments)
            assert not first.get("error") and not first["is_error"], first
            await_stream(server, start, mode)
            end()
            seen = len(server.upstream.requests())
            second = client.call(tool, **arguments)
            # A client that can be told no other way is told in the result of a tool.
            assert is_of_hawser(server, second, gone), f"answered: {second}"
            assert all(server.is_asked(question) for question in second.get("asked", [])), second
        # What the client does when it leaves included.
        leaked = server.upstream.requests()[seen:]
        assert not leaked, f"has arrived after the end: {leaked}"


def replaced_between_calls(world, library, mode):
    """The same with a credential in the place of the old one: only the new one arrives, if anything does."""
    headers = {"Authorization": f"Bearer {caller(world)}"}
    server, key = with_override(world), f"personal-{next(numbers)}"
    start = len(server.upstream.requests())
    with Client(world.tools, world.folder, library, mode, server.url, headers) as client:
        assert client.call("test_simple_text")["text"], client.hello
        await_stream(server, start, mode)
        server.install("caller", {"type": "key_value", "values": {"KEY": key}})
        seen = len(server.upstream.requests())
        second = client.call("test_simple_text")
        arrived = [dict(request["headers"]) for request in server.upstream.requests()[seen:]]
    assert second.get("text"), second
    assert {headers["x-personal"] for headers in arrived} == {f"Key {key}"}, arrived


class Caller(threading.Thread):
    """Calls again and again. Each call has a number of its own, which arrives with it."""

    numbers = itertools.count(1)

    def __init__(self, server, token):
        super().__init__(daemon=True)
        self.server, self.token, self.calls, self.leaving = server, token, [], threading.Event()
        self.start()

    def run(self):
        while not self.leaving.is_set():
            number = f"00-{next(self.numbers):032x}-0000000000000001-00"
            headers = {
                "Authorization": f"Bearer {self.token}", "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list", "traceparent": number,
            }
            meta = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
            }
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
            begun = time.monotonic()
            answer = send("POST", self.server.url, message, headers)
            self.calls.append((number, begun, answer))

    def after(self, moment):
        return [(number, answer) for number, begun, answer in list(self.calls) if begun > moment]


ROUNDS, CALLERS = 6, 8


def end_under_calls(world):
    """While many are calling: of the calls that begin after the end, none reaches the server."""
    for turn in range(ROUNDS):
        for server, _, end, gone in ends(world):
            callers = [Caller(server, caller(world)) for _ in range(CALLERS)]
            wait_for("everybody has called", lambda: all(200 in [call[2].status for call in one.calls] for one in callers), 120)
            end()
            ended = time.monotonic()
            wait_for("everybody has called again", lambda: all(len(one.after(ended)) > 1 for one in callers), 120)
            for one in callers:
                one.leaving.set()
            for one in callers:
                one.join()
            arrived = {dict(request["headers"]).get("traceparent") for request in server.upstream.requests()}
            later = [call for one in callers for call in one.after(ended)]
            leaked = [call for call in later if call[0] in arrived]
            assert not leaked, f"round {turn}: {leaked} of {len(later)} have arrived after the end"
            # Hawser answers lists itself where there is no credential.
            for _, answer in later:
                assert answer.status == 200, answer
                if gone:
                    assert answer.json["error"] == {"code": -32001, "message": NOT_FOUND}, answer
                else:
                    assert [tool["name"] for tool in answer.json["result"]["tools"]] == ["connect"], answer
            before = [number for one in callers for number, begun, _ in one.calls if begun <= ended]
            assert arrived & set(before), "nothing has arrived at all"
