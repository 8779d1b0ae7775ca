import json

from clients.storage import StorageClient
from lib.process import must


class Buildah(StorageClient):
    name = "buildah"
    cannot = {
        "tags": "buildah lists no tags",
        "delete": "buildah deletes nothing on a registry",
        "referrers": "buildah has no referrers command",
        "chunks": "buildah sends each blob in one PATCH",
    }

    def image(self, name, field):
        found = json.loads(self.tool("inspect", "--type", "image", name))
        return found[{"id": "FromImageID", "digest": "FromImageDigest"}[field]]

    def run(self):
        """Builds an image on a pulled one, running a command in it, and pushes the result."""
        isolated = ["--isolation", "chroot"]
        probe = self.tool("from", self.load(self.images.app)).strip()
        self.probe(self.name, "run", *isolated, probe, "/bin/true")
        self.tool("rm", "--all")
        self.empty()
        built = self.remote("from", f"docker://{self.reference()}").strip()
        said = self.tool("run", *isolated, built, "cat", "/etc/hello")
        must(said == "hello from amd64\n", f"the container said {said!r}")
        self.tool("run", *isolated, built, "bash", "-c", "echo built > /etc/built")
        image = self.tool("commit", "--quiet", built, "localhost/built").split()[-1]
        self.tool("rm", "--all")
        self.remote("push", "--quiet", image, f"docker://{self.reference('built')}")
        pulled = self.as_owner().pull(self.repository("built"), "1.0", self.fresh("built"))
        must(pulled.config() == f"sha256:{image}", "the registry holds another image than was built")
