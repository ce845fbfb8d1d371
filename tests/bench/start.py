"""How many instructions a function needs from its start to its first poll for work, by callgrind:

    cargo build --release --bin hawser-invoke
    python3 tests/bench/start.py target/release/hawser-invoke                                          # as it is deployed
    python3 tests/bench/start.py target/release/hawser-invoke SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt

Further arguments set environment variables of the function. Needs valgrind.
"""

import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading

FUNCTION = {
    "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_LAMBDA_FUNCTION_NAME": "function", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_LOG_GROUP_NAME": "group", "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
    "HAWSER_TABLE": "table", "HAWSER_KMS_KEY_ID": "key", "HAWSER_JWT_ISSUER": "https://issuer.example",
    "HAWSER_JWT_AUDIENCE": "hawser", "HAWSER_JWKS_URL": "https://issuer.example/keys",
}


class Runtime(http.server.BaseHTTPRequestHandler):
    """The runtime interface of Lambda, which never has work."""

    polled, over = threading.Event(), threading.Event()

    def do_GET(self):
        self.polled.set()
        self.over.wait()

    def log_message(self, *_):
        pass


def main():
    program, *settings = sys.argv[1:]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {"PATH": os.environ["PATH"], "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}"}
    environment |= FUNCTION | dict(setting.split("=", 1) for setting in settings)
    with tempfile.TemporaryDirectory() as folder:
        callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program]
        running = subprocess.Popen(callgrind, env=environment, stderr=subprocess.PIPE, text=True)
        polled = Runtime.polled.wait(120)
        running.terminate()
        said = running.communicate()[1]
        Runtime.over.set()
    counted = re.search(r"Collected : (\d+)", said)
    if not polled or not counted:
        sys.exit(f"{program} did not poll for work\n{said[-2000:]}")
    print(f"{os.path.basename(program)}: {int(counted[1]):,} instructions to the first poll")


main()
