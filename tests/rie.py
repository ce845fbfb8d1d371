"""Runs the functions' real binaries under AWS's Lambda runtime interface emulator, with events as the gateways send them.

    python3 tests/rie.py BINARIES ENV_FILE BASE_URL TOKEN [FUNCTION...]

BINARIES is the folder with the built binaries, ENV_FILE the local server's lambda.env, BASE_URL where that server listens, TOKEN one of
an admin of a tenant with every permission and scope. The emulator is taken from the package aws-sam-cli. Every function, or
each that is named, gets its sample event; then dry runs for subjects whose ids stand in no URL as themselves, and calls.
"""

import json
import sys
import urllib.parse
import urllib.request

import emulated

BINARIES, ENV_FILE, BASE, TOKEN = sys.argv[1:5]
IDS = ["ada_example.com#EXT#@contoso.onmicrosoft.com", "what?", "100%", "a%23b", "ada+test@example.com", "Zoë Lovelace"]


def function_of(name):
    return emulated.Function(BINARIES, ENV_FILE, name)


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or "null")


def sample(name):
    return json.loads((emulated.EVENTS / f"{name}.json").read_text().replace("TOKEN", TOKEN))


def offboarding(subject, query):
    """As an HTTP API delivers it: the path and its parameters decoded, the query as it was sent."""
    event = sample("hawser-offboard-subject")
    event["rawPath"] = event["requestContext"]["http"]["path"] = f"/v1/subjects/user/{subject}/credentials"
    event["pathParameters"] = {"subjectType": "user", "subjectId": subject}
    event["rawQueryString"] = query
    if query:
        event["queryStringParameters"] = dict(urllib.parse.parse_qsl(query))
    return event


def calling(path, mapped):
    """As the REST API delivers it: the path as sent, with the stage or what a domain name maps to it."""
    event = sample("hawser-invoke")
    event["requestContext"]["path"] = path
    event["path"] = path if mapped else path.removeprefix("/mcp")
    return event


def main():
    names = sys.argv[5:] or sorted(one.stem for one in emulated.EVENTS.glob("*.json"))
    for name in names:
        with function_of(name) as function:
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

    with function_of("hawser-offboard-subject") as function:
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
    with function_of("hawser-invoke") as function:
        for path, known in [("/mcp/v1/rie/mcp", True), ("/mcp/v1/r%69e/mcp", True), (f"/mcp/{server}", True), ("/mcp/v1/other/mcp", False)]:
            for mapped in (False, True):
                answer = function.invoke(calling(path, mapped))
                assert answer["statusCode"] < 500 and answer["headers"]["content-type"] == "application/json", answer
                assert ("not found" not in answer["body"]) == known, (path, answer)
    deletes = [
        ("truefoundry-delete-server", f"/api/svc/v1/mcp/{server}", {"mcpServerId": server}),
        ("truefoundry-revoke-all", f"/api/svc/v1/mcp/{server}/auth/tokens", {"mcpServerId": server}),
    ]
    for name, path, parameters in deletes:
        event = sample(name) | {"rawPath": path, "pathParameters": parameters, "rawQueryString": "dryRun=true"}
        with function_of(name) as function:
            answer = function.invoke(event)
        assert answer["statusCode"] == 200 and '"dryRun":true' in answer["body"].replace(" ", ""), answer
    call("GET", f"/api/svc/v1/mcp/{server}")
    print(f"rie: dry runs for {len(IDS)} subjects and 2 servers removed nothing, and calls find servers by their paths")


main()
