"""`atcr-hold serve` as a child process: a hold on its own, in the network of an `atcr dev`."""

import json
import os
import subprocess
import time

from lib import xrpc
from lib.process import Failed, must
from lib.server import free_port


class Hold:
    """A hold of one owner on a data directory, with a DID of one method (`web`, `plc`).

    Use as a context manager; it is ended by its own pid.
    """

    def __init__(self, server, owner, data_dir, log, method, public_url=None, settings=None):
        self.server, self.owner, self.data_dir, self.log_path = server, owner, data_dir, log
        self.method, self.port, self.process = method, free_port(), None
        self.url = f"http://localhost:{self.port}"
        self.public_url = public_url or self.url
        self.settings = settings or {}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        self.kill()

    def start(self, timeout=60):
        """Starts it, also after `kill`, on the same port and data, and waits until it answers."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([f"{os.path.dirname(self.server.atcr)}/atcr-hold", "serve"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment())
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.did = json.loads(xrpc.query(self.url, "com.atproto.server.describeServer"))["did"]
                return
            except Failed as problem:
                must(self.process.poll() is None and time.monotonic() < deadline,
                     f"atcr-hold did not become ready: {problem}; see {self.log_path}")
                time.sleep(0.05)

    def environment(self):
        """What its programs are told."""
        return {
            **os.environ,
            "HOLD_SERVER_ADDR": f"127.0.0.1:{self.port}",
            "HOLD_SERVER_PUBLIC_URL": self.public_url,
            "HOLD_SERVER_TEST_MODE": "true",
            "HOLD_REGISTRATION_OWNER_DID": self.server.accounts[self.owner]["did"],
            "HOLD_DATABASE_PATH": self.data_dir,
            "HOLD_DATABASE_DID_METHOD": self.method,
            "HOLD_DATABASE_PLC_DIRECTORY_URL": self.server.ready["plc"],
            **self.settings,
        }

    def kill(self):
        """SIGKILL: no goodbye, no flush."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
