"""The disk fills up during a push: an OCI error in seconds, nothing lost, and all is well once there is space."""

import os
import time

from lib import images
from lib.layout import must_equal
from lib.process import must

OWNER = "alice.test"
DISK = 192 << 20
BALLAST = 128 << 20
LAYER = 72 << 20
SECONDS = 15


def check(suite, _):
    shell, disk = suite.shell("diskfull"), suite.home("diskfull-disk")
    shell.run("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk)
    try:
        with suite.server("diskfull", data_dir=f"{disk}/data") as server:
            note = fill(suite, server, f"{disk}/ballast")
            server.stop()
    finally:
        shell.run("umount", "--lazy", disk)
    return note


def fill(suite, server, ballast):
    alice, app = server.client(OWNER), suite.images.app
    alice.push(f"{OWNER}/app", app)
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, BALLAST)
    home = suite.home("diskfull")
    layer = f"{home}/layer"
    digest = images.noise(layer, "diskfull", LAYER)

    began = time.monotonic()
    with open(layer, "rb") as file:
        answer = alice.put_blob(f"{OWNER}/full", file, digest)
    took = time.monotonic() - began
    must(answer.status >= 400, f"a disk of {DISK >> 20} MiB took more than it holds: {answer}")
    codes = answer.codes()
    must(took < SECONDS, f"the error took {took:.0f} s")
    must(not alice.has(f"{OWNER}/full", "blobs", digest), "a blob that was refused is there")
    must_equal(app, alice.pull(f"{OWNER}/app", "1.0", f"{home}/during"))

    os.unlink(ballast)
    with open(layer, "rb") as file:
        again = alice.put_blob(f"{OWNER}/full", file, digest)
    must(again.status == 201, f"with space again: {again}")
    must_equal(app, alice.pull(f"{OWNER}/app", "1.0", f"{home}/after"))
    alice.push(f"{OWNER}/more", suite.images.multi)
    return f"{answer.status} {codes[0]} after {took:.1f} s; earlier images pull, and a push works once there is space"
