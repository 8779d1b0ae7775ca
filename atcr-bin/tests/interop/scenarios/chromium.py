"""Chromium goes from the link of `docker-credential-atcr login` through the pages of registry and PDS, and back."""

import json
import os
import shutil
import subprocess

from lib.process import end, must
from scenarios.signin import JUDGE, Helper

OWNER = "bob.test"


def check(suite, server):
    helper = Helper(suite, Pages("chromium", server.registry))
    pictures = f"{suite.logs}/chromium"
    os.makedirs(pictures, exist_ok=True)
    with helper.logging_in(server.registry) as (link, login):
        held = json.loads(suite.shell("chromium").run(
            "node", f"{JUDGE}/chromium.mjs", "--browser", shutil.which("chromium"), "--handle", OWNER,
            "--password", server.password(OWNER), "--pictures", pictures, link))
        out, _ = login.communicate(timeout=60)
        must(login.returncode == 0 and OWNER in out, f"login exited {login.returncode}")
    must("refused" in helper.run("status"), "the device that was revoked is taken")
    return f"{len(held)} things hold"


class Pages:
    def __init__(self, name, registry):
        self.name, self.registry = name, registry
