"""Images in object storages of others: pushed and pulled by signed URLs and through the hold, and what the doctor says."""

import json
import os
import shutil

from lib import storages, xrpc
from lib.hold import Hold
from lib.layout import must_equal
from lib.process import must

OWNER = "alice.test"
PROFILE = "io.atcr.sailor.profile"
# What the doctor may find besides: the storages are on this machine, and pages of other origins may not read there.
EXPECTED = {"address", "cors"}
# What of a storage is known to fall short, as the doctor must notice it.
KNOWN = {"s3s-fs": {"uploads"}}


def check(suite, _):
    there = [kind for kind in storages.ALL if kind.available()]
    missing = [kind.name for kind in storages.ALL if kind not in there]
    must(storages.Azurite in there, "azurite is not available; .ci/install brings it")
    must(not missing or not os.path.exists(f"{suite.cache}/storages"), f".ci/install-storages has run, and {', '.join(missing)} is gone")
    notes = [one(suite, kind) for kind in there] + [f"{name} is not available" for name in missing]
    return "; ".join(notes)


def one(suite, kind):
    """An image goes into a storage and out of it, with and without signed URLs."""
    home = suite.home(f"storage-{kind.name}")
    known = KNOWN.get(kind.name, set())
    with suite.server(f"storage-{kind.name}") as server, \
            kind(suite.shell(f"storage-{kind.name}-bucket"), f"{home}/storage") as storage:
        hold = Hold(server, OWNER, f"{home}/hold", f"{suite.logs}/storage-{kind.name}-hold.log", "web")
        for presign in (True, False):
            hold.settings = {**storage.settings(), "HOLD_STORAGE_PRESIGN": str(presign).lower(),
                             "HOLD_STORAGE_PART_SIZE": str(5 << 20)}
            failed = doctor(suite, hold, kind.name)
            must(failed <= known, f"{kind.name}: the doctor finds wrong: {', '.join(sorted(failed - known))}")
            with hold:
                if presign:
                    choose(server, hold.did)
                name = f"{OWNER}/{'signed' if presign else 'through'}"
                server.client(OWNER).push(name, suite.images.multi)
                must_equal(suite.images.multi, server.client(OWNER).pull(name, "1.0", f"{home}/{presign}"))
                kept = xrpc.records(hold.url, hold.did, "io.atcr.hold.layer")
                must(kept, f"{kind.name}: the hold has no layers: the images are elsewhere")
        server.stop()
    shutil.rmtree(home)
    return f"{kind.name} both ways"


def choose(server, hold):
    """Makes a hold the one that the owner pushes to."""
    record = {"defaultHold": hold, "createdAt": "2026-01-01T00:00:00Z"}
    xrpc.Writer(server.ready["pds"], server.accounts[OWNER]).put(PROFILE, "self", record)


def doctor(suite, hold, name):
    """The checks that fail. Advice other than what is expected is said."""
    program = f"{os.path.dirname(suite.atcr)}/atcr-hold"
    env = hold.environment()
    shell = suite.shell(f"storage-{name}-doctor")
    code, out, err = shell.outcome(program, "doctor", "--json", env=env)
    must(out.strip(), f"{name}: the doctor said nothing: {err[-300:]}")
    findings = json.loads(out)
    for finding in findings:
        if finding["verdict"] == "advice" and finding["check"] not in EXPECTED:
            suite.say(f"storage: {name}: {finding['check']}: {finding['seen']}")
    failed = {finding["check"] for finding in findings if finding["verdict"] == "failed"}
    must(bool(failed) == (code != 0), f"{name}: the doctor exited {code} with {len(failed)} failures")
    return failed
