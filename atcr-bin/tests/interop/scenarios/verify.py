"""Both repos, the owner's and the hold's, hold before independent implementations of the AT Protocol.

`REQUIRED` must pass; what else fails is named as open. Then a proxy lies about the repo in one respect after the
other, and the same judge must notice every lie.
"""

import json
import os
import subprocess
import urllib.parse

from lib.process import end, must

OWNER = "alice.test"
JUDGE = os.path.realpath(f"{os.path.dirname(__file__)}/../atproto")
REQUIRED = {"did-document", "repo-car", "commit", "blocks-canonical", "mst-rebuilt", "records-agree"}
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


def check(suite, server):
    server.client(OWNER).push(f"{OWNER}/verify", suite.images.multi)
    shell, ready = suite.shell("verify"), server.ready
    owner = {"pds": ready["pds"], "did": server.accounts[OWNER]["did"], "handle": OWNER}
    hold = {"pds": ready["hold"], "did": ready["hold_did"]}
    passed = {name: judge(suite, shell, ready["plc"], name, subject)
              for name, subject in (("owner", owner), ("hold", hold))}
    noticed = [lie for lie, judged in LIES.items() if judged in passed["owner"]]
    for lie in noticed:
        must(LIES[lie] not in lied_to(shell, ready["plc"], owner, lie), f"the judge does not notice {lie}")
    must(lied_to(shell, ready["plc"], owner, "nothing") == passed["owner"], "the judge sees lies where there are none")
    for repo, names in passed.items():
        must(REQUIRED <= names, f"{repo}: {', '.join(sorted(REQUIRED - names))}")
    return "; ".join(f"{repo}: {len(names)} checks hold" for repo, names in passed.items()) + \
        f"; {len(noticed)} lies noticed"


def judge(suite, shell, plc, name, subject):
    """Returns the names of the checks that hold, and says which do not."""
    results = verify(shell, plc, **subject)
    for result in results:
        if not result["ok"]:
            verdict = "FAILED" if result["name"] in REQUIRED else "open"
            suite.say(f"verify {name}: {verdict} {result['name']}: {result['note']}")
    return holding(results)


def holding(results):
    return {result["name"] for result in results if result["ok"]}


def verify(shell, plc, pds, did, handle=None, home=None):
    arguments = ["--pds", pds, "--plc", plc, "--did", did, "--home", home or pds]
    if handle:
        arguments += ["--handle", handle]
    if did.startswith("did:web:"):
        host = urllib.parse.unquote(did.removeprefix("did:web:"))
        arguments += ["--map", f"https://{host}={pds}"]
    return json.loads(shell.run("node", f"{JUDGE}/verify.mjs", *arguments))


def lied_to(shell, plc, subject, lie):
    """The names of the checks that hold behind a proxy that tells one lie."""
    proxy = subprocess.Popen(["node", f"{JUDGE}/lying-proxy.mjs", subject["pds"], lie], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        behind = f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        return holding(verify(shell, plc, **{**subject, "pds": behind, "home": subject["pds"]}))
    finally:
        end(proxy)
