"""OCI image layouts on disk: read, written, compared byte by byte."""

import filecmp
import gzip
import hashlib
import json
import os
import shutil

from lib.process import Failed, must

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TAG = "org.opencontainers.image.ref.name"


class Layout:
    """A directory that holds one image or index under one tag."""

    def __init__(self, path, tag="1.0"):
        self.path, self.tag = path, tag

    def __str__(self):
        return f"{self.path}:{self.tag}"

    @property
    def root(self):
        """The descriptor of the image or index."""
        with open(f"{self.path}/index.json") as file:
            entries = json.load(file)["manifests"]
        named = [entry for entry in entries if entry.get("annotations", {}).get(TAG) == self.tag]
        found = named or entries
        must(len({entry["digest"] for entry in found}) == 1, f"{self} names {len(found)} images")
        return found[0]

    @property
    def digest(self):
        return self.root["digest"]

    def blob(self, digest):
        return os.path.join(self.path, "blobs", *digest.split(":"))

    def json(self, digest):
        with open(self.blob(digest), "rb") as file:
            return json.load(file)

    def image(self, architecture="amd64"):
        """The digest of the image manifest for an architecture: the root, or an entry of a root index."""
        if self.root["mediaType"] != INDEX:
            return self.digest
        for entry in self.json(self.digest)["manifests"]:
            if entry["platform"]["architecture"] == architecture:
                return entry["digest"]
        raise Failed(f"{self} has no image for {architecture}")

    def config(self):
        return self.json(self.image())["config"]["digest"]

    def reach(self):
        """The descriptors of everything the root needs, each once, parents before children."""
        todo, found = [self.root], {}
        while todo:
            entry = todo.pop(0)
            if entry["digest"] in found:
                continue
            found[entry["digest"]] = entry
            if entry["mediaType"] in (MANIFEST, INDEX):
                document = self.json(entry["digest"])
                todo += document.get("manifests", []) + document.get("layers", [])
                todo += [document["config"]] if "config" in document else []
        return list(found.values())

    def write(self, data):
        """Stores small bytes as a blob and returns its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        os.makedirs(f"{self.path}/blobs/sha256", exist_ok=True)
        with open(self.blob(digest), "wb") as file:
            file.write(data)
        return digest

    def write_root(self, document):
        """Stores a manifest or index and makes it what the layout's tag points at."""
        data = json.dumps(document, indent=2).encode()
        entry = {"mediaType": document["mediaType"], "digest": self.write(data), "size": len(data),
                 "annotations": {TAG: self.tag}}
        with open(f"{self.path}/oci-layout", "w") as file:
            json.dump({"imageLayoutVersion": "1.0.0"}, file)
        with open(f"{self.path}/index.json", "w") as file:
            json.dump({"schemaVersion": 2, "manifests": [entry]}, file)

    def variant(self, path, **annotations):
        """The same image under another digest: a copy whose manifest carries further annotations."""
        shutil.copytree(self.path, path)
        copy = Layout(path, self.tag)
        copy.write_root({**self.json(self.digest), "mediaType": MANIFEST, "annotations": annotations})
        return copy


def must_equal(source, pulled):
    """Fails unless manifests, configurations and layers of both layouts are the same bytes."""
    must(pulled.digest == source.digest, f"pulled {pulled.digest}, pushed {source.digest}")
    for digest in (entry["digest"] for entry in source.reach()):
        must(os.path.exists(pulled.blob(digest)), f"{digest} was not pulled")
        must(filecmp.cmp(source.blob(digest), pulled.blob(digest), shallow=False), f"{digest} differs")


def must_hold(source, pulled):
    """For clients that compress layers anew: the same configuration, and layers that unpack to what it names."""
    must(pulled.config() == source.config(), "the configuration differs")
    wanted = source.json(source.config())["rootfs"]["diff_ids"]
    layers = pulled.json(pulled.image())["layers"]
    found = [_unpacked(pulled.blob(layer["digest"]), layer["mediaType"]) for layer in layers]
    must(found == wanted, f"layers unpack to {found}, the configuration names {wanted}")


def _unpacked(path, media_type):
    opener = gzip.open if media_type.endswith("gzip") else open
    with opener(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
