#!/usr/bin/env python3
"""Drills of what cannot be shown in one process: `tests/drills/run.py kill|storm|disk-full|clock|sockets|all [--seconds N]`. Each
prints its figures on one line, and fails if a promise did not hold. Needs `cargo build` and nothing but Python; `disk-full` also a
mount namespace, `clock` also a C compiler."""

import argparse
import http.client
import json
import os
import random
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from issuer import Issuer

ROOT = Path(__file__).resolve().parents[2]
HAWSER = ROOT / "target" / "debug" / "hawser"
MCP = "/api/svc/v1/mcp"


class Gone(Exception):
    """No answer."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))


def ask(method, url, token=None, body=None, cookie=None, patience=30):
    """Status, headers and text of an answer."""
    headers = {"content-type": "application/x-www-form-urlencoded" if isinstance(body, str) else "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if cookie:
        headers["cookie"] = cookie
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with OPENER.open(request, timeout=patience) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Gone(str(error)) from error


class Hawser:
    """A running server on a data folder."""

    def __init__(self, folder, env=None, log=None, before=None):
        self.folder = folder
        self.log = open(log or folder / "log", "ab")
        self.process = subprocess.Popen(
            [HAWSER, "--listen", "127.0.0.1:0", "--data-dir", folder / "data", "--no-sign-in"], stdout=subprocess.PIPE, stderr=self.log,
            env={**os.environ, "RUST_LOG": "warn", **(env or {})}, preexec_fn=before,
        )
        line = self.process.stdout.readline()
        if not line:
            raise Gone("it does not start")
        self.url = json.loads(line)["url"]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def token(self, subject, *rights):
        command = [HAWSER, "token", "--data-dir", self.folder / "data", "--tenant", "acme", "--subject", f"user:{subject}",
                   "--expires-in", "86400000", *rights]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def register(self, admin, name, url):
        manifest = {"type": "mcp-server/remote", "name": name, "description": "d", "url": url, "auth_data": {"type": "oauth2"}}
        status, _, text = ask("PUT", self.url + MCP, admin, {"manifest": manifest})
        expect(status == 200, text)
        return json.loads(text)["data"]["id"]

    def connect(self, user, mcp):
        """Whether the user was told to be connected."""
        status, _, text = ask("GET", f"{self.url}{MCP}/{mcp}/authorize", user)
        offered = json.loads(text).get("authorization_endpoint") if status == 200 else None
        if not offered:
            return False
        status, headers, page = ask("GET", offered)
        if status != 200:
            return False
        cookie = headers["set-cookie"].split(";")[0]
        form = urllib.parse.urlencode(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page))
        status, headers, _ = ask("POST", offered.split("?")[0], body=form, cookie=cookie)
        if status != 303:
            return False
        _, headers, _ = ask("GET", headers["location"])
        status, _, text = ask("GET", headers["location"], cookie=cookie)
        return status == 200 and "<h1>Connected</h1>" in text

    def disconnect(self, admin, mcp, name):
        body = {"authSource": "oauth", "subjectId": name, "subjectType": "user"}
        return ask("DELETE", f"{self.url}{MCP}/{mcp}/auth", admin, body)[0]

    def status(self, admin, mcp, name):
        url = f"{self.url}{MCP}/{mcp}/auth/status?subjectId={name}&subjectType=user"
        return json.loads(ask("GET", url, admin)[2])

    def open_receipts(self, admin):
        """The receipts that are not complete."""
        status, _, text = ask("GET", f"{self.url}/v1/receipts?limit=1000", admin)
        expect(status == 200, text)
        return [one for one in json.loads(text)["data"] if one["state"] != "complete"]

    def audit(self):
        command = [HAWSER, "audit", "--data-dir", self.folder / "data"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        expect(done.returncode == 0, done.stdout + done.stderr)
        return json.loads(done.stdout.splitlines()[-1])


def expect(holds, why):
    if not holds:
        raise SystemExit(f"FAILED: {why}")


def until(reached, why, patience=120):
    end = time.monotonic() + patience
    while not reached():
        expect(time.monotonic() < end, why)
        time.sleep(0.1)


def say(drill, **figures):
    print(f"{drill}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()), flush=True)


def settle(hawser, admin, issuer, servers):
    """Deletes every server and waits until nothing of them works anywhere."""
    for mcp in servers:
        until(lambda mcp=mcp: ask("DELETE", f"{hawser.url}{MCP}/{mcp}", admin)[0] in (200, 404), "a server cannot be deleted")
    until(lambda: not issuer.active(), f"{len(issuer.active())} tokens still work at the issuer")


def load(hawser_of, admin, users, servers, stop, tally, ended):
    """Connects and disconnects at random until it is told to stop."""
    chance = random.Random()
    while not stop.is_set():
        name, mcp = chance.choice(list(users)), chance.choice(servers)
        hawser = hawser_of()
        try:
            if chance.random() < 0.6:
                tally["connects"] += hawser.connect(users[name], mcp)
            elif hawser.disconnect(admin, mcp, name) == 200:
                tally["disconnects"] += 1
        except (Gone, TypeError, ValueError):
            tally["unanswered"] += 1
            time.sleep(0.02)


def storm(folder, seconds):
    issuer, hawser = Issuer(), Hawser(folder)
    admin = hawser.token("root", "--tenant-admin")
    users = {f"u{i}": hawser.token(f"u{i}") for i in range(12)}
    servers = [hawser.register(admin, f"server-{i}", f"{issuer.url}/mcp") for i in range(3)]
    stop, tally = threading.Event(), {"connects": 0, "disconnects": 0, "unanswered": 0}
    threads = [threading.Thread(target=load, args=(lambda: hawser, admin, users, servers, stop, tally, None)) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    settle(hawser, admin, issuer, servers)
    took = time.monotonic() - began
    hawser.stop()
    items = hawser.audit()["items"]
    expect(tally["unanswered"] == 0, f"{tally['unanswered']} requests were not answered")
    say("storm", seconds=seconds, **tally, tokens=issuer.issued(), still_active=len(issuer.active()),
        settled_after=f"{took:.1f} s", items_left=sum(items.values()))


def kill(folder, seconds):
    issuer, hawser = Issuer(), Hawser(folder)
    admin = hawser.token("root", "--tenant-admin")
    users = {f"u{i}": hawser.token(f"u{i}") for i in range(8)}
    servers = [hawser.register(admin, f"server-{i}", f"{issuer.url}/mcp") for i in range(2)]
    stop, tally = threading.Event(), {"connects": 0, "disconnects": 0, "unanswered": 0}
    current = [hawser]
    threads = [threading.Thread(target=load, args=(lambda: current[0], admin, users, servers, stop, tally, None)) for _ in range(6)]
    for thread in threads:
        thread.start()
    kills, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(random.uniform(0.3, 1.5))
        current[0].kill()
        kills += 1
        current[0] = Hawser(folder)
    stop.set()
    for thread in threads:
        thread.join()
    hawser = current[0]
    began = time.monotonic()
    for mcp in servers:
        until(lambda mcp=mcp: ask("DELETE", f"{hawser.url}{MCP}/{mcp}", admin)[0] in (200, 404), "a server cannot be deleted")
    until(lambda: not hawser.open_receipts(admin), "a receipt is never complete")
    took = time.monotonic() - began
    hawser.stop()
    hawser.audit()
    # What an issuer answers to a process that dies is in nobody's hands: of each request under way at most one pair.
    lost = len(issuer.active()) // 2
    expect(lost <= kills * len(threads), f"{lost} pairs of tokens still work, more than were on their way")
    say("kill", kills=kills, **tally, pairs=issuer.issued() // 2, lost_on_their_way=lost, settled_after=f"{took:.1f} s")


def disk_full(folder, _):
    """On a file system of 24 MiB that is then filled up: a call either happens or says that it did not."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        print("disk-full: not run, for nothing may be mounted here")
        return
    try:
        issuer, hawser = Issuer(), Hawser(disk, log=folder / "log")
        admin = hawser.token("root", "--tenant-admin")
        mcp = hawser.register(admin, "wiki", f"{issuer.url}/mcp")
        users = {f"u{i}": hawser.token(f"u{i}") for i in range(20)}
        connected = {name for name, user in users.items() if hawser.connect(user, mcp)}
        expect(len(connected) == 20, "the disk is too small for the drill")
        with open(disk / "filler", "wb") as filler:
            try:
                while True:
                    filler.write(b"\0" * 65536)
                    filler.flush()
            except OSError:
                pass
        # The store has room in its own files too.
        for number in range(10_000):
            manifest = {"type": "mcp-server/remote", "name": f"filler-{number}", "description": "d" * 400, "url": "https://x.example/"}
            try:
                if ask("PUT", hawser.url + MCP, admin, {"manifest": manifest})[0] != 200:
                    break
            except Gone:
                break
        else:
            raise SystemExit("FAILED: the disk never was full")
        said, refused = {}, 0
        for name in users:
            try:
                said[name] = hawser.disconnect(admin, mcp, name)
            except Gone:
                said[name] = 0
            refused += said[name] != 200
        (disk / "filler").unlink()
        for name, status in said.items():
            state = hawser.status(admin, mcp, name)["status"]
            expect(status != 200 or state == "authentication_required", f"{name}: 200, and {state}")
        settle(hawser, admin, issuer, [mcp])
        hawser.stop()
        hawser.audit()
        say("disk-full", disconnects=len(said), refused=refused, tokens=issuer.issued(), still_active=len(issuer.active()))
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


SHIFT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    const char *shift = getenv("CLOCK_SHIFT");
    if (!result && id == CLOCK_REALTIME && shift) at->tv_sec += atol(shift);
    return result;
}
"""


def clock(folder, _):
    """Two processes on one store, one of which is two days ahead: what it ends does not keep anybody from connecting later."""
    source, library = folder / "shift.c", folder / "shift.so"
    source.write_text(SHIFT)
    built = subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], capture_output=True, check=False)
    if built.returncode != 0:
        print("clock: not run, for there is no C compiler")
        return
    days = 2 * 86_400
    issuer = Issuer()
    here = Hawser(folder)
    ahead = Hawser(folder, env={"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(days)}, log=folder / "log-ahead")
    admin = here.token("root", "--tenant-admin")
    mcp = here.register(admin, "wiki", f"{issuer.url}/mcp")
    ada = here.token("ada")
    rounds, kept = 5, 0
    for _ in range(rounds):
        expect(here.connect(ada, mcp), "nobody can connect after a disconnect by a clock that is ahead")
        kept += here.status(admin, mcp, "ada")["status"] == "authenticated"
        expect(ahead.disconnect(admin, mcp, "ada") == 200, "a disconnect by a clock that is ahead")
        expect(here.status(admin, mcp, "ada")["status"] == "authentication_required", "it is not over")
    settle(here, admin, issuer, [mcp])
    ahead.stop()
    here.stop()
    say("clock", ahead="2 days", rounds=rounds, reconnected=kept, tokens=issuer.issued(), still_active=len(issuer.active()))


def sockets(folder, _):
    """More connections that say nothing than the process may open files."""
    files = 400

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    issuer, hawser = Issuer(), Hawser(folder, before=limited)
    admin = hawser.token("root", "--tenant-admin")
    mcp = hawser.register(admin, "wiki", f"{issuer.url}/mcp")
    ada = hawser.token("ada")
    port = int(hawser.url.rsplit(":", 1)[1])
    silent = []
    for _ in range(600):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        silent.append(one)
    began = time.monotonic()
    until(lambda: attempt(hawser, ada, mcp), "nobody can connect beside silent connections", 600)
    took = time.monotonic() - began
    size = (folder / "log").stat().st_size
    expect(size < 1 << 20, f"the log has {size} bytes")
    hawser.stop()
    say("sockets", files=files, silent=len(silent), connected_after=f"{took:.0f} s", log=f"{size} bytes")


def attempt(hawser, user, mcp):
    try:
        return hawser.connect(user, mcp)
    except (Gone, TypeError):
        return False


DRILLS = {"kill": kill, "storm": storm, "disk-full": disk_full, "clock": clock, "sockets": sockets}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("drill", choices=[*DRILLS, "all"])
    options.add_argument("--seconds", type=int, default=20)
    options = options.parse_args()
    expect(HAWSER.exists(), "run cargo build first")
    for name in DRILLS if options.drill == "all" else [options.drill]:
        folder = Path(tempfile.mkdtemp(prefix=f"hawser-{name}-"))
        try:
            DRILLS[name](folder, options.seconds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


main()
