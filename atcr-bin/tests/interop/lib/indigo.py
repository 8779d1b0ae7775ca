"""Relay and Tap of indigo, Bluesky's own software in Go, as consumers of one service."""

import contextlib
import json
import os
import sqlite3
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from lib.process import Failed, end, must
from lib.service import free_port

# What a restart of the service must make them say.
RECONNECTING = ("host connection failed", "dialing failed", "firehose connection failed", "dropping commit with old rev")


class Indigo:
    """One of the programs, with a database and a log of its own. Use as a context manager."""

    def __init__(self, shell, home):
        self.shell, self.home, self.port, self.process = shell, home, free_port(), None
        os.makedirs(home)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        self.stop()

    def run(self, *argv):
        """Starts it and waits until it answers."""
        self.process = self.shell.start(*argv, env={"NO_PROXY": "localhost,127.0.0.1"})
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.get(self.health)
            except Failed:
                must(self.process.poll() is None and time.monotonic() < deadline, f"{argv[0]} did not start")
                time.sleep(0.1)

    def stop(self):
        if self.process:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            end(self.process)

    def get(self, path, body=None):
        request = urllib.request.Request(f"{self.url}/{path}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read() or "null")
        except (OSError, ValueError) as problem:
            raise Failed(f"{path}: {problem}") from None

    def logged(self):
        """Its log, entry by entry; what is not of its making left out."""
        with open(self.shell.log, errors="replace") as log:
            for line in log:
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if "msg" in entry:
                        yield entry

    def complaints(self):
        """What it logged as a warning or an error, but for what a restart explains."""
        return [f"{entry['msg']}: {entry.get('err') or entry.get('error')}" for entry in self.logged()
                if entry["level"] in ("WARN", "ERROR") and entry["msg"] not in RECONNECTING]

    def wait_until(self, rev, did, limit=120):
        """Waits until it has taken a revision; returns how it says so."""
        deadline = time.monotonic() + limit
        while True:
            state = self.state(did)
            if state.get("rev", "") >= rev:
                return state
            must(time.monotonic() < deadline, f"{type(self).__name__} is at {state}, not {rev}, after {limit} s; "
                 + "; ".join(self.complaints()[:3]))
            time.sleep(0.2)


class Relay(Indigo):
    """Subscribes to the service from its beginning and sends on what it has verified."""

    health = "xrpc/_health"

    def __init__(self, shell, home, service, plc):
        super().__init__(shell, home)
        self.host, self.plc = urllib.parse.urlsplit(service).netloc, plc

    def start(self):
        self.serve()
        # It refuses to be told of a host on loopback, but goes on with one that it knows: from the second event,
        # since a cursor of 0 is none for it.
        self.stop()
        with contextlib.closing(sqlite3.connect(f"{self.home}/relay.sqlite")) as database, database:
            database.execute(
                "INSERT INTO host (hostname, no_ssl, trusted, account_limit, status, last_seq)"
                " VALUES (?, 1, 1, 1000, 'active', 1)", [self.host])
        self.serve()

    def serve(self):
        self.run("relay", "--plc-host", self.plc, "serve", "--db-url", f"sqlite://{self.home}/relay.sqlite",
                 "--persist-dir", f"{self.home}/persist", "--bind", f"127.0.0.1:{self.port}",
                 "--metrics-listen", f"127.0.0.1:{free_port()}")

    def state(self, did):
        try:
            return self.get(f"xrpc/com.atproto.sync.getLatestCommit?did={urllib.parse.quote(did)}")
        except Failed:
            return {}


class Tap(Indigo):
    """Fetches the repository whole, then keeps it up to date by the events that it has verified."""

    health = "health"

    def __init__(self, shell, home, service, plc):
        super().__init__(shell, home)
        self.service, self.plc = service, plc

    def start(self):
        self.run("tap", "run", "--db-url", f"sqlite://{self.home}/tap.db", "--bind", f"127.0.0.1:{self.port}",
                 "--plc-url", self.plc, "--relay-url", self.service, "--disable-acks")

    def add(self, did):
        self.get("repos/add", json.dumps({"dids": [did]}).encode())
        deadline = time.monotonic() + 30
        while self.state(did).get("state") != "active":
            must(time.monotonic() < deadline, f"Tap did not fetch {did}: {self.state(did)}")
            time.sleep(0.1)

    def fetches(self):
        """How often it fetched a repository whole: once, unless it had come to doubt the events."""
        return sum(entry["msg"] == "starting resync" for entry in self.logged())

    def state(self, did):
        try:
            return self.get(f"info/{did}")
        except Failed:
            return {}
