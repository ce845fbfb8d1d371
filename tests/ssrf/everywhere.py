"""Nobody can make the Lambda binaries connect to anything but public addresses: not who registers a server, not what such a
server or its issuer says, not a name. The real binaries run as Lambda would run them, in a network in which every address
leads to this machine. So the judge, a listener on all of them, hears each connection, wherever it was to go.

    python3 tests/ssrf/everywhere.py

Needs the debug build of all binaries, `trustme`, and Linux with user namespaces; without these it says so and does nothing.
"""

import base64
import http.server
import json
import os
import pathlib
import queue
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).parents[2]
BINARIES = ROOT / "target/debug"
# The hostile server's own address, and the names under its control.
PUBLIC, DOMAIN = "8.8.4.4", "evil.example"
EVIL = f"https://{DOMAIN}"

APART = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
if "HAWSER_APART" not in os.environ:
    if subprocess.run([*APART, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        print("NOT RUN: there are no user namespaces to be had here")
        sys.exit(0)
    os.execvpe("unshare", [*APART, sys.executable, *sys.argv], os.environ | {"HAWSER_APART": "1"})

import trustme
from addresses import expected, some

folder = tempfile.TemporaryDirectory()
work = pathlib.Path(folder.name)


def run(command):
    subprocess.run(command.split(), check=True)


# Every address is this machine's.
run("ip link set lo up")
run("ip route add local 0.0.0.0/0 dev lo")
run("ip -6 route add local ::/0 dev lo")
(work / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
run(f"mount --bind {work}/resolv.conf /etc/resolv.conf")


def listen(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, port))
    listener.listen(128)
    return listener


class Judge:
    """Listens on every address but those on which someone else does, and notes where a connection was to go."""

    def __init__(self):
        self.heard = queue.Queue()
        for port in (80, 443):
            threading.Thread(target=self.serve, args=(listen("::", port),), daemon=True).start()

    def serve(self, listener):
        while True:
            stream, _ = listener.accept()
            self.heard.put(stream.getsockname()[0].removeprefix("::ffff:"))
            stream.close()

    def verdict(self):
        """Where connections have gone since the last verdict. Each stands in a queue before our own."""
        gone = []
        for port, marker in ((80, "9.9.9.80"), (443, "9.9.9.43")):
            socket.create_connection((marker, port)).close()
            while (heard := self.heard.get(timeout=10)) != marker:
                gone.append(heard)
        return gone


class Names(threading.Thread):
    """Answers for every name: one under the hostile domain as it says itself, any other with an address inside."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        self.asked = {}
        self.start()

    def addresses(self, name, kind):
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        if name == DOMAIN:
            return [PUBLIC] if kind == 1 else []
        if not name.endswith("." + DOMAIN):
            return ["169.254.169.254"] if kind == 1 else ["fd00:ec2::254"]
        how, _, packed = name.split(".")[0].rpartition("-")
        inside = socket.AF_INET if len(packed) == 8 else socket.AF_INET6
        inside = [socket.inet_ntop(inside, bytes.fromhex(packed))] if family == inside else []
        if not inside:
            return []
        if how == "mixed":
            return [PUBLIC, *inside] if kind == 1 else inside
        if how.startswith("turn"):
            self.asked[name] = self.asked.get(name, 0) + 1
            return [PUBLIC] if self.asked[name] == 1 else inside
        return inside

    def run(self):
        while True:
            query, client = self.socket.recvfrom(512)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
            found = self.addresses(".".join(labels).lower(), kind)
            answer = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0) + query[12 : at + 5]
            for address in found:
                packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
                answer += struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed
            self.socket.sendto(answer, client)


class Evil(http.server.BaseHTTPRequestHandler):
    """An MCP server and its issuer. `says` replaces what is true of a path or a field."""

    protocol_version = "HTTP/1.1"
    says = {}
    seen = []

    def answer(self, status, body=None, **headers):
        body = json.dumps(body if body is not None else {}).encode()
        self.send_response(status)
        # So that the next request has to look up the name again.
        headers |= {"Content_Type": "application/json", "Content_Length": str(len(body)), "Connection": "close"}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_DELETE(self):
        self.do_GET()

    def do_GET(self):
        says, path = Evil.says, self.path
        Evil.seen.append(path)
        field = lambda name, path: {name: says.get(name, EVIL + path)}
        if location := says.get(f"location of {path}"):
            self.answer(302, Location=location)
        elif path == "/mcp" and "Authorization" not in self.headers:
            metadata = says.get("challenge", f"{EVIL}/.well-known/oauth-protected-resource/mcp")
            self.answer(401, WWW_Authenticate=f'Bearer resource_metadata="{metadata}"')
        elif path == "/.well-known/oauth-protected-resource/mcp":
            self.answer(200, {"resource": f"{EVIL}/mcp", "authorization_servers": [says.get("authorization_servers", EVIL)],
                              **field("jwks_uri", "/keys")})
        elif path == "/.well-known/oauth-authorization-server":
            self.answer(200, {
                "issuer": EVIL, "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                **field("authorization_endpoint", "/authorize"), **field("token_endpoint", "/token"),
                **field("registration_endpoint", "/register"), **field("revocation_endpoint", "/revoke"),
                **field("jwks_uri", "/keys"), **field("introspection_endpoint", "/introspect")})
        elif path == "/register":
            self.answer(201, {"client_id": "c", "client_secret": "planted", "client_secret_expires_at": 0,
                              "token_endpoint_auth_method": "client_secret_post",
                              "redirect_uris": ["http://hawser.example/oauth/callback"],
                              "registration_access_token": "planted",
                              **field("registration_client_uri", "/register/c")})
        elif path == "/token":
            self.answer(200, {"access_token": "planted", "token_type": "Bearer", "refresh_token": "planted"})
        elif path in ("/mcp", "/revoke", "/register/c"):
            self.answer(200)
        else:
            self.answer(404)

    def log_message(self, *_):
        pass


class Function:
    """One Lambda binary and the runtime API that it asks for its events."""

    def __init__(self, name, env):
        self.template = json.loads((ROOT / f"tests/events/{name}.json").read_text())
        self.events, self.answers = queue.Queue(), queue.Queue()
        function = self

        class Runtime(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, status, body, **headers):
                self.send_response(status)
                for header, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(header.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                event = function.events.get()
                deadline = str(int(time.time() * 1000) + 300_000)
                self.reply(200, event, Lambda_Runtime_Aws_Request_Id="r",
                           Lambda_Runtime_Deadline_Ms=deadline, Content_Type="application/json",
                           Lambda_Runtime_Invoked_Function_Arn=f"arn:aws:lambda:x:1:function:{name}")

            def do_POST(self):
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    while self.rfile.readline().strip():
                        pass
                else:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                function.answers.put((self.path, body))
                self.reply(202, b"{}")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = env | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}", "AWS_LAMBDA_FUNCTION_NAME": name,
                     "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_FUNCTION_VERSION": "1",
                     "AWS_LAMBDA_LOG_GROUP_NAME": "g", "AWS_LAMBDA_LOG_STREAM_NAME": "s"}
        log = open(work / f"{name}.log", "w")
        self.process = subprocess.Popen([BINARIES / name], env=env, stdout=log, stderr=log)

    def invoke(self, event):
        self.events.put(json.dumps(event).encode())
        path, body = self.answers.get(timeout=60)
        assert path.endswith("/response"), (path, body)
        if b"\0" * 8 in body:
            prelude, _, rest = body.partition(b"\0" * 8)
            return json.loads(prelude) | {"body": rest.decode()}
        return json.loads(body)

    def __call__(self, method, path, body=None, parameters=None, query="", cookies=(), token=None):
        event = json.loads(json.dumps(self.template))
        event["body"] = body if isinstance(body, str) else json.dumps(body) if body is not None else ""
        if "httpMethod" in event:
            # As a REST API sends it: the function behind that matches its paths itself.
            event["httpMethod"] = event["requestContext"]["httpMethod"] = method
            event["requestContext"]["path"] = path
            if token:
                event["multiValueHeaders"]["Authorization"] = [f"Bearer {token}"]
        else:
            event["requestContext"]["http"] |= {"method": method, "path": path}
            event |= {"rawPath": path, "rawQueryString": query, "cookies": list(cookies), "pathParameters": parameters or {}}
            if token:
                event["headers"]["authorization"] = f"Bearer {token}"
        answer = self.invoke(event)
        text = answer.get("body") or ""
        if answer.get("isBase64Encoded"):
            text = base64.b64decode(text).decode()
        answer["json"] = json.loads(text) if text.startswith(("{", "[")) else {}
        return answer


judge, names = Judge(), Names()
authority = trustme.CA()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert(DOMAIN, f"*.{DOMAIN}").configure_cert(context)
authority.cert_pem.write_to_path(str(work / "ca.pem"))


class Https(http.server.ThreadingHTTPServer):
    def __init__(self, listener):
        super().__init__(("127.0.0.1", 0), Evil, bind_and_activate=False)
        self.socket = listener

    def get_request(self):
        stream, client = self.socket.accept()
        return context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False), client

    def handle_error(self, *_):
        pass


threading.Thread(target=Https(listen(PUBLIC, 443)).serve_forever, daemon=True).start()

# Where no connection may go: by number, in other spellings, and by name.
INSIDE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.1.2.3 168.63.129.16
    169.254.169.254 169.254.170.2 169.254.170.23 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.2.1 192.88.99.1
    192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 240.0.0.1 ::1 :: ::ffff:10.0.0.1 ::ffff:8.8.8.8
    ::10.0.0.1 ::8.8.8.8 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::1 64:ff9b:1::8.8.8.8 100::1 2001::1
    2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:a00:1::1 2002:808:808::1 3fff::1 4000::1 5f00::1 fc00::1
    fd00:ec2::254 fd00:ec2::23 fec0::1 2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:8.8.8.8""".split()
SPELT = """
    2852039166 0xa9fea9fe 0xA9.0xFE.0xA9.0xFE 0251.0376.0251.0376 169.254.43518 169.16689662 169.254.169.254.
    １６９.２５４.１６９.２５４ 169。254。169。254 %31%36%39.254.169.254 167772161 0x0a000001 012.1 10.1 127.1 0177.1 2130706433 0
    localhost LOCALHOST. a.localhost metadata metadata.google.internal x.local x.internal. instance-data ip6-localhost
    example.com@169.254.169.254 a:b@10.0.0.1 \\\\10.0.0.1""".split()
counter = iter(range(1_000_000))


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address).hex()


def hosts():
    """All of them once. A name whose answer changes is good for one try."""
    yield from (f"[{address}]" if ":" in address else address for address in INSIDE)
    yield from SPELT
    for address in ("10.0.0.1", "169.254.169.254", "fd00:ec2::254", "::1", "64:ff9b::10.0.0.1"):
        yield f"plain-{packed(address)}.{DOMAIN}"
        yield f"mixed-{packed(address)}.{DOMAIN}"
    yield f"plain-{packed('10.0.0.1')}.{DOMAIN}."


def turning():
    return f"turn{next(counter)}-{packed('10.0.0.1')}.{DOMAIN}"


# The local server is the store here. Its own worker may reach loopback, so it lives in yet another network, and the store is
# passed on from there: a socket belongs to the network that it was made in, whoever accepts on it.
door = listen("127.0.0.1", 0)
pass_on = f"""
import os, socket, subprocess, threading
subprocess.run("ip link set lo up", shell=True, check=True)
hawser = [{str(BINARIES / "hawser")!r}, "--listen", "127.0.0.1:0", "--data-dir", {str(work / "data")!r}]
store = subprocess.Popen(hawser, stdout=subprocess.PIPE, stderr=open({str(work / "hawser.log")!r}, "w"), text=True)
print(store.stdout.readline(), flush=True)
url = next(line for line in open({str(work / "data/lambda.env")!r}) if line.startswith("AWS_ENDPOINT_URL_DYNAMODB"))
host, port = url.split("//")[1].rstrip("'\\n").split(":")
def pump(source, target):
    while piece := source.recv(1 << 16):
        target.sendall(piece)
    target.shutdown(socket.SHUT_WR)
door = socket.socket(fileno={door.fileno()})
while True:
    here, there = door.accept()[0], socket.create_connection((host, int(port)))
    for ends in ((here, there), (there, here)):
        threading.Thread(target=pump, args=ends, daemon=True).start()
"""
store = subprocess.Popen(["unshare", "--net", sys.executable, "-c", pass_on], pass_fds=[door.fileno()],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
token = json.loads(store.stdout.readline())["adminToken"]
env = dict(line.split("=", 1) for line in (work / "data/lambda.env").read_text().splitlines())
env = {name: value.strip("'") for name, value in env.items()}
env["AWS_ENDPOINT_URL_DYNAMODB"] = "http://127.0.0.1:%d" % door.getsockname()[1]
integrations = {
    f"i{i}": {"display_name": "I", "mcp_url": f"https://{host}/mcp", "api_key": {}, "oauth": {}}
    for i, host in enumerate(hosts())
}
env |= {"SSL_CERT_FILE": str(work / "ca.pem"), "HAWSER_PUBLIC_URL": "http://hawser.example", "RUST_LOG": "warn",
        "AWS_EC2_METADATA_DISABLED": "true"}
apply = [BINARIES / "hawser", "integrations", "apply", "--data-dir", work / "data", "-"]
offered = dict(integrations)
while (said := subprocess.run(apply, input=json.dumps({"integrations": offered}), text=True, capture_output=True)).returncode:
    # What no catalogue takes is reached by nobody.
    wrong = {line.removeprefix("hawser: ").split(":")[0].split(".")[0] for line in said.stderr.splitlines()}
    assert wrong & offered.keys(), said.stderr
    offered = {name: one for name, one in offered.items() if name not in wrong}
put, authorize, show, start, finish, invoke, disconnect, delete, ls_create, ls_update, ka_create = (
    Function(name, env) for name in (
        "truefoundry-put-server", "truefoundry-authorize", "hawser-show-consent", "hawser-start-consent",
        "hawser-finish-consent", "hawser-invoke",
        "truefoundry-disconnect-subject", "truefoundry-delete-server", "langsmith-create-server", "langsmith-update-server",
        "kambrium-create-connection"))
sweep = Function("workers-sweep", env)
# Where applications sign people in, it reads what these say of themselves. Its provider is nowhere, and is asked for nothing before.
let_in = Function("hawser-authorize", env | {"HAWSER_SIGN_IN_ISSUER": "https://sign-in.example", "HAWSER_SIGN_IN_CLIENT_ID": "c"})

MCP, MESSAGE = "/api/svc/v1/mcp", {"jsonrpc": "2.0", "id": 1, "method": "resources/list"}


def register(url, auth=None):
    manifest = {"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": url}
    manifest |= {"auth_data": auth} if auth else {}
    made = put("PUT", MCP, {"manifest": manifest, "force": True}, token=token)
    assert made["statusCode"] in (200, 400), made
    return made["json"]["data"]["id"] if made["statusCode"] == 200 else None


def call(server, status=502, refused=False):
    """A call. `refused`: no credential can be had for it, which a caller is told in the body of a 200, with the reason."""
    answer = invoke("POST", f"/mcp/{server}", MESSAGE, token=token)
    assert answer["statusCode"] == (200 if refused else status), answer
    if refused:
        error = answer["json"]["error"]
        assert error["code"] == -32001 and error["data"]["reason"], answer
    elif status == 502:
        assert answer["json"]["error"] == {"code": -32603, "message": "The MCP server cannot be reached"}, answer


def query_of(url):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


def live():
    """Consents, calls, disconnects and deletes, as far as one gets. Returns whether there was a grant."""
    server = register(f"{EVIL}/mcp", {"type": "oauth2"})
    path, of_server = f"{MCP}/{server}", {"mcpServerId": server}
    asked = authorize("GET", f"{path}/authorize", parameters=of_server, token=token)
    page = show("GET", "/oauth/start", query=urllib.parse.urlsplit(asked["json"]["authorization_endpoint"]).query)
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page["body"])
    cookies = [cookie.split(";")[0] for cookie in page["cookies"]]
    page = start("POST", "/oauth/start", urllib.parse.urlencode(fields), cookies=cookies)
    location = (page.get("headers") or {}).get("location") or (page.get("multiValueHeaders") or {}).get("location")
    granted = False
    if location:
        cookies = [cookie.split(";")[0] for cookie in page["cookies"]]
        query = urllib.parse.urlencode({"state": query_of(location)["state"], "code": "x"})
        page = finish("GET", "/oauth/callback", query=query, cookies=cookies)
        granted = "<h1>Connected</h1>" in page["body"]
    if granted:
        call(server, 200)
        body = {"authSource": "oauth", "subjectId": "admin", "subjectType": "user"}
        gone = disconnect("DELETE", f"{path}/auth", body, of_server, token=token)
        assert gone["statusCode"] == 200, gone
    assert delete("DELETE", path, parameters=of_server, token=token)["statusCode"] == 200
    if granted:
        sweep.invoke(sweep.template)
    return granted


def application(document):
    """An application whose id is the address of this document asks for a sign-in; the page that says what is wrong."""
    query = {"response_type": "code", "client_id": document, "redirect_uri": "https://editor.example/cb", "state": "s",
             "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}
    page = let_in("GET", "/oauth/authorize", query=urllib.parse.urlencode(query))
    return page["statusCode"], page["body"]


def silent(*why):
    gone = judge.verdict()
    assert gone == [], (gone, *why)


# What the judge would hear: a public address is connected to, and the hostile server's own flow works to its end.
call(register("https://1.2.3.4/mcp"))
call(register("https://[2606:4700::1]/mcp"))
assert judge.verdict() == ["1.2.3.4", "2606:4700::1"]
assert live() and "/revoke" in Evil.seen and "/token" in Evil.seen
silent("the true flow")
status, page = application("https://1.2.3.4/client.json")
assert status == 503 and "cannot be read at the moment" in page, page
assert set(judge.verdict()) == {"1.2.3.4"}
status, page = application(f"{EVIL}/client.json")
assert status == 400 and "there is no document" in page and "/client.json" in Evil.seen, page
silent("the true document")

tried, documents = 0, 0
for i, host in enumerate(hosts()):
    url = f"https://{host}/mcp"
    for auth in (None, {"type": "oauth2", "grant_type": "client_credentials", "token_url": url, "client_id": "c",
                        "client_secret": "s"}):
        server = register(url, auth)
        if server:
            call(server, refused=auth is not None)
    body = {"name": f"ls{i}", "url": url}
    made = ls_create("POST", "/v1/deepagents/mcp-servers", body, token=token)
    assert made["statusCode"] in (201, 422), made
    tried += 1
    # A name is judged when it is connected to, a number when it is registered.
    if made["statusCode"] == 201:
        call(made["json"]["id"])
    made = ka_create("POST", "/api/v1/mcp-servers", {"mcp_server": f"i{i}", "access_type": "write", "api_key": "k"}, token=token)
    if made["statusCode"] == 201:
        call(made["json"]["data"]["id"])
    made = ka_create("POST", "/api/v1/mcp-servers", {"mcp_server": f"i{i}", "access_type": "write", "auth_method": "oauth"},
                     token=token)
    assert made["statusCode"] in (400, 502), made
    silent(url)
    # An address in any other spelling than its own is no id of an application.
    status, page = application(f"https://{host}/client.json")
    documents += status == 503
    known = {503: "cannot be read at the moment", 400: "is not known here"}
    assert known.get(status, "?") in page, (status, page)
    silent("document", url)
assert documents > 50, documents
assert tried > 60, tried
# The keys of connections are tried at their servers.
sweep.invoke(sweep.template)
silent("keys")
print(f"registrations: nothing inside heard of {i + 1} hosts, nor from {documents} documents")

FIELDS = ["challenge", "authorization_servers", "authorization_endpoint", "token_endpoint", "registration_endpoint",
          "revocation_endpoint", "registration_client_uri", "jwks_uri", "introspection_endpoint",
          "location of /.well-known/oauth-protected-resource/mcp", "location of /.well-known/oauth-authorization-server",
          "location of /register", "location of /token", "location of /revoke", "location of /register/c"]
flows, every = 0, list(hosts())
for turn, field in enumerate(FIELDS):
    # A name is judged when it is connected to, so an endpoint that is one may be stored. A number never.
    late = field in ("registration_client_uri", "jwks_uri", "introspection_endpoint") or "/re" in field or "/token" in field
    # Each field leads to some of them, and all of them are led to; tests/it has the rest.
    for host in every[turn % 10 :: 10]:
        Evil.says = {field: f"https://{host}/x"}
        granted = live()
        flows += 1
        by_name = host.startswith(("plain", "mixed", "instance", "ip6"))
        assert not granted or late or by_name, (field, host)
        silent(field, host)
print(f"metadata and redirects: nothing inside heard of {flows} consents")

# Names that turn: public when they are looked at first, inside when they are looked up again.
for field in FIELDS[:7]:
    Evil.says = {field: f"https://{turning()}/x"}
    live()
    silent(field, "turning")
    host = turning()
    Evil.says = {field: f"https://{host}/x"}
    # Looked up by the one who judges too early; whoever connects looks it up again.
    socket.getaddrinfo(host, 443, socket.AF_INET)
    live()
    silent(field, "turned")
for _ in range(5):
    host = turning()
    server = register(f"https://{host}/mcp")
    call(server, refused=True)
    Evil.seen.clear()
    call(server)
    assert Evil.seen == [], "the second call has gone to the first one's place"
    silent("a server's name has turned")
Evil.says = {}
print("names that turn: nothing inside heard of them")

# Any address at all: it is connected to if and only if it is public.
seed = random.SystemRandom().getrandbits(32)
dice = random.Random(seed)
reached = 0
for _ in range(300):
    address = some(dice)
    if address.is_multicast or str(address) in (PUBLIC, "255.255.255.255", "9.9.9.80", "9.9.9.43") or address.is_link_local:
        continue
    url = f"https://[{address}]/" if address.version == 6 else f"https://{address}/"
    server = register(url)
    if server:
        call(server)
    right, _ = expected(address)
    gone = judge.verdict()
    assert bool(gone) == right, (seed, address, gone)
    reached += bool(gone)
assert reached > 50, reached
print(f"any address: {reached} public ones of 300 were reached, and no other (seed {seed})")
