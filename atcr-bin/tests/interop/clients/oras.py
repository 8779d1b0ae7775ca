import json

from clients.client import DENIED, UNAUTHORIZED, Client
from lib.layout import Layout, must_equal
from lib.process import must

TYPE = "application/vnd.example.sbom"


class Oras(Client):
    name = "oras"
    cannot = {
        "chunks": "oras sends each blob in one PUT",
        "run": "oras runs nothing",
    }

    @classmethod
    def version(cls, shell):
        return shell.run("oras", "version").split()[1]

    def set_up(self):
        self.auth = f"{self.home}/config.json"

    def oras(self, *arguments, auth=None, **options):
        return self.shell.run("oras", *arguments, "--registry-config", auth or self.auth,
                              **{"timeout": 300, **options})

    def remote(self, *arguments, **options):
        return self.oras(*arguments, "--plain-http", **options)

    def push_layout(self, layout, reference):
        self.shell.run("oras", "cp", "--from-oci-layout", str(layout), "--to-plain-http",
                       "--to-registry-config", self.auth, reference, timeout=300)

    def pull_layout(self, reference, auth=None):
        layout = Layout(self.fresh("pulled"))
        self.shell.run("oras", "cp", "--from-plain-http", "--from-registry-config", auth or self.auth, reference,
                       "--to-oci-layout", str(layout), timeout=300)
        return layout

    def sign_in(self, handle, password, auth):
        return ["oras", "login", "--plain-http", "--registry-config", auth, "--username", handle, "--password-stdin",
                self.host], password.encode()

    def login(self):
        argv, password = self.sign_in(self.handle, self.server.password(self.handle), self.auth)
        self.shell.run(*argv, stdin=password)

    def wrong_password(self):
        argv, password = self.sign_in(self.handle, "wrong", f"{self.home}/wrong.json")
        self.shell.refused(*argv, stdin=password, saying=UNAUTHORIZED)

    def tags(self):
        listed = self.remote("repo", "tags", f"{self.host}/{self.repository()}")
        must("1.0" in listed.split(), f"1.0 is not in {listed}")

    def delete(self):
        variant = self.push_variant("gone")
        self.remote("manifest", "delete", "--force", f"{self.host}/{self.repository('gone')}@{variant.digest}")
        self.must_be_gone("gone", "1.0", variant.digest)

    def copy(self):
        self.shell.run("oras", "cp", "--from-plain-http", "--from-registry-config", self.auth, self.reference(),
                       "--to-plain-http", "--to-registry-config", self.auth, self.reference("copy"))
        self.must_be_copied("copy")

    def anonymous(self):
        must_equal(self.images.app,
                   self.pull_layout(self.reference(), auth=f"{self.empty_login()}/config.json"))

    def denied(self):
        bob = f"{self.home}/bob.json"
        argv, password = self.sign_in("bob.test", self.server.password("bob.test"), bob)
        self.shell.run(*argv, stdin=password)
        self.shell.refused("oras", "cp", "--from-oci-layout", str(self.images.app), "--to-plain-http",
                           "--to-registry-config", bob, self.reference("stolen"), saying=DENIED)

    def referrers(self):
        self.push_variant("signed")
        with open(f"{self.home}/sbom.json", "w") as file:
            file.write('{"packages":[]}')
        attached = json.loads(self.remote("attach", "--disable-path-validation", "--artifact-type", TYPE, "--format",
                                          "json", self.reference("signed"), f"{self.home}/sbom.json:application/json"))
        found = json.loads(self.remote("discover", "--artifact-type", TYPE, "--format", "json",
                                       self.reference("signed")))
        must([entry["digest"] for entry in found["referrers"]] == [attached["digest"]], f"discovered: {found}")
        blob = f"{self.host}/{self.repository('signed')}@{attached['digest']}"
        self.remote("manifest", "fetch", blob)
