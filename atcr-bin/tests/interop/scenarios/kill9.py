"""The process is killed in the middle of a push: what was acknowledged stays, and the push can be repeated."""

import os
import shutil
import subprocess
import time

from clients.crane import Crane
from lib import images
from lib.layout import must_equal
from lib.process import end, must

OWNER = "alice.test"
SIZE = 1 << 30
MOMENTS = {"early": SIZE // 16, "midway": SIZE // 2, "at-the-end": SIZE}


def check(suite, _):
    home = suite.home("kill9")
    small = {f"{OWNER}/app": suite.images.app, f"{OWNER}/multi": suite.images.multi}
    with suite.server("kill9") as server:
        crane = Crane(server, suite.images, home, suite.logs)
        crane.login()
        for repository, layout in small.items():
            server.client(OWNER).push(repository, layout)
        for moment, size in MOMENTS.items():
            big, reference = images.big(f"{home}/big", moment, SIZE), crane.reference(moment)
            acknowledged = push_and_kill(server, crane, big, reference, size)
            server.start()
            for repository, layout in small.items():
                must_equal(layout, server.client().pull(repository, "1.0", crane.fresh("small")))
            if not acknowledged:
                crane.push_layout(big, reference)
            must_equal(big, crane.pull_layout(reference))
            shutil.rmtree(big.path)
        server.stop()
    shutil.rmtree(home)
    return f"killed {', '.join(MOMENTS)}: every acknowledged image came back byte by byte, every push was repeated"


def push_and_kill(server, crane, layout, reference, size):
    """Kills the server once it has stored `size` bytes more; says whether the push succeeded all the same."""
    before = stored(server.data_dir)
    push = crane.shell.start("crane", "--insecure", "push", layout.path, reference)
    try:
        deadline = time.monotonic() + 120
        while stored(server.data_dir) - before < size and push.poll() is None:
            must(time.monotonic() < deadline, f"{size} bytes were not stored within 120 s")
            time.sleep(0.01)
        server.kill()
        return push.wait(60) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        end(push)


def stored(directory):
    """Bytes in use below a directory."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(f"{folder}/{name}").st_blocks * 512
            except FileNotFoundError:
                pass  # Renamed or removed while we looked.
    return total
