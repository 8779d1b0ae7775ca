import json

from clients.storage import StorageClient
from lib.process import must


class Podman(StorageClient):
    name = "podman"
    cannot = {
        "delete": "podman deletes nothing on a registry",
        "referrers": "podman has no referrers command",
        "chunks": "podman sends each blob in one PATCH",
    }

    def image(self, name, field):
        found = json.loads(self.tool("image inspect", name))[0]
        return found[{"id": "Id", "digest": "Digest"}[field]]

    def tags(self):
        listed = self.tool("search", "--list-tags", "--tls-verify=false", "--authfile", self.auth,
                           f"{self.host}/{self.repository()}")
        must("1.0" in listed.split(), f"1.0 is not in {listed}")

    def run(self):
        # Limits below the machine's: a sandbox without CAP_SYS_RESOURCE may lower them only.
        inside = ["--rm", "--pull=never", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
        self.probe(self.name, "run", *inside, self.load(self.images.app), "/bin/true")
        self.empty()
        self.remote("pull", "--quiet", f"docker://{self.reference()}")
        said = self.tool("run", *inside, self.reference(), "cat", "/etc/hello")
        must(said == "hello from amd64\n", f"the container said {said!r}")
