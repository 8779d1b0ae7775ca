"""Every page in Chromium, light and dark, on a desk and on a telephone, with a repository that has everything and is hostile;
and what people do on them who are signed in.

No console error, no violation of the content security policy, no request to anybody else, no serious fault that axe finds,
none wider than the screen, all there without JavaScript, at most 100 KB. The pictures stay in the logs. More than 50 ms of the
server at the quickest of four times are said, and are no fault: other programs may be at work.
"""

import hashlib
import json
import os
import shutil
import time
import urllib.error
import urllib.request

from lib import xrpc
from lib.layout import MANIFEST
from lib.process import must
from scenarios.signin import JUDGE

OWNER, OTHER = "alice.test", "bob.test"
REPOSITORY = "garden/app"
NOW = "2026-06-01T00:00:00.000Z"
README = """# Tools for gardeners

An image for **watering plans**, with [its documentation](https://example.com/docs).

| Plant | Litres |
|---|---|
| Tomato | 2 |
| {long} | 3 |

```sh
docker run --rm app --plan {long} --plant tomato --plant basil --plant rosemary --plant thyme --plant sage
```

<script>window.attacked = "script"</script><img src=x onerror="window.attacked = 'image'">
![pixel](https://tracker.example/pixel.png) [click](javascript:window.attacked='link') <style>body {{ display: none }}</style>
""".format(long="x" * 120)
HOSTILE = {
    "org.opencontainers.image.title": "<script>window.attacked = 'annotation'</script>",
    "\"><img src=x onerror=window.attacked=1>": "a key",
    "org.example.long": "y" * 300,
}


def check(suite, server):
    digests = furnish(suite, server)
    owner = f"/r/{OWNER}/{REPOSITORY}"
    pages = {
        "home": "/",
        "home-popular": "/?sort=popular",
        "search": "/search?q=garden",
        "search-hostile": "/search?q=%22%3E%3Cscript%3Ewindow.attacked%3D1%3C%2Fscript%3E",
        "user": f"/u/{OWNER}",
        "user-stars": f"/u/{OTHER}?show=stars",
        "repository": owner,
        "repository-manifests": f"{owner}?view=manifests",
        "repository-history": f"{owner}?view=history",
        "manifest-index": f"{owner}@{digests['multi']}",
        "manifest-image": f"{owner}@{digests['app']}",
        "manifest-hostile": f"{owner}@{digests['hostile']}",
        "install": "/install",
        "error-not-found": "/r/nobody.test/nothing",
        "error-invalid": "/?cursor=%00%3Cscript%3E",
    }
    # What only somebody who is signed in sees; one browser is signed in first.
    signed_in = {
        "home-signed-in": "/",
        "account": "/auth/account",
        "devices": "/auth/devices",
        "settings": "/settings",
        "edit": f"/edit/{OWNER}/{REPOSITORY}",
        "repository-own": owner,
        "repository-history-own": f"{owner}?view=history",
        "manifest-own": f"{owner}@{digests['app']}",
        "error-signed-in": "/r/nobody.test/nothing",
    }
    plan = {"registry": f"http://{server.registry}", "handle": OWNER, "password": server.password(OWNER),
            "pages": pages, "signedIn": signed_in}
    pictures = f"{suite.logs}/pages"
    os.makedirs(pictures, exist_ok=True)
    out = suite.shell("pages").run("node", f"{JUDGE}/pages.mjs", "--browser", shutil.which("chromium"), "--pictures", pictures,
                                   stdin=json.dumps(plan).encode(), timeout=600)
    said = json.loads(out)
    for fault in said["faults"]:
        suite.say(f"pages: {fault}")
    if said["slowest"]["ms"] > 50:
        suite.say(f"pages: {said['slowest']['name']} took the server {said['slowest']['ms']:.0f} ms")
    must(not said["faults"], f"{len(said['faults'])} faults, the first: {said['faults'] and said['faults'][0]}")
    walked = walk(suite, server, pictures)
    return (f"{said['views']} views of {len(pages) + len(signed_in)} pages; the largest {said['largest']['bytes'] / 1000:.0f} KB"
            f" ({said['largest']['name']}), the slowest {said['slowest']['ms']:.0f} ms ({said['slowest']['name']});"
            f" {walked} things hold on four walks")


def walk(suite, server, pictures):
    """What somebody does who is signed in, on each screen with a repository of its own; says how many things held."""
    client, images = server.client(OWNER), suite.images
    with open(images.app.blob(images.app.digest), "rb") as file:
        app = json.loads(file.read())
    repositories = {}
    for how in ("desk-light", "desk-dark", "telephone-light", "telephone-dark"):
        name = f"walk/{how}"
        client.push(f"{OWNER}/{name}", images.app)
        put = lambda tag, note: manifest(client, f"{OWNER}/{name}", tag, {**app, "annotations": {"n": f"{how} {note}"}})
        repositories[how] = {"name": name, "before": put("v1", "before"), "now": put("v1", "now"), "old": put("old", "old"),
                             "untagged": put(None, "untagged")}
    plan = {"registry": f"http://{server.registry}", "handle": OWNER, "password": server.password(OWNER),
            "repositories": repositories}
    out = suite.shell("pages-walk").run("node", f"{JUDGE}/walk.mjs", "--browser", shutil.which("chromium"), "--pictures", pictures,
                                        stdin=json.dumps(plan).encode(), timeout=600)
    said = json.loads(out)
    for fault in said["faults"]:
        suite.say(f"pages: {fault}")
    must(not said["faults"], f"{len(said['faults'])} faults, the first: {said['faults'] and said['faults'][0]}")
    return said["held"]


def furnish(suite, server):
    """A repository with an index, a bill of materials, a tag that moved, a hostile README and annotations, and a star."""
    images, client, name = suite.images, server.client(OWNER), f"{OWNER}/{REPOSITORY}"
    for layout in (images.app, images.multi, images.arm):
        client.push(f"{OWNER}/garden/arm" if layout is images.arm else name, layout)
    with open(images.app.blob(images.app.digest), "rb") as file:
        app = file.read()
    hostile = manifest(client, name, "hostile", {**json.loads(app), "annotations": HOSTILE})
    manifest(client, name, None, {
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/spdx+json",
        "config": json.loads(app)["config"], "layers": json.loads(app)["layers"][:1],
        "subject": {"mediaType": MANIFEST, "digest": images.app.digest, "size": len(app)},
    })
    for count in range(30):
        manifest(client, name, f"2026.{count}-{'long-' * 12}tag", {**json.loads(app), "annotations": {"n": str(count)}})
    writer = xrpc.Writer(server.ready["pds"], server.accounts[OWNER])
    writer.put("io.atcr.repo.page", "garden~app",
               {"repository": REPOSITORY, "description": README, "createdAt": NOW, "updatedAt": NOW})
    writer = xrpc.Writer(server.ready["pds"], server.accounts[OTHER])
    page = f"at://{server.accounts[OWNER]['did']}/io.atcr.repo.page/garden~app"
    writer.put("io.atcr.sailor.star", "gardenapp", {"subject": page, "createdAt": NOW})
    wait_until_starred(server)
    return {"app": images.app.digest, "multi": images.multi.digest, "hostile": hostile}


def manifest(client, name, tag, content):
    """Pushes a manifest, under a tag or its digest, and gives the digest."""
    body = json.dumps(content).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    answer = client.put_manifest(name, tag or digest, body)
    must(answer.status == 201, f"PUT of {tag}: {answer}")
    return digest


def wait_until_starred(server):
    """The last that was written is in the index, and so is all that was before."""
    url = f"http://{server.registry}/api/v1/repository?owner={OWNER}&repository={REPOSITORY}"
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                if json.load(answer)["stars"] == 1:
                    return
        except urllib.error.HTTPError:
            pass  # Not yet.
        must(time.monotonic() < deadline, "the star is not seen")
        time.sleep(0.1)
