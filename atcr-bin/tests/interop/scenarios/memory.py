"""The process stays small while one layer of 2 GiB goes in and out."""

import shutil

from clients.skopeo import Skopeo
from lib import images
from lib.layout import must_equal
from lib.process import must

SIZE = 2 << 30
LIMIT = 150 << 20


def check(suite, _):
    home = suite.home("memory")
    with suite.server("memory") as server:
        skopeo = Skopeo(server, suite.images, home, suite.logs)
        skopeo.login()
        source = images.big(f"{home}/big", "memory", SIZE)
        skopeo.push_layout(source, skopeo.reference())
        pushed = server.peak_memory()
        must_equal(source, skopeo.pull_layout(skopeo.reference()))
        pulled = server.peak_memory()
        server.stop()
    shutil.rmtree(home)
    note = f"peak {pushed >> 20} MiB after the push, {pulled >> 20} MiB after the pull; limit {LIMIT >> 20} MiB"
    must(pulled <= LIMIT, note)
    return note
