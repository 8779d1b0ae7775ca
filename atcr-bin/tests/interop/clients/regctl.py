import json

from clients.client import DENIED, UNAUTHORIZED, Client
from lib.layout import Layout, must_equal
from lib.process import must

TYPE = "application/vnd.example.sbom"


class Regctl(Client):
    name = "regctl"
    cannot = {"run": "regctl runs nothing"}

    @classmethod
    def version(cls, shell):
        return shell.run("regctl", "version").split()[1].lstrip("v")

    def set_up(self):
        self.config = f"{self.home}/config.json"

    def regctl(self, *arguments, config=None, **options):
        return self.shell.run("regctl", *arguments,
                              **{"timeout": 300, "env": {"REGCTL_CONFIG": config or self.config}, **options})

    def plain(self, config, *settings):
        """A configuration that speaks HTTP to the registry."""
        self.regctl("registry", "set", self.host, "--tls", "disabled", "--skip-check", *settings, config=config)

    def push_layout(self, layout, reference):
        self.regctl("image", "copy", f"ocidir://{layout}", reference)

    def pull_layout(self, reference, **options):
        layout = Layout(self.fresh("pulled"))
        self.regctl("image", "copy", reference, f"ocidir://{layout}", **options)
        return layout

    def sign_in(self, handle, password, config):
        return ["regctl", "registry", "login", self.host, "--user", handle, "--pass-stdin"], {
            "stdin": password.encode(), "env": {"REGCTL_CONFIG": config}}

    def login(self):
        self.plain(self.config)
        argv, options = self.sign_in(self.handle, self.server.password(self.handle), self.config)
        self.shell.run(*argv, **options)

    def wrong_password(self):
        config = f"{self.home}/wrong.json"
        self.plain(config)
        argv, options = self.sign_in(self.handle, "wrong", config)
        self.shell.refused(*argv, **options, saying=UNAUTHORIZED)

    def tags(self):
        listed = self.regctl("tag", "ls", f"{self.host}/{self.repository()}")
        must("1.0" in listed.split(), f"1.0 is not in {listed}")

    def delete(self):
        """The tag first, then the manifest."""
        variant = self.push_variant("gone")
        self.regctl("tag", "delete", self.reference("gone"))
        self.must_be_gone("gone", "1.0")
        still = self.as_owner().has(self.repository("gone"), "manifests", variant.digest)
        must(still, "the manifest went with the tag")
        self.regctl("manifest", "delete", f"{self.host}/{self.repository('gone')}@{variant.digest}")
        self.must_be_gone("gone", variant.digest)

    def copy(self):
        self.regctl("image", "copy", self.reference(), self.reference("copy"))
        self.must_be_copied("copy")

    def anonymous(self):
        config = f"{self.home}/nobody.json"
        self.plain(config)
        must_equal(self.images.app, self.pull_layout(self.reference(), config=config))

    def denied(self):
        config = f"{self.home}/bob.json"
        self.plain(config)
        argv, options = self.sign_in("bob.test", self.server.password("bob.test"), config)
        self.shell.run(*argv, **options)
        self.shell.refused("regctl", "image", "copy", f"ocidir://{self.images.app}", self.reference("stolen"),
                           saying=DENIED, env={"REGCTL_CONFIG": config})

    def referrers(self):
        subject = self.push_variant("signed")
        self.regctl("artifact", "put", "--artifact-type", TYPE, "--subject", self.reference("signed"),
                    stdin=b'{"packages":[]}')
        listed = json.loads(self.regctl("artifact", "list", self.reference("signed"), "--filter-artifact-type", TYPE,
                                        "--format", "body"))["manifests"]
        must([entry["artifactType"] for entry in listed] == [TYPE], f"listed: {listed}")
        manifest = json.loads(self.regctl("manifest", "get", "--format", "body",
                                          f"{self.host}/{self.repository('signed')}@{listed[0]['digest']}"))
        must(manifest["subject"]["digest"] == subject.digest, "it refers to another subject")

    def chunks(self):
        """Every blob in pieces of 64 KiB with Content-Range, and one that ends within a piece."""
        config = f"{self.home}/chunks.json"
        self.plain(config, "--blob-chunk", "65536", "--blob-max", "65536")
        argv, options = self.sign_in(self.handle, self.server.password(self.handle), config)
        self.shell.run(*argv, **options)
        self.regctl("image", "copy", f"ocidir://{self.images.app}", self.reference("chunks"), config=config)
        must_equal(self.images.app, self.pull_layout(self.reference("chunks")))
