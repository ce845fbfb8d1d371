"""Stands in for what AWS and an identity provider give a deployed Hawser: KMS (moto, which checks the encryption
context), and the issuer's key set over https.

    python3 tests/stand_ins.py LOCAL_ENV AWS_LIKE_ENV

Reads the local server's lambda.env, writes an env file that names the stand-ins instead of the key file and the inline
key set, says "ready", and serves until it is ended. Needs moto[kms,server] and trustme.
"""

import http.server
import json
import ssl
import sys
import tempfile
import threading
import urllib.request

import trustme
from moto.server import ThreadedMotoServer

local_env, aws_like_env = sys.argv[1:3]
env = dict(line.rstrip("\n").split("=", 1) for line in open(local_env))
env = {name: value.strip("'") for name, value in env.items()}

kms = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
kms.start()
kms_url = "http://%s:%d" % kms.get_host_and_port()
scope = "Credential=local/20260101/us-east-1/kms/aws4_request"
create = urllib.request.Request(
    kms_url,
    data=b"{}",
    headers={
        "X-Amz-Target": "TrentService.CreateKey",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none",
    },
)
key_id = json.load(urllib.request.urlopen(create))["KeyMetadata"]["KeyId"]

key_set = env.pop("HAWSER_JWKS").encode()


class KeySet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(key_set)))
        self.end_headers()
        self.wfile.write(key_set)

    def log_message(self, *_):
        pass


authority = trustme.CA()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("localhost").configure_cert(context)
issuer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), KeySet)
issuer.socket = context.wrap_socket(issuer.socket, server_side=True)
threading.Thread(target=issuer.serve_forever, daemon=True).start()
bundle = tempfile.NamedTemporaryFile(suffix=".pem")
authority.cert_pem.write_to_path(bundle.name)

del env["HAWSER_KEY_FILE"]
env |= {
    "AWS_ENDPOINT_URL_KMS": kms_url,
    "HAWSER_KMS_KEY_ID": key_id,
    "HAWSER_JWKS_URL": f"https://localhost:{issuer.server_port}/keys",
    "SSL_CERT_FILE": bundle.name,
}
with open(aws_like_env, "w") as file:
    file.writelines(f"{name}='{value}'\n" for name, value in env.items())
print("ready", flush=True)
threading.Event().wait()
