"""Connects, disconnects and asks for a status through the functions' real binaries, which are killed meanwhile, and checks that all
answers fit one order.

    python3 tests/rie_order.py BINARIES ENV_FILE BASE_URL TOKEN

The arguments are those of tests/rie.py. Each of the three functions runs twice, on one store. For each subject what everybody was told has
to fit one order of all operations, in which each takes effect at one instant between its request and its answer (Wing and Gong 1993).
What was not answered may have happened or not. `tests/it/linearizable.rs` does the same with the local server, and with consents.
"""

import http.client
import itertools
import json
import random
import sys
import threading
import urllib.parse
import urllib.request

import emulated

BINARIES, ENV_FILE, BASE, TOKEN = sys.argv[1:5]
FUNCTIONS = {"connect": "truefoundry-put-override", "disconnect": "truefoundry-disconnect-subject", "status": "truefoundry-get-auth-status"}
SUBJECTS = ["ada", "bob", "cyd"]
CLIENTS, OPERATIONS, KILL_AFTER = 4, 40, 20
NEVER = float("inf")


class Slot:
    """A place for one binary after the other: the emulator takes one event at a time."""

    def __init__(self, name):
        self.name, self.lock = name, threading.Lock()
        self.function = emulated.Function(BINARIES, ENV_FILE, name)

    def invoke(self, event):
        """The answer; nothing if the binary was killed meanwhile."""
        with self.lock:
            function = self.function
            try:
                return function.invoke(event)
            # The emulator is gone, or says that the binary is.
            except (OSError, http.client.HTTPException, SystemExit):
                if function is self.function:
                    raise
                return None

    def kill(self):
        killed, self.function = self.function, emulated.Function(BINARIES, ENV_FILE, self.name)
        killed.kill()


def call(method, path, body):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(BASE + path, data=json.dumps(body).encode(), method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def event_of(what, server, subject):
    """As an HTTP API delivers it."""
    event = json.loads((emulated.EVENTS / f"{FUNCTIONS[what]}.json").read_text().replace("TOKEN", TOKEN))
    whom = {"subjectId": subject, "subjectType": "user"}
    path = event["rawPath"].replace(event["pathParameters"]["mcpServerId"], server)
    event |= {"rawPath": path, "pathParameters": {"mcpServerId": server}}
    event["requestContext"]["http"]["path"] = path
    if what == "connect":
        event["body"] = json.dumps(whom | {"authOverride": {"type": "header", "headerValue": "v"}})
    elif what == "disconnect":
        event["body"] = json.dumps(whom | {"authSource": "auth-override"})
    else:
        event |= {"rawQueryString": urllib.parse.urlencode(whom), "queryStringParameters": whom}
    return event


def said(what, answer):
    """What an answer says of the subject: whether it is connected, or was; nothing if it was no answer to that."""
    status = answer and answer["statusCode"]
    if what == "connect":
        return True if status == 200 else None
    if what == "disconnect":
        return {200: True, 404: False}.get(status)
    return json.loads(answer["body"])["status"] == "authenticated" if status == 200 else None


def after(connected, what, told):
    """Whether the subject is connected after an operation; nothing if it cannot have been told that."""
    if what == "connect":
        return True
    if told is not None and told != connected:
        return None
    return connected if what == "status" else False


def is_linearizable(history):
    """Whether there is an order of these operations (what, told, asked, answered) that explains what was told."""
    tried, left = set(), [(frozenset(range(len(history))), False)]
    while left:
        state = left.pop()
        if state in tried:
            continue
        tried.add(state)
        open_operations, connected = state
        first_answer = min((history[one][3] for one in open_operations), default=NEVER)
        if first_answer == NEVER:
            return True
        for one in open_operations:
            what, told, asked, _ = history[one]
            next_state = after(connected, what, told)
            # Nothing takes effect before what had been answered when it was asked for.
            if asked <= first_answer and next_state is not None:
                left.append((open_operations - {one}, next_state))
    return False


def main():
    assert is_linearizable([("connect", True, 0, 1), ("status", True, 2, 3), ("disconnect", None, 4, NEVER), ("status", False, 5, 6)])
    assert not is_linearizable([("connect", True, 0, 1), ("disconnect", True, 2, 3), ("status", True, 4, 5)])
    manifest = {
        "type": "mcp-server/remote", "name": "order", "description": "d", "url": "https://x.example/mcp",
        "auth_data": {"type": "header", "headers": {"A": "{{K}}"}, "auth_level": "per_user"},
    }
    server = call("PUT", "/api/svc/v1/mcp", {"manifest": manifest})["data"]["id"]
    slots = {what: [Slot(name), Slot(name)] for what, name in FUNCTIONS.items()}
    histories = {subject: [] for subject in SUBJECTS}
    clock, noting, failed = itertools.count(), threading.Lock(), []
    done, kills = itertools.count(1), itertools.count()

    def client(number):
        chance = random.Random(number)
        try:
            for _ in range(OPERATIONS):
                subject, what = chance.choice(SUBJECTS), chance.choice(["connect", "disconnect", "status", "status"])
                slot = chance.choice(slots[what])
                if next(done) % KILL_AFTER == 0:
                    threading.Timer(chance.random() / 50, slot.kill).start()
                    next(kills)
                asked = next(clock)
                told = said(what, slot.invoke(event_of(what, server, subject)))
                with noting:
                    histories[subject].append((what, told, asked, NEVER if told is None else next(clock)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    for slot in itertools.chain(*slots.values()):
        slot.function.kill()
    for subject, history in histories.items():
        # A question without an answer says nothing.
        history[:] = [one for one in history if (one[0], one[1]) != ("status", None)]
        assert is_linearizable(history), (subject, sorted(history, key=lambda one: one[2]))
    lost = sum(one[3] == NEVER for history in histories.values() for one in history)
    total = sum(map(len, histories.values()))
    print(f"rie: {total} operations on {len(SUBJECTS)} subjects fit one order, {lost} of them without an answer, {next(kills)} kills")


main()
