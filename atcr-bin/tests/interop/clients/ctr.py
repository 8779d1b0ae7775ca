import os
import time

from clients.client import DENIED, UNAUTHORIZED, Client
from lib.layout import Layout, must_equal
from lib.process import Failed, Shell, end, must

# What only Kubernetes, or other file systems, need.
UNUSED = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
          "io.containerd.snapshotter.v1.zfs"]


class Ctr(Client):
    """containerd, by its own client."""

    name = "ctr"
    cannot = {
        "login": "ctr keeps no login; each command has the password",
        "tags": "ctr has no command for it",
        "delete": "ctr deletes nothing at a registry",
        "copy": "ctr copies nothing between repositories",
        "referrers": "ctr has no referrers command",
        "chunks": "containerd sends each blob in one PUT",
    }

    @classmethod
    def version(cls, shell):
        return shell.run("ctr", "--version").split()[-1]

    def set_up(self):
        self.socket = f"{self.home}/containerd.sock"
        with open(f"{self.home}/config.toml", "w") as file:
            file.write(f'version = 2\nroot = "{self.home}/root"\nstate = "{self.home}/state"\n'
                       f'disabled_plugins = {UNUSED}\n[grpc]\naddress = "{self.socket}"\n')
        self.daemon = Shell(f"{self.logs}/containerd.log").start("containerd", "--config", f"{self.home}/config.toml")
        for _ in range(100):
            if os.path.exists(self.socket):
                return
            time.sleep(0.1)
        raise Failed(f"containerd does not start; see {self.logs}/containerd.log")

    def close(self):
        self.daemon.terminate()
        self.daemon.wait(30)
        end(self.daemon)

    def ctr(self, *arguments, **options):
        return self.shell.run("ctr", "--address", self.socket, *arguments, **{"timeout": 300, **options})

    def login_of(self, handle, password=None):
        return "--user", f"{handle}:{password or self.server.password(handle)}"

    def load(self, layout, reference):
        """Makes a layout an image of containerd's."""
        archive = self.fresh("archive") + ".tar"
        self.shell.run("tar", "--create", "--file", archive, "--directory", layout.path, ".")
        # An image is called by this name and the tag that the layout has.
        name, _, _ = reference.rpartition(":")
        self.ctr("images", "import", "--all-platforms", "--no-unpack", "--base-name", name, archive)
        os.remove(archive)

    def forget(self, reference):
        """Also the content: nothing else refers to it."""
        self.ctr("images", "rm", "--sync", reference)

    def push_argv(self, reference, *login):
        return "images", "push", "--plain-http", *login, reference

    def push_layout(self, layout, reference):
        self.load(layout, reference)
        self.ctr(*self.push_argv(reference, *self.login_of(self.handle)))
        self.forget(reference)

    def fetch(self, reference, *login):
        self.ctr("images", "pull", "--plain-http", "--all-platforms", "--snapshotter", "native", *login, reference)

    def pull_layout(self, reference, *login):
        layout, archive = Layout(self.fresh("pulled")), self.fresh("archive") + ".tar"
        os.makedirs(layout.path)
        self.fetch(reference, *login)
        self.ctr("images", "export", "--all-platforms", archive, reference)
        self.forget(reference)
        self.shell.run("tar", "--extract", "--file", archive, "--directory", layout.path)
        os.remove(archive)
        return layout

    def refused(self, reference, *login, saying):
        self.load(self.images.app, reference)
        self.shell.refused("ctr", "--address", self.socket, *self.push_argv(reference, *login), saying=saying)
        self.forget(reference)

    def wrong_password(self):
        self.refused(self.reference("wrong"), *self.login_of(self.handle, "wrong"), saying=UNAUTHORIZED)

    def pull(self):
        must_equal(self.images.app, self.pull_layout(self.reference(), *self.login_of(self.handle)))

    def anonymous(self):
        must_equal(self.images.app, self.pull_layout(self.reference()))

    def denied(self):
        self.refused(self.reference("stolen"), *self.login_of("bob.test"), saying=[*DENIED, "403"])

    def run(self):
        self.fetch(self.reference())
        said = self.ctr("run", "--rm", "--snapshotter", "native", self.reference(), "atcr-interop")
        must(said.strip() == "x86_64", f"the container says {said}")
