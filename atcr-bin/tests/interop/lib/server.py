"""`atcr dev` as a child process."""

import json
import os
import selectors
import signal
import subprocess
import time

from lib.process import Failed, must
from lib.registry import Registry
from lib.service import free_port


class Server:
    """One `atcr dev` on a data directory. Use as a context manager; it is ended by its own pid."""

    def __init__(self, atcr, data_dir, log, options=()):
        self.atcr, self.data_dir, self.log_path = atcr, data_dir, log
        self.options = options
        self.port = free_port()
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        if self.process and self.process.poll() is None:
            self.stop()

    def start(self, timeout=60):
        """Starts it, also after `stop` or `kill`, on the same port and data, and reads the line that says ready."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.atcr, "dev", "--json", "--data-dir", self.data_dir, "--port", str(self.port), *self.options],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        try:
            self.ready = json.loads(self._line(timeout))
        except (Failed, ValueError) as problem:
            self.kill()
            raise Failed(f"atcr dev did not become ready: {problem}; see {self.log_path}") from None
        self.registry = self.ready["registry"]
        self.accounts = {account["handle"]: account for account in self.ready["accounts"]}

    def password(self, handle):
        return self.accounts[handle]["password"]

    def client(self, handle=None):
        """Our own client, logged in as an account, or as nobody."""
        return Registry(self.registry, handle, self.password(handle) if handle else None)

    def peak_memory(self):
        """The largest resident set the process ever had, in bytes."""
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        raise Failed("the kernel does not report VmHWM")

    def stop(self, ask=signal.SIGTERM, timeout=30):
        """Asks it to end and expects that it does, cleanly and with nothing more on standard output."""
        must(self.process.poll() is None, f"atcr dev ended by itself; see {self.log_path}")
        self.process.send_signal(ask)
        try:
            rest, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"atcr dev did not stop within {timeout} s of {ask.name}") from None
        must(self.process.returncode == 0, f"atcr dev exited {self.process.returncode} on {ask.name}")
        must(not rest, f"atcr dev --json wrote more than one line: {rest[:200]!r}")

    def kill(self):
        """SIGKILL: no goodbye, no flush."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def _line(self, timeout):
        deadline, line = time.monotonic() + timeout, b""
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                must(ready.select(max(0, deadline - time.monotonic())), f"no line within {timeout} s")
                piece = os.read(self.process.stdout.fileno(), 65536)
                must(piece, "it ended before saying so")
                line += piece
        return line
