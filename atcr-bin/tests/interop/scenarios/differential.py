"""Random writes to the PDS and to the reference's own tree: every root, every event's blocks, the export at the end."""

import os

OWNER = "alice.test"
SCRIPT = os.path.realpath(f"{os.path.dirname(__file__)}/../atproto/differential.mjs")
SEEDS = (1, 2)


def check(suite, _server):
    shell = suite.shell("differential")
    said = []
    for seed in SEEDS:
        with suite.server(f"differential-{seed}") as server:
            said.append(shell.run("node", SCRIPT, "--pds", server.ready["pds"], "--handle", OWNER,
                                  "--password", server.password(OWNER), "--seed", str(seed)).strip())
    return "; ".join(said)
