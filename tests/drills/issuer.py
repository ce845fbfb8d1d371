"""An OAuth issuer and the MCP server that it protects, for the drills. It signs everybody in at once, and remembers every token
that it has issued and whether that still works."""

import base64
import hashlib
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit


class Issuer:
    def __init__(self):
        self.lock = threading.Lock()
        self.codes, self.tokens, self.revoked_at_issuer = {}, {}, 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                issuer.answer(self, "")

            def do_POST(self):
                length = int(self.headers.get("content-length") or 0)
                issuer.answer(self, self.rfile.read(length).decode())

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                """A caller that is killed hangs up."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def active(self):
        with self.lock:
            return [token for token, (_, works) in self.tokens.items() if works]

    def issued(self):
        with self.lock:
            return len(self.tokens)

    def answer(self, request, body):
        path, query = urlsplit(request.path).path, dict(parse_qsl(urlsplit(request.path).query))
        form = dict(parse_qsl(body))
        status, headers, said = 404, {}, {}
        if path == "/.well-known/oauth-protected-resource/mcp":
            status, said = 200, {"resource": f"{self.url}/mcp", "authorization_servers": [self.url]}
        elif path == "/.well-known/oauth-authorization-server":
            status, said = 200, {
                "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token",
                "registration_endpoint": f"{self.url}/register", "revocation_endpoint": f"{self.url}/revoke",
                "code_challenge_methods_supported": ["S256"], "response_types_supported": ["code"],
                "token_endpoint_auth_methods_supported": ["none"],
            }
        elif path == "/register":
            asked = json.loads(body)
            status, said = 201, {"client_id": secrets.token_hex(8), "redirect_uris": asked["redirect_uris"],
                                 "token_endpoint_auth_method": "none"}
        elif path == "/authorize":
            code = secrets.token_hex(16)
            with self.lock:
                self.codes[code] = query["code_challenge"]
            status = 302
            headers["location"] = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
        elif path == "/token" and form.get("grant_type") == "authorization_code":
            with self.lock:
                challenge = self.codes.pop(form["code"], None)
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if challenge == base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
                status, said = 200, self.pair(secrets.token_hex(8))
            else:
                status, said = 400, {"error": "invalid_grant"}
        elif path == "/token" and form.get("grant_type") == "refresh_token":
            with self.lock:
                family, works = self.tokens.get(form["refresh_token"], (None, False))
                if works:
                    self.tokens[form["refresh_token"]] = (family, False)
            status, said = (200, self.pair(family)) if works else (400, {"error": "invalid_grant"})
        elif path == "/revoke":
            with self.lock:
                self.revoked_at_issuer += 1
                family, _ = self.tokens.get(form["token"], (None, False))
                for token, (of, _) in list(self.tokens.items()):
                    if of is not None and of == family:
                        self.tokens[token] = (of, False)
            status = 200
        elif path == "/mcp":
            status = 401
            headers["www-authenticate"] = f'Bearer resource_metadata="{self.url}/.well-known/oauth-protected-resource/mcp"'
        text = json.dumps(said).encode()
        try:
            request.send_response(status)
            for name, value in {**headers, "content-type": "application/json", "content-length": str(len(text))}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(text)
        except OSError:
            pass

    def pair(self, family):
        access, refresh = "at-" + secrets.token_hex(8), "rt-" + secrets.token_hex(8)
        with self.lock:
            self.tokens[access] = self.tokens[refresh] = (family, True)
        return {"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600}
