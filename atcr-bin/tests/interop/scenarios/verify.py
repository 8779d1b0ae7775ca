"""Both repos, the owner's and the hold's, hold before independent implementations of the AT Protocol.

Every check must pass. Then a proxy lies about the owner's repo in one respect after the other, and the same judge must
notice every lie.
"""

import json
import os
import subprocess
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

from lib.process import end, must

OWNER = "alice.test"
JUDGE = os.path.realpath(f"{os.path.dirname(__file__)}/../atproto")
# Each lie, and the check that must fail before it.
LIES = {
    "export-signature": "repo-car",
    "export-block": "repo-car",
    "record-proof": "record-proofs",
    "blob-bytes": "blobs",
    "latest-rev": "latest-commit",
    "event-prev-data": "firehose-strict",
    "event-operation": "firehose-strict",
    "event-since": "firehose-strict",
    "event-seq": "firehose-strict",
    "event-signature": "firehose-strict",
}
AT_ONCE = 4  # Listening to a firehose is mostly waiting for its end.


def check(suite, server):
    server.client(OWNER).push(f"{OWNER}/verify", suite.images.multi)
    shell, ready = suite.shell("verify"), server.ready
    owner = {"pds": ready["pds"], "did": server.accounts[OWNER]["did"], "handle": OWNER}
    hold = {"pds": ready["hold"], "did": ready["hold_did"]}
    held = {name: judge(suite, shell, ready["plc"], name, subject)
            for name, subject in (("owner", owner), ("hold", hold))}
    failed = [f"{name}: {check}" for name, checks in held.items() for check, ok in checks.items() if not ok]
    must(not failed, ", ".join(failed))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        behind = pool.map(lambda lie: lied_to(shell, ready["plc"], owner, lie), ["nothing", *LIES])
        told = dict(zip(["nothing", *LIES], behind))
    must(told["nothing"] == held["owner"], "the judge sees lies where there are none")
    for lie, noticing in LIES.items():
        must(not told[lie][noticing], f"the judge does not notice {lie}")
    return "; ".join(f"{name}: {len(checks)} checks hold" for name, checks in held.items()) + \
        f"; {len(LIES)} lies noticed"


def judge(suite, shell, plc, name, subject):
    """Returns {check: whether it holds}, and says why one does not."""
    results = verify(shell, plc, **subject)
    for result in results:
        if not result["ok"]:
            suite.say(f"verify {name}: {result['name']}: {result['note']}")
    return holding(results)


def holding(results):
    return {result["name"]: result["ok"] for result in results}


def verify(shell, plc, pds, did, handle=None, home=None):
    arguments = ["--pds", pds, "--plc", plc, "--did", did, "--home", home or pds]
    if handle:
        arguments += ["--handle", handle]
    if did.startswith("did:web:"):
        host = urllib.parse.unquote(did.removeprefix("did:web:"))
        arguments += ["--map", f"https://{host}={pds}"]
    return json.loads(shell.run("node", f"{JUDGE}/verify.mjs", *arguments))


def lied_to(shell, plc, subject, lie):
    """Which checks hold behind a proxy that tells one lie."""
    proxy = subprocess.Popen(["node", f"{JUDGE}/lying-proxy.mjs", subject["pds"], lie], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        behind = f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        return holding(verify(shell, plc, **{**subject, "pds": behind, "home": subject["pds"]}))
    finally:
        end(proxy)
