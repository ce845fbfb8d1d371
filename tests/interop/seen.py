"""What has reached an MCP server, as the server itself saw it: a line of JSON for each request, in the file that the
environment variable SEEN names, written before the request is answered. `seen.mjs` does the same for servers on Node.
"""

import json
import os


def note(**what):
    """One line. Lines of several processes do not mix."""
    with open(os.environ["SEEN"], "a", buffering=1) as file:
        file.write(json.dumps(what) + "\n")


class Seen:
    """An ASGI application with its requests noted down: method, path and every header."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
            note(method=scope["method"], path=scope["path"], headers=headers)
        await self.app(scope, receive, send)
