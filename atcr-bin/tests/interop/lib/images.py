"""The images that are pushed: root file systems of Debian packages, put together by umoci.

They are built once and kept in a cache directory that is named by this recipe.
"""

import glob
import hashlib
import json
import os
import random
import shutil
import tarfile

from lib.layout import INDEX, MANIFEST, Layout
from lib.process import Shell

PACKAGES = {
    "amd64": ["base-files", "bash", "busybox-static", "coreutils", "libacl1", "libattr1", "libc6", "libgmp10",
              "libpcre2-8-0", "libselinux1", "libtinfo6"],
    "arm64": ["base-files", "busybox-static"],
}
LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"


class Images:
    """`app` (amd64, two layers, whiteouts), `arm` (arm64) and `multi` (an index of both)."""

    def __init__(self, cache, log):
        with open(__file__, "rb") as recipe:
            key = hashlib.sha256(recipe.read()).hexdigest()[:12]
        self.directory = f"{cache}/images-{key}"
        if not os.path.isdir(self.directory):
            for old in glob.glob(f"{cache}/images-*"):
                shutil.rmtree(old)
            _build(f"{cache}/images-{key}.part", Shell(log))
            os.rename(f"{cache}/images-{key}.part", self.directory)
        self.app = Layout(f"{self.directory}/app")
        self.arm = Layout(f"{self.directory}/arm")
        self.multi = Layout(f"{self.directory}/multi")


def _build(directory, shell):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    app = _image(shell, f"{directory}/app", "amd64")
    arm = _image(shell, f"{directory}/arm", "arm64")
    _index(f"{directory}/multi", app, arm)


def _image(shell, path, architecture):
    """A layer with the unpacked packages, and one that deletes and adds files, so that it has whiteouts."""
    reference, bundle = f"{path}:1.0", f"{path}.bundle"
    shell.run("umoci", "init", "--layout", path)
    shell.run("umoci", "new", "--image", reference)
    shell.run("umoci", "config", "--image", reference, "--architecture", architecture, "--os", "linux",
              "--config.cmd", "/bin/busybox", "--config.cmd", "uname", "--config.cmd", "-m")
    shell.run("umoci", "unpack", "--image", reference, bundle)
    for package in _packages(shell, f"{path}.apt", architecture):
        shell.run("dpkg-deb", "-x", package, f"{bundle}/rootfs")
    shell.run("umoci", "repack", "--refresh-bundle", "--image", reference, bundle)
    shutil.rmtree(f"{bundle}/rootfs/usr/share/doc")
    with open(f"{bundle}/rootfs/etc/hello", "w") as file:
        file.write(f"hello from {architecture}\n")
    shell.run("umoci", "repack", "--image", reference, bundle)
    shell.run("umoci", "gc", "--layout", path)
    shutil.rmtree(bundle)
    shutil.rmtree(f"{path}.apt")
    return Layout(path)


def _packages(shell, directory, architecture):
    """Downloads packages of any architecture with package lists of its own: the machine's stay as they are."""
    for folder in ("lists/partial", "archives/partial"):
        os.makedirs(f"{directory}/{folder}")
    open(f"{directory}/status", "w").close()
    options = [f"-o{name}={value}" for name, value in {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::State::Lists": f"{directory}/lists",
        "Dir::State::Status": f"{directory}/status",
        "Dir::Cache": directory,
    }.items()]
    shell.run("apt-get", *options, "update", timeout=300)
    shell.run("apt-get", *options, "download", *PACKAGES[architecture], cwd=f"{directory}/archives", timeout=300)
    return sorted(glob.glob(f"{directory}/archives/*.deb"))


def _index(path, *images):
    entries = []
    for image in images:
        shutil.copytree(f"{image.path}/blobs", f"{path}/blobs", dirs_exist_ok=True)
        config = image.json(image.config())
        entries.append({key: image.root[key] for key in ("mediaType", "digest", "size")} | {
            "platform": {"os": config["os"], "architecture": config["architecture"]}})
    Layout(path).write_root({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


def big(path, name, size):
    """An image with one uncompressed layer of `size` bytes that do not compress, different for each `name`."""
    layout = Layout(path)
    os.makedirs(f"{path}/blobs/sha256")
    with tarfile.open(f"{path}/layer", "w") as tar:
        entry = tarfile.TarInfo("blob.bin")
        entry.size = size
        tar.addfile(entry, _Noise(name))
    digest = _digest(f"{path}/layer")
    os.rename(f"{path}/layer", layout.blob(digest))
    config = layout.write(json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                                      "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode())
    layout.write_root({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config, "size": os.path.getsize(layout.blob(config))},
        "layers": [{"mediaType": LAYER, "digest": digest, "size": os.path.getsize(layout.blob(digest))}],
    })
    return layout


def noise(path, name, size):
    """Writes a file of random bytes and returns its digest."""
    source = _Noise(name)
    with open(path, "wb") as file:
        while size:
            size -= file.write(source.read(min(size, 1 << 20)))
    return _digest(path)


def _digest(path):
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


class _Noise:
    """Random bytes: one block of 16 MiB, over and over, which no compressor of the clients sees through."""

    def __init__(self, name):
        self.block, self.position = random.Random(name).randbytes(16 << 20), 0

    def read(self, size):
        start = self.position % len(self.block)
        piece = self.block[start:start + size]
        self.position += len(piece)
        return piece
