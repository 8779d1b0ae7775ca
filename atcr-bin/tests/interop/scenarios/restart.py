"""SIGTERM and SIGINT end it cleanly; on the same data it comes back with the same accounts, images and tags."""

import shutil
import signal

from lib.layout import must_equal
from lib.process import must

OWNER = "alice.test"


def check(suite, _):
    home, images = suite.home("restart"), {"app": suite.images.app, "multi": suite.images.multi}
    with suite.server("restart") as server:
        for name, layout in images.items():
            server.client(OWNER).push(f"{OWNER}/{name}", layout)
        before = server.ready
        for ask in (signal.SIGTERM, signal.SIGINT):
            server.stop(ask)
            server.start()
            must(server.ready["accounts"] == before["accounts"], f"other accounts after {ask.name}")
            must(server.ready["hold_did"] == before["hold_did"], f"another hold after {ask.name}")
            for name, layout in images.items():
                must_equal(layout, server.client().pull(f"{OWNER}/{name}", "1.0", f"{home}/{ask.name}-{name}"))
            server.client(OWNER).push(f"{OWNER}/{ask.name.lower()}", suite.images.arm)
        server.stop()
    shutil.rmtree(home)
    return "twice"
