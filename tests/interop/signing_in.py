"""One address is enough: a real client finds out where to sign in, is signed in by a person, calls, and can be thrown out."""

import html
import json
import re
import subprocess
import urllib.parse

from parts import HERE, Browser, Client, Form, send

REDIRECT = "http://127.0.0.1:7777/callback"


class SigningIn(Client):
    """signing_in_client.py, with the person before its browser: an admin, who lets it in."""

    def __init__(self, world, url):
        log = world.folder / f"signing-in-{next(self.numbers)}.log"
        command = [str(world.tools / "python" / "bin" / "python"), "-B", str(HERE / "signing_in_client.py"), url]
        # Not that of `Client`, which is a client with a header.
        super(Client, self).__init__(command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = 0
        self.hello = self.end()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def call(self, tool):
        self.say(tool)
        return self.end()

    def end(self):
        """What comes of what the client does, with a sign-in on the way where it asks for one."""
        said = self.said()
        while "open" in said:
            self.opened += 1
            self.say(self.let_in(said["open"]))
            said = self.said()
        return said

    @staticmethod
    def let_in(url):
        """Presses the button of each page on the way, and returns the address that leads back to the client."""
        browser, pages = Browser({}), []
        for _ in range(10):
            answer = browser.get(url)
            while answer.status == 200:
                pages.append(re.search(r"<h1>(.*?)</h1>", answer.body)[1])
                form = Form(answer.body)
                buttons = dict(
                    reversed(pair) for pair in re.findall(r'<button[^>]*name="([^"]*)"[^>]*value="([^"]*)"', answer.body)
                )
                pressed = "admin" if "admin" in buttons else "allow"
                fields = [*form.fields, (buttons[pressed], pressed)]
                url = urllib.parse.urljoin(url, html.unescape(form.action))
                answer = send("POST", url, form=fields, opener=browser.opener)
            assert answer.status == 303, (pages, answer)
            url = urllib.parse.urljoin(url, answer.headers["Location"])
            if url.startswith(REDIRECT):
                assert pages == ["Who are you?", "Let Python SDK in?"], pages
                return url
        raise AssertionError("too many redirects")


def an_address_alone_is_enough(world):
    """Sign-in on the page for development, a call, and the end of the login: the next call is refused, and signs in anew."""
    hawser = world.start_hawser("signing-in", sign_in=True)
    manifest = {"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": world.plain.url}
    hawser.call(200, "PUT", "/api/svc/v1/mcp", {"manifest": manifest})

    def logins():
        return json.loads(hawser.call(200, "GET", "/v1/logins").body)["data"]

    with SigningIn(world, f"{hawser.real}/mcp/wiki") as client:
        first = client.call("test_simple_text")
        assert first["text"] and not first["is_error"], first
        assert client.opened == 1
        (login,) = logins()
        assert (login["subjectId"], login["clientName"]) == ("admin", "Python SDK"), login
        ended = hawser.call(200, "DELETE", f"/v1/logins/{login['id']}")
        assert '"state":"complete"' in ended.body, ended
        second = client.call("test_simple_text")
        assert second["text"] == first["text"], second
        assert client.opened == 2, "it has gone on without a sign-in"
        (another,) = logins()
        assert another["id"] != login["id"]
