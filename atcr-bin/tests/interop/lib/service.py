"""A server as a child process."""

import os
import socket
import subprocess
import time

from lib.process import must


class Service:
    """A program that serves until it is killed. Use as a context manager; it is ended by its own pid.

    A kind of it says in `command` what is run, in `environment` with which settings, in `answers` whether it is ready.
    """

    def __init__(self, log):
        self.log_path, self.process = log, None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        self.kill()

    def environment(self):
        return {}

    def options(self):
        """More of what `Popen` takes."""
        return {}

    def start(self, timeout=60):
        """Starts it, also after `kill`, on the same port and data, and waits until it answers."""
        argv = self.command()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, **self.environment()}, **self.options())
        deadline = time.monotonic() + timeout
        while not self.answers():
            must(self.process.poll() is None and time.monotonic() < deadline,
                 f"{os.path.basename(argv[0])} did not become ready; see {self.log_path}")
            time.sleep(0.05)

    def kill(self):
        """SIGKILL: no goodbye, no flush."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
