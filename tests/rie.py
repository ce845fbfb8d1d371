"""Runs the functions' real binaries under AWS's Lambda runtime interface emulator, with events as the gateway sends them.

    python3 tests/rie.py BINARIES ENV_FILE BASE_URL TOKEN [FUNCTION...]

BINARIES is the folder with the built binaries, ENV_FILE the local server's lambda.env, BASE_URL where that server listens, TOKEN one of
an admin of a tenant with every permission and scope. The emulator is taken from the package aws-sam-cli. Every function, or
each that is named, gets its sample event; then dry runs for subjects whose ids stand in no URL as themselves.
"""

import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import samcli

BINARIES, ENV_FILE, BASE, TOKEN = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
MACHINE = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
RIE = pathlib.Path(samcli.__file__).parent / "local" / "rapid" / f"aws-lambda-rie-{MACHINE}"
EVENTS = pathlib.Path(__file__).parent / "events"
IDS = ["ada_example.com#EXT#@contoso.onmicrosoft.com", "what?", "100%", "a%23b", "ada+test@example.com", "Zoë Lovelace"]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Function:
    """One binary, from its start to its end."""

    def __init__(self, name):
        self.name, self.port = name, free_port()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "HAWSER_"))}
        for line in open(ENV_FILE):
            key, value = line.rstrip("\n").split("=", 1)
            env[key] = value.strip("'")
        env |= {
            "AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": "120", "AWS_EC2_METADATA_DISABLED": "true", "AWS_LAMBDA_LOG_FORMAT": "JSON",
        }
        self.log = tempfile.TemporaryFile("w+")
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{self.port}", "--runtime-api-address", f"127.0.0.1:{free_port()}"]
        self.process = subprocess.Popen([RIE, *addresses, BINARIES / name], env=env, stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def invoke(self, event):
        """What the function answers: for an endpoint its status and its body."""
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        request = urllib.request.Request(url, data=json.dumps(event).encode())
        for _ in range(100):
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    text = answer.read()
                break
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError):
                    raise
                time.sleep(0.05)
        else:
            sys.exit(f"{self.name}: the emulator does not listen")
        # A stream begins with its status and headers, and eight zeros.
        head, zeros, body = text.partition(b"\0" * 8)
        try:
            answer = json.loads(head)
        except ValueError:
            self.log.seek(0)
            sys.exit(f"{self.name}: {text[:300]!r}\n{self.log.read()[-2000:]}")
        if zeros:
            answer["body"] = body.decode()
        if "errorType" in answer:
            self.log.seek(0)
            sys.exit(f"{self.name}: {answer}\n{self.log.read()[-2000:]}")
        return answer


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or "null")


def sample(name):
    return json.loads((EVENTS / f"{name}.json").read_text().replace("TOKEN", TOKEN))


def offboarding(subject, query):
    """As an HTTP API delivers it: the path and its parameters decoded, the query as it was sent."""
    event = sample("hawser-offboard-subject")
    event["rawPath"] = event["requestContext"]["http"]["path"] = f"/v1/subjects/user/{subject}/credentials"
    event["pathParameters"] = {"subjectType": "user", "subjectId": subject}
    event["rawQueryString"] = query
    if query:
        event["queryStringParameters"] = dict(urllib.parse.parse_qsl(query))
    return event


def main():
    names = sys.argv[5:] or sorted(one.stem for one in EVENTS.glob("*.json"))
    for name in names:
        with Function(name) as function:
            answer = function.invoke(sample(name))
            status = answer.get("statusCode", 200)
            assert status < 500, (name, answer)
            assert (status == 401) == (name == "kambrium-issue-token"), (name, answer)
    print(f"rie: {len(names)} functions answered their sample events")

    manifest = {
        "type": "mcp-server/remote", "name": "rie", "description": "d", "url": "https://x.example/mcp",
        "auth_data": {"type": "header", "headers": {"A": "{{K}}"}, "auth_level": "per_user"},
    }
    server = call("PUT", "/api/svc/v1/mcp", {"manifest": manifest})["data"]["id"]
    for subject in IDS:
        own = {"subjectId": subject, "subjectType": "user", "authOverride": {"type": "header", "headerValue": "v"}}
        call("PUT", f"/api/svc/v1/mcp/{server}/auth", own)

    def stands(subject):
        asked = urllib.parse.urlencode({"subjectId": subject, "subjectType": "user"})
        return call("GET", f"/api/svc/v1/mcp/{server}/auth/status?{asked}")["status"] == "authenticated"

    with Function("hawser-offboard-subject") as function:
        for subject in IDS:
            answer = function.invoke(offboarding(subject, "dryRun=true"))
            data = json.loads(answer["body"])["data"]
            assert data.get("dryRun") is True and data["removed"]["overrides"] == 1, (subject, answer)
            assert stands(subject), subject
            answer = function.invoke(offboarding(subject, "a=1?dryRun=true"))
            assert answer["statusCode"] == 400 and stands(subject), (subject, answer)
            data = json.loads(function.invoke(offboarding(subject, ""))["body"])["data"]
            assert data["subjectId"] == subject and data["removed"]["overrides"] == 1, (subject, data)
            assert not stands(subject), subject
    deletes = [
        ("truefoundry-delete-server", f"/api/svc/v1/mcp/{server}", {"mcpServerId": server}),
        ("truefoundry-revoke-all", f"/api/svc/v1/mcp/{server}/auth/tokens", {"mcpServerId": server}),
    ]
    for name, path, parameters in deletes:
        event = sample(name) | {"rawPath": path, "pathParameters": parameters, "rawQueryString": "dryRun=true"}
        with Function(name) as function:
            answer = function.invoke(event)
        assert answer["statusCode"] == 200 and '"dryRun":true' in answer["body"].replace(" ", ""), answer
    call("GET", f"/api/svc/v1/mcp/{server}")
    print(f"rie: dry runs for {len(IDS)} subjects and 2 servers removed nothing")


main()
