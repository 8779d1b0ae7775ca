"""A blob goes from one repository to another without its bytes.

The clients' copies do not show it: they find the blob in the target already, and mount nothing.
"""

import hashlib

from lib.process import must

OWNER = "alice.test"
SOURCE, TARGET = f"{OWNER}/mount-source", f"{OWNER}/mount-target"
DATA = b"to be mounted"


def check(suite, server):
    owner = server.client(OWNER)
    digest = "sha256:" + hashlib.sha256(DATA).hexdigest()
    pushed = owner.put_blob(SOURCE, DATA, digest)
    must(pushed.status == 201, f"PUT: {pushed}")
    for target, also in (TARGET, [f"repository:{SOURCE}:pull"]), (f"{TARGET}-alone", []):
        mount = f"/v2/{target}/blobs/uploads/?mount={digest}&from={SOURCE}"
        challenge = owner.send("POST", mount).headers["WWW-Authenticate"]
        mounted = owner.send("POST", mount, token=owner.token(challenge, *also))
        must(mounted.status == 201, f"mount: {mounted}")
        must(mounted.headers["Location"].endswith(f"/v2/{target}/blobs/{digest}"), f"at {mounted.headers['Location']}")
        must(owner.has(target, "blobs", digest), "it was not mounted")
    return "201 with a token for both repositories, and with one for the target alone"
