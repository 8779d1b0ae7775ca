"""A PostgreSQL server of Debian's package, on loopback."""

import glob
import os
import shutil
import signal
import subprocess
import tempfile

from lib.process import must
from lib.service import Service, free_port

# It does not run as root.
NOBODY = 65534


class Postgres(Service):
    """A server on a directory of its own, which goes with it, and with the database `atcr`."""

    def __init__(self, log):
        super().__init__(log)
        self.port = free_port()
        self.url = f"postgres://atcr@127.0.0.1:{self.port}/atcr"
        self.demote = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}

    def __enter__(self):
        # Not below the suite's, which is root's alone.
        self.data_dir = tempfile.mkdtemp(prefix="atcr-interop-postgres-")
        if self.demote:
            shutil.chown(self.data_dir, NOBODY, NOBODY)
        self._run("initdb", "-D", self.data_dir, "-U", "atcr", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "atcr", "atcr")
        return self

    def __exit__(self, *failure):
        self.kill()
        shutil.rmtree(self.data_dir)

    def command(self):
        return [program("postgres"), "-D", self.data_dir, "-k", self.data_dir, "-h", "127.0.0.1", "-p", str(self.port)]

    def options(self):
        return {"cwd": self.data_dir, **self.demote}

    def answers(self):
        return subprocess.run([program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode == 0

    def kill(self):
        """SIGQUIT, by which it takes its children with it: no goodbye, no flush."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(10)

    def _run(self, name, *arguments):
        with open(self.log_path, "ab") as log:
            done = subprocess.run([program(name), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  timeout=60, **self.options())
        must(done.returncode == 0, f"{name} exited {done.returncode}; see {self.log_path}")


def program(name):
    """Debian keeps the server's programs out of the path."""
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)), None)
    must(found, f"{name} is not here; install PostgreSQL (Debian: apt-get install postgresql)")
    return found
