"""One of the functions' real binaries under AWS's Lambda runtime interface emulator, which comes with the package aws-sam-cli."""

import json
import os
import pathlib
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import samcli

MACHINE = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
EVENTS = pathlib.Path(__file__).parent / "events"
RIE = pathlib.Path(samcli.__file__).parent / "local" / "rapid" / f"aws-lambda-rie-{MACHINE}"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Function:
    """One binary, from its start to its end."""

    def __init__(self, binaries, env_file, name):
        self.name, self.port = name, free_port()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "HAWSER_"))}
        for line in open(env_file):
            key, value = line.rstrip("\n").split("=", 1)
            env[key] = value.strip("'")
        env |= {
            "AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": "120", "AWS_EC2_METADATA_DISABLED": "true", "AWS_LAMBDA_LOG_FORMAT": "JSON",
        }
        self.log = tempfile.TemporaryFile("w+")
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{self.port}", "--runtime-api-address", f"127.0.0.1:{free_port()}"]
        command = [RIE, *addresses, pathlib.Path(binaries) / name]
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=self.log, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def kill(self):
        """Ends the binary and its emulator at once: nothing is finished first."""
        os.killpg(self.process.pid, signal.SIGKILL)
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
