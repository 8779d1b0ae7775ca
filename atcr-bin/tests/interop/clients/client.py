"""What every row of the table has to answer for."""

import json
import os
import shutil

from lib import images
from lib.cutter import Cutter
from lib.layout import must_equal
from lib.process import Failed, NotApplicable, Shell, must

# Column title, method. Every client has the method, or says in `cannot` why it has not.
OPERATIONS = [
    ("login", "login"),
    ("bad pw", "wrong_password"),
    ("push", "push"),
    ("again", "push_again"),
    ("pull", "pull"),
    ("index", "index"),
    ("tags", "tags"),
    ("delete", "delete"),
    ("copy", "copy"),
    ("anon", "anonymous"),
    ("denied", "denied"),
    ("1 GiB", "big"),
    ("cut", "cut"),
    ("referr.", "referrers"),
    ("chunks", "chunks"),
    ("run", "run"),
]
DENIED = ["denied"]
UNAUTHORIZED = ["unauthorized", "authentication required", "invalid username/password", "401"]
BIG = (1 << 30) + (1 << 20)
CUT, CUT_AFTER = 64 << 20, 24 << 20


class Client:
    """A client program and the files it keeps. Operations are methods; they return, or raise what went wrong."""

    name = ""
    cannot = {}

    def __init__(self, server, pictures, directory, logs):
        self.server, self.images, self.logs = server, pictures, logs
        self.home = f"{directory}/{self.name}"
        os.makedirs(self.home)
        self.host = server.registry
        self.handle = "alice.test"
        self.shell = Shell(f"{logs}/{self.name}.log")
        self.set_up()

    def set_up(self):
        """Environment and settings before the first operation."""

    def close(self):
        """Ends what `set_up` has started."""

    @classmethod
    def version(cls, shell):
        """The version, as the program reports it."""
        raise NotImplementedError

    def perform(self, operation):
        if operation in self.cannot:
            raise NotApplicable(self.cannot[operation])
        self.shell.log = f"{self.logs}/{self.name}-{operation}.log"
        getattr(self, operation)()

    def repository(self, purpose="app"):
        """A repository of this client's own, so that no row leans on another."""
        return f"{self.handle}/{self.name}-{purpose}"

    def reference(self, purpose="app", tag="1.0"):
        return f"{self.host}/{self.repository(purpose)}:{tag}"

    def fresh(self, name):
        """A directory that does not exist yet."""
        path = f"{self.home}/{name}"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def as_owner(self):
        """Our own client, logged in as the owner: the witness of what the registry holds."""
        return self.server.client(self.handle)

    def empty_login(self):
        """A docker-style file of credentials without any."""
        path = f"{self.home}/nobody"
        os.makedirs(path, exist_ok=True)
        with open(f"{path}/config.json", "w") as file:
            json.dump({}, file)
        return path

    # Operations that need nothing but a push and a pull of layouts.

    def push_again(self):
        self.push()
        answer = self.as_owner().ask("HEAD", f"/v2/{self.repository()}/manifests/1.0")
        must(answer.headers["Docker-Content-Digest"] == self.images.app.digest, "the tag moved")

    def index(self):
        self.push_layout(self.images.multi, self.reference("multi"))
        must_equal(self.images.multi, self.pull_layout(self.reference("multi")))

    def push(self):
        self.push_layout(self.images.app, self.reference())

    def pull(self):
        must_equal(self.images.app, self.pull_layout(self.reference()))

    def big(self):
        source = images.big(self.fresh("big"), self.name, BIG)
        pulled = None
        try:
            self.push_layout(source, self.reference("big"))
            pulled = self.pull_layout(self.reference("big"))
            must_equal(source, pulled)
        finally:
            for layout in (source, pulled):
                if layout:
                    shutil.rmtree(layout.path)

    def cut(self):
        """The connection breaks within a layer. By itself or when it is run again, the client ends the push."""
        source, direct = images.big(self.fresh("cut"), f"{self.name} cut", CUT), self.host
        try:
            with Cutter(direct, CUT_AFTER) as cutter:
                self.host = cutter.address
                if "login" not in self.cannot:
                    self.login()
                try:
                    self.push_as(source, "cut")
                except Failed:
                    must(cutter.cuts, "the push failed before it was cut")
                    self.push_as(source, "cut")
            must(cutter.cuts, "nothing was cut")
            self.must_be_whole(source, "cut")
        finally:
            self.host = direct
            shutil.rmtree(source.path)

    def push_as(self, layout, purpose):
        self.push_layout(layout, self.reference(purpose))

    def must_be_whole(self, source, purpose):
        """The registry holds what was pushed."""
        must_equal(source, self.as_owner().pull(self.repository(purpose), "1.0", self.fresh("witness")))

    def push_variant(self, purpose):
        """Pushes an image that nothing else refers to, so that it can be deleted."""
        variant = self.images.app.variant(self.fresh(f"variant-{purpose}"), client=self.name, purpose=purpose)
        self.push_layout(variant, self.reference(purpose))
        return variant

    def must_be_gone(self, purpose, *references):
        for reference in references:
            must(not self.as_owner().has(self.repository(purpose), "manifests", reference),
                 f"{reference} is still there")

    def must_be_copied(self, purpose):
        """The image stands in another repository, whole."""
        self.must_be_whole(self.images.app, purpose)

    def push_layout(self, layout, reference):
        raise NotImplementedError

    def pull_layout(self, reference):
        raise NotImplementedError
