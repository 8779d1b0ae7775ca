"""What podman and buildah share: they keep images unpacked in a store and compress layers anew when they push."""

import os
import shutil

from clients.client import BIG, DENIED, UNAUTHORIZED, Client
from lib import images
from lib.layout import must_hold
from lib.process import Failed, NotApplicable, must


class StorageClient(Client):
    """Drives `self.name` on a vfs store of its own."""

    @classmethod
    def version(cls, shell):
        return shell.run(cls.name, "--version").split()[2].rstrip(",")

    def set_up(self):
        """A store and settings of its own: nothing of the machine's is read or written."""
        self.auth = f"{self.home}/auth.json"
        os.makedirs(f"{self.home}/tmp")
        with open(f"{self.home}/storage.conf", "w") as file:
            file.write(f'[storage]\ndriver = "vfs"\ngraphroot = "{self.home}/root"\nrunroot = "{self.home}/run"\n')
        with open(f"{self.home}/containers.conf", "w") as file:
            file.write(f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
                       f'tmp_dir = "{self.home}/tmp"\n')
        self.shell.env |= {
            "CONTAINERS_CONF": f"{self.home}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.home}/storage.conf",
            "REGISTRY_AUTH_FILE": self.auth,
            "TMPDIR": f"{self.home}/tmp",
        }

    def tool(self, command, *arguments, **options):
        return self.shell.run(self.name, *command.split(), *arguments, **{"timeout": 300, **options})

    def remote(self, command, *arguments, **options):
        """A command that speaks to the registry."""
        return self.tool(command, "--tls-verify=false", "--authfile", self.auth, *arguments, **options)

    def load(self, layout):
        """Takes an image from a layout into the store and returns its id. The path becomes the image's name there."""
        folder, name = os.path.split(layout.path)
        return self.tool("pull", "--quiet", f"oci:{name}:{layout.tag}", cwd=folder).split()[-1]

    def empty(self):
        """Removes every image, so that the next pull takes nothing from the store."""
        self.tool("rmi", "--all", "--force")

    def image(self, name, field):
        """A field of an image in the store."""
        raise NotImplementedError

    def sign_in(self, handle, password, auth):
        return [self.name, "login", "--tls-verify=false", "--authfile", auth, "--username", handle,
                "--password-stdin", self.host], password.encode()

    def login(self):
        argv, password = self.sign_in(self.handle, self.server.password(self.handle), self.auth)
        self.shell.run(*argv, stdin=password)

    def wrong_password(self):
        argv, password = self.sign_in(self.handle, "wrong", f"{self.home}/wrong.json")
        self.shell.refused(*argv, stdin=password, saying=UNAUTHORIZED)

    def push_image(self, image, purpose):
        """Pushes from the store; the registry must then name the manifest that the client says it pushed."""
        said = f"{self.home}/digest"
        self.remote("push", "--quiet", "--digestfile", said, image, f"docker://{self.reference(purpose)}")
        with open(said) as file:
            digest = file.read().strip()
        answer = self.as_owner().ask("HEAD", f"/v2/{self.repository(purpose)}/manifests/1.0")
        must(answer.headers["Docker-Content-Digest"] == digest, "the registry holds another manifest than was pushed")
        return digest

    def push_as(self, layout, purpose):
        self.push_image(self.load(layout), purpose)

    def must_be_whole(self, source, purpose):
        """What was pushed unpacks to what was in the store."""
        must_hold(source, self.as_owner().pull(self.repository(purpose), "1.0", self.fresh("witness")))

    def pull_image(self, reference, digest, config, auth=None):
        """Pulls into an emptied store; the store then names the same manifest and configuration."""
        self.empty()
        self.tool("pull", "--quiet", "--tls-verify=false", "--authfile", auth or self.auth, f"docker://{reference}")
        must(self.image(reference, "digest") == digest, "the pulled manifest differs")
        must(self.image(reference, "id") == config.removeprefix("sha256:"), "the configuration differs")

    def push(self):
        self.digest = self.push_image(self.load(self.images.app), "app")
        self.must_be_whole(self.images.app, "app")

    def push_again(self):
        digest = self.digest
        self.push()
        must(self.digest == digest, "the same image became another manifest")

    def pull(self):
        """An image that was not pushed by this client comes down unchanged, and so does its own."""
        exact, config = self.repository("exact"), self.images.app.config()
        self.as_owner().push(exact, self.images.app)
        self.pull_image(f"{self.host}/{exact}:1.0", self.images.app.digest, config)
        self.pull_image(self.reference(), self.digest, config)

    def index(self):
        """A manifest list made by the client of two images on the registry, pushed, and pulled for one platform."""
        self.empty()
        owner, name = self.as_owner(), f"localhost/{self.name}-multi"
        for purpose, layout in (("amd64", self.images.app), ("arm64", self.images.arm)):
            owner.push(self.repository(purpose), layout)
        self.tool("manifest create", name)
        for purpose in ("amd64", "arm64"):
            self.remote("manifest add", name, f"docker://{self.reference(purpose)}")
        self.remote("manifest push", "--all", name, f"docker://{self.reference('multi')}")
        pushed = owner.pull(self.repository("multi"), "1.0", self.fresh("multi"))
        for architecture, layout in (("amd64", self.images.app), ("arm64", self.images.arm)):
            must(pushed.image(architecture) == layout.digest, f"the index names another image for {architecture}")
        self.tool("manifest rm", name)
        self.remote("pull", "--quiet", "--arch", "arm64", f"docker://{self.reference('multi')}")
        must(self.image(self.reference("multi"), "id") == self.images.arm.config().removeprefix("sha256:"),
             "pulled the image of another platform")

    def copy(self):
        """Pulls from one repository and pushes to another."""
        self.empty()
        reference = self.reference()
        self.remote("pull", "--quiet", f"docker://{reference}")
        self.push_image(reference, "copy")
        self.must_be_whole(self.images.app, "copy")

    def anonymous(self):
        self.pull_image(f"{self.host}/{self.repository('exact')}:1.0", self.images.app.digest, self.images.app.config(),
                        auth=f"{self.empty_login()}/config.json")

    def denied(self):
        image, bob = self.load(self.images.app), f"{self.home}/bob.json"
        argv, password = self.sign_in("bob.test", self.server.password("bob.test"), bob)
        self.shell.run(*argv, stdin=password)
        self.shell.refused(self.name, "push", "--tls-verify=false", "--authfile", bob,
                           image, f"docker://{self.reference('stolen')}", saying=DENIED)

    def big(self):
        source = images.big(self.fresh("big"), self.name, BIG)
        try:
            digest = self.push_image(self.load(source), "big")
            self.pull_image(self.reference("big"), digest, source.config())
        finally:
            self.empty()
            shutil.rmtree(source.path)

    def probe(self, *argv):
        """Runs a command on an image that came from disk: does this machine let containers run at all?"""
        try:
            self.shell.run(*argv, timeout=60)
        except Failed as problem:
            raise NotApplicable(f"no container runs on this machine: {problem}") from None
