"""The reference's OAuth client signs in at the PDS, headless over our log-in and consent pages."""

import json
import os

OWNER = "bob.test"
JUDGE = os.path.realpath(f"{os.path.dirname(__file__)}/../atproto")


def check(suite, server):
    ready = server.ready
    held = json.loads(suite.shell("oauth").run(
        "node", f"{JUDGE}/sign-in.mjs", "--pds", ready["pds"], "--plc", ready["plc"],
        "--handle", OWNER, "--password", server.password(OWNER)))
    return f"{len(held)} checks hold"
