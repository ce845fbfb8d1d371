"""What the applications have in common that are made in Python.

    BROWSER=PROGRAM python APPLICATION URL

Each is given the address of a server and nothing else. Whatever a person has to open is opened in their browser, by the
program that `BROWSER` names; where a sign-in ends, the browser is sent back to a port of the application's own. Once it is
connected, it prints {"version": ...}. Then each line of its input is {"list": true}, or a call, {"tool": ..., "arguments":
{...}}, and each line of its output the end of that: {"tools": [...]}, {"text": ..., "is_error": ...} or {"error": ...}.
"""

import asyncio
import http.server
import json
import queue
import sys
import threading
import urllib.parse
import webbrowser

# In seconds: people take their time.
PATIENCE = 120
URL = sys.argv[1]


def say(**what):
    print(json.dumps(what), flush=True)


class Storage:
    """What an application of an official SDK keeps. That is not longer than it runs."""

    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


class Loopback(http.server.ThreadingHTTPServer):
    """Where the browser is sent back to."""

    daemon_threads = True

    class RequestHandlerClass(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b'<link rel="icon" href="data:,"><title>Back in the application</title>')
            self.server.came.put(dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query)))

        def log_message(self, *_):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)
        self.came = queue.Queue()
        self.redirect_uri = f"http://127.0.0.1:{self.server_port}/callback"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    async def parameters(self):
        """What the browser has brought back."""
        return await asyncio.to_thread(self.came.get)

    def metadata(self, name):
        """What the application registers itself with."""
        return {
            "client_name": name, "redirect_uris": [self.redirect_uri], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        }


async def open_browser(url):
    assert webbrowser.open(str(url)), "there is no browser"


def failure(error):
    """What is at the bottom of an exception."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def told(result, is_error):
    """The end of a call, of its result and how the SDK spells that it is an error."""
    return {"text": "".join(block.text for block in result.content if block.type == "text"), "is_error": is_error}


async def converse(version, list_tools, call_tool):
    """Does what the input says, to its end."""
    say(version=version)
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        try:
            if "tool" in asked:
                say(**await call_tool(asked["tool"], asked["arguments"]))
            else:
                say(tools=[tool.name for tool in await list_tools()])
        except Exception as error:
            say(error=failure(error))
