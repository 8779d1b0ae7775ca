"""`atcr-appview serve` as a child process: a registry on its own, between a PDS, a directory and a hold."""

import http.client
import os
import subprocess
import time

from lib.process import must
from lib.server import free_port


class AppView:
    """A registry on a data directory; at `base_url`, else at its own address on loopback.

    Use as a context manager; it is ended by its own pid.
    """

    def __init__(self, server, hold, data_dir, log, base_url=None, settings=None):
        self.server, self.hold, self.data_dir, self.log_path = server, hold, data_dir, log
        self.port, self.process = free_port(), None
        self.address = f"127.0.0.1:{self.port}"
        self.url = base_url or f"http://{self.address}"
        self.settings = settings or {}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        self.kill()

    def start(self, timeout=60):
        """Starts it, also after `kill`, on the same port and data, and waits until it answers."""
        env = {
            **os.environ,
            "ATCR_SERVER_ADDR": self.address,
            "ATCR_SERVER_BASE_URL": self.url,
            "ATCR_SERVER_DEFAULT_HOLD_DID": self.hold.did,
            "ATCR_SERVER_TEST_MODE": "true",
            "ATCR_AUTH_DATA_DIR": self.data_dir,
            "ATCR_IDENTITY_PLC_DIRECTORY_URL": self.server.ready["plc"],
            "ATCR_IDENTITY_HANDLE_RESOLVER_URL": self.server.ready["pds"],
            **self.settings,
        }
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([f"{os.path.dirname(self.server.atcr)}/atcr-appview", "serve"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        deadline = time.monotonic() + timeout
        while not self._answers():
            must(self.process.poll() is None and time.monotonic() < deadline,
                 f"atcr-appview did not become ready; see {self.log_path}")
            time.sleep(0.05)

    def kill(self):
        """SIGKILL: no goodbye, no flush."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def _answers(self):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 401
        except OSError:
            return False
        finally:
            connection.close()
