from clients.client import DENIED, UNAUTHORIZED, Client
from lib.layout import Layout, must_equal
from lib.process import must


class Crane(Client):
    name = "crane"
    cannot = {
        "cut": "crane takes a token from the host of the registry only, and the proxy that cuts is another",
        "referrers": "crane has no referrers command",
        "chunks": "crane sends each blob in one PATCH",
        "run": "crane runs nothing",
    }

    @classmethod
    def version(cls, shell):
        return shell.run("crane", "version").strip().lstrip("v")

    def set_up(self):
        self.shell.env |= {"DOCKER_CONFIG": self.home}

    def crane(self, *arguments, **options):
        return self.shell.run("crane", "--insecure", *arguments, **{"timeout": 300, **options})

    def push_layout(self, layout, reference):
        self.crane("push", layout.path, reference)

    def pull_layout(self, reference, **options):
        path = self.fresh("pulled")
        self.crane("pull", "--format", "oci", reference, path, **options)
        return Layout(path)

    def sign_in(self, handle, password, config):
        """Writes the credentials down: crane does not try them here."""
        self.crane("auth", "login", self.host, "--username", handle, "--password-stdin", stdin=password.encode(),
                   env={"DOCKER_CONFIG": config})

    def login(self):
        self.sign_in(self.handle, self.server.password(self.handle), self.home)
        token = self.crane("auth", "token", "--push", f"{self.host}/{self.repository()}")
        must("token" in token, f"no token: {token}")

    def wrong_password(self):
        config = self.fresh("wrong")
        self.sign_in(self.handle, "wrong", config)
        self.shell.refused("crane", "--insecure", "auth", "token", "--push", f"{self.host}/{self.repository()}",
                           saying=UNAUTHORIZED, env={"DOCKER_CONFIG": config})

    def tags(self):
        listed = self.crane("ls", f"{self.host}/{self.repository()}")
        must("1.0" in listed.split(), f"1.0 is not in {listed}")

    def delete(self):
        """The tag first, then the manifest."""
        variant = self.push_variant("gone")
        self.crane("delete", self.reference("gone"))
        self.must_be_gone("gone", "1.0")
        still = self.as_owner().has(self.repository("gone"), "manifests", variant.digest)
        must(still, "the manifest went with the tag")
        self.crane("delete", f"{self.host}/{self.repository('gone')}@{variant.digest}")
        self.must_be_gone("gone", variant.digest)

    def copy(self):
        self.crane("copy", self.reference(), self.reference("copy"))
        self.must_be_copied("copy")

    def anonymous(self):
        must_equal(self.images.app, self.pull_layout(self.reference(), env={"DOCKER_CONFIG": self.empty_login()}))

    def denied(self):
        config = self.fresh("bob")
        self.sign_in("bob.test", self.server.password("bob.test"), config)
        self.shell.refused("crane", "--insecure", "push", self.images.app.path, self.reference("stolen"),
                           saying=DENIED, env={"DOCKER_CONFIG": config})
