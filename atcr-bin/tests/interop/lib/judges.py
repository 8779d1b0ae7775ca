"""The judges as programs, and the repositories that they judge."""

import contextlib
import json
import os
import subprocess
import threading
from dataclasses import dataclass, field

from lib import xrpc
from lib.process import end, must

HERE = os.path.realpath(f"{os.path.dirname(__file__)}/..")


@dataclass
class Subject:
    """A repository, where it is served, and who may write it."""

    name: str
    pds: str
    did: str
    writer: tuple  # PDS, handle and password
    handle: str = None
    home: str = None  # The address in the DID document, when it is another one.
    service: bool = False  # Written with service tokens, as a hold is.
    map: list = field(default_factory=list)

    def arguments(self, plc):
        yield from ("--pds", self.pds, "--plc", plc, "--did", self.did)
        if self.handle:
            yield from ("--handle", self.handle)
        for origin in self.map:
            yield from ("--map", origin)


def of_account(server, handle):
    """An account of the development PDS: did:plc."""
    writer = (server.ready["pds"], handle, server.password(handle))
    return Subject("account did:plc", server.ready["pds"], server.accounts[handle]["did"], writer, handle)


def of_hold(server, hold):
    """A hold that runs on its own. A did:web is fetched from loopback, and its host is the handle."""
    writer = (server.ready["pds"], hold.owner, server.password(hold.owner))
    subject = Subject(f"hold did:{hold.method}", hold.url, hold.did, writer, home=hold.public_url, service=True)
    if hold.method == "web":
        subject.handle = hold.did.removeprefix("did:web:")
        subject.map = [f"https://{subject.handle}={hold.url}"]
    return subject


class Judges:
    """Runs the judges of one scenario."""

    def __init__(self, suite, name, plc):
        self.suite, self.name, self.plc, self.shell = suite, name, plc, suite.shell(name)
        self.python = f"{suite.cache}/python/bin/python"

    def first(self, subject, *more):
        """The reference packages for Node; returns what they print."""
        arguments = [*subject.arguments(self.plc), "--home", subject.home or subject.pds]
        return json.loads(self.shell.run("node", f"{HERE}/atproto/verify.mjs", *arguments, *more, timeout=300))

    def second(self, subject, pds=None):
        """The Python SDK; `pds` is where it looks when that is not the subject's."""
        arguments = ["--home", subject.home or subject.pds, *subject.arguments(self.plc)]
        if pds:
            arguments += ["--pds", pds]
        return json.loads(self.shell.run(self.python, f"{HERE}/python/verify.py", *arguments))

    def third(self, subject):
        """indigo's repo-tool, over an export."""
        path = f"{self.suite.directory}/{self.name}.car"
        with open(path, "wb") as file:
            file.write(xrpc.query(subject.pds, "com.atproto.sync.getRepo", did=subject.did))
        out = self.shell.run("repo-tool", "verify-car-mst", path)
        return [{"name": "export", "ok": out.strip() == "verified tree", "note": out}]

    def hold(self, subject, judge):
        """Fails when a check does; returns their number."""
        results = judge(subject)
        for result in results:
            if not result["ok"]:
                self.suite.say(f"{self.name} {subject.name}: {result['name']}: {result['note']}")
        failed = [result["name"] for result in results if not result["ok"]]
        must(not failed, f"{subject.name}: {', '.join(failed)}")
        return len(results)

    def churn(self, subject, *more):
        """Starts random writes; its standard output is a pipe."""
        pds, handle, password = subject.writer
        arguments = ["--pds", subject.pds, "--did", subject.did, "--session", pds, "--handle", handle,
                     "--password", password, *more]
        if subject.service:
            arguments.append("--service")
        return self.pipe("node", f"{HERE}/atproto/churn.mjs", *arguments)

    def pipe(self, *argv):
        """A program that is spoken to over pipes; what it complains of goes to the log."""
        with open(self.shell.log, "ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                    env=self.shell.env, start_new_session=True)

    def follows(self, process, timeout=60):
        """Waits until a follower has the first event."""
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        must(line.strip() == "following", f"`{' '.join(process.args[:2])}` does not follow; see {self.shell.log}")

    def said(self, process, timeout):
        """The last line of a program that is about to end, as JSON."""
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            process.stdin.close()
            out = process.stdout.read()
            process.wait()
        finally:
            timer.cancel()
        must(process.poll() == 0 and out, f"`{' '.join(process.args[:2])}` exited {process.poll()}; see {self.shell.log}")
        return json.loads(out.splitlines()[-1])

    @contextlib.contextmanager
    def lying(self, lie, subject):
        """The address of a proxy in front of a subject that lies in one respect."""
        proxy = self.pipe("node", f"{HERE}/atproto/lying-proxy.mjs", subject.pds, lie)
        try:
            yield proxy.stdout.readline().strip()
        finally:
            end(proxy)
