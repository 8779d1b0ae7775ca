from clients.client import DENIED, UNAUTHORIZED, Client
from lib.layout import Layout, must_equal
from lib.process import must


class Skopeo(Client):
    name = "skopeo"
    cannot = {
        "referrers": "skopeo has no referrers command",
        "chunks": "skopeo sends each blob in one PATCH",
        "run": "skopeo runs nothing",
    }

    @classmethod
    def version(cls, shell):
        return shell.run("skopeo", "--version").split()[-1]

    def set_up(self):
        self.auth = f"{self.home}/auth.json"

    def skopeo(self, command, *arguments, **options):
        return self.shell.run("skopeo", "--insecure-policy", command, *arguments, **options)

    def copy_images(self, source, target, *options):
        return self.skopeo("copy", "--all", "--preserve-digests", "--authfile", self.auth, *options,
                           "--src-tls-verify=false", "--dest-tls-verify=false", source, target, timeout=300)

    def push_layout(self, layout, reference):
        self.copy_images(f"oci:{layout}", f"docker://{reference}")

    def pull_layout(self, reference, *options):
        layout = Layout(self.fresh("pulled"))
        self.copy_images(f"docker://{reference}", f"oci:{layout}", *options)
        return layout

    def sign_in(self, handle, password, auth):
        return ["skopeo", "login", "--tls-verify=false", "--authfile", auth, "--username", handle,
                "--password-stdin", self.host], password.encode()

    def login(self):
        argv, password = self.sign_in(self.handle, self.server.password(self.handle), self.auth)
        self.shell.run(*argv, stdin=password)

    def wrong_password(self):
        argv, password = self.sign_in(self.handle, "wrong", f"{self.home}/wrong.json")
        self.shell.refused(*argv, stdin=password, saying=UNAUTHORIZED)

    def push(self):
        """As a newcomer types it: without any option that protects the digest."""
        self.shell.run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--authfile", self.auth,
                       f"oci:{self.images.app}", f"docker://{self.reference()}")

    def tags(self):
        listed = self.skopeo("list-tags", "--tls-verify=false", "--authfile", self.auth,
                             f"docker://{self.host}/{self.repository()}")
        must('"1.0"' in listed, f"1.0 is not in {listed}")

    def delete(self):
        variant = self.push_variant("gone")
        self.skopeo("delete", "--tls-verify=false", "--authfile", self.auth, f"docker://{self.reference('gone')}")
        self.must_be_gone("gone", "1.0", variant.digest)

    def copy(self):
        self.copy_images(f"docker://{self.reference()}", f"docker://{self.reference('copy')}")
        self.must_be_copied("copy")

    def anonymous(self):
        must_equal(self.images.app, self.pull_layout(self.reference(), "--src-no-creds"))

    def denied(self):
        bob = f"{self.home}/bob.json"
        argv, password = self.sign_in("bob.test", self.server.password("bob.test"), bob)
        self.shell.run(*argv, stdin=password)
        self.shell.refused("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--authfile", bob,
                           f"oci:{self.images.app}", f"docker://{self.reference('stolen')}", saying=DENIED)
