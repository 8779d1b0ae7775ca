"""Two AppViews share one PostgreSQL and one data directory behind a balancer that draws lots for each connection.

Six people push, move tags and pull at the same time, each step of a push at whichever replica the lot says; one replica is
killed, comes back, and then the other one is. What was acknowledged is pulled, from either, at once and in the end; a tag
never points back; who was signed in still is, and the stream of the network is followed on.
"""

import hashlib
import json
import random
import shutil
import threading
import time
import urllib.request
from types import SimpleNamespace

from lib.appview import AppView
from lib.balancer import Balancer
from lib.browser import Browser
from lib.images import CONFIG, LAYER
from lib.layout import MANIFEST
from lib.postgres import Postgres
from lib.process import Failed, must
from lib.registry import Registry
from scenarios.signin import Dev, Helper

OWNERS = ["alice.test", "bob.test"]
PEOPLE = 6
PHASE = 10
# A replica that is killed answers nothing more; whoever was speaking with it notices within this time.
NOTICED = 5
SEED = 20261121


def check(suite, _):
    home = suite.home("replicas")
    with suite.server("replicas") as server, Postgres(f"{suite.logs}/replicas-postgres.log") as database, \
            Balancer(SEED) as balancer:
        replicas = [replica(suite, server, database, balancer, home, name) for name in "ab"]
        with replicas[0], replicas[1]:
            balancer.targets = [one.address for one in replicas]
            said = at_work(suite, server, balancer, replicas)
    shutil.rmtree(home)
    return said


def replica(suite, server, database, balancer, home, name):
    settings = {"ATCR_INDEX_URL": database.url,
                "ATCR_INGEST_HOSTS": f"{server.ready['pds']},{server.ready['hold']}"}
    return AppView(server, SimpleNamespace(did=server.ready["hold_did"]), f"{home}/appview", f"{suite.logs}/replicas-{name}.log",
                   f"http://{balancer.address}", settings)


def at_work(suite, server, balancer, replicas):
    signed_in = SignedIn(suite, server, balancer.address)
    people = [Person(server, balancer.address, OWNERS[n % 2], n) for n in range(PEOPLE)]
    for person in people:
        person.start()
    kills = []
    try:
        for one, other in (replicas, replicas[::-1]):
            rest(people)
            kills.append(time.monotonic())
            one.kill()
            rest(people)
            signed_in.must_still_be()
            must_follow(server, suite, other, f"after-{len(kills)}")
            one.start()
        rest(people)
    finally:
        for person in people:
            person.end = True
        for person in people:
            person.join(60)
    signed_in.must_still_be()
    for person in people:
        must(person.problem is None, f"{person.name}: {person.problem}")
        for at, what in person.failed:
            must(any(0 <= at - kill <= NOTICED for kill in kills), f"refused, and nobody was killed: {what}")
    pushed = sum(len(person.acknowledged) for person in people)
    for one in replicas:
        for person in people:
            person.must_all_be_at(Registry(one.address, timeout=30))
    failed = sum(len(person.failed) for person in people)
    shares = " and ".join(str(balancer.taken.get(one.address, 0)) for one in replicas)
    return (f"{pushed} pushes acknowledged and all there at both, {sum(person.pulls for person in people)} pulls, {shares} connections,"
            f" {failed} broke off by the kills and were repeated")


def rest(people):
    """Lets them work for a while."""
    deadline = time.monotonic() + PHASE
    while time.monotonic() < deadline and all(person.problem is None for person in people):
        time.sleep(0.1)


def must_follow(server, suite, other, tag):
    """What another registry pushes is heard of by the replica that is left, also if the other one had followed the stream."""
    elsewhere = server.client(OWNERS[0])
    elsewhere.timeout = 30
    repository = f"{OWNERS[0]}/elsewhere"
    layer, manifest = image(tag.encode())
    for blob in (layer, b"{}"):
        answer = elsewhere.put_blob(repository, blob, digest(blob))
        must(answer.status == 201, f"elsewhere: {answer}")
    must(elsewhere.put_manifest(repository, tag, manifest).status == 201, "elsewhere: no manifest")
    deadline = time.monotonic() + 60
    while not heard(other, tag):
        must(time.monotonic() < deadline, "the stream is not followed by the replica that is left")
        time.sleep(0.2)


def heard(one, tag):
    try:
        url = f"http://{one.address}/api/v1/tags?owner={OWNERS[0]}&repository=elsewhere"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return any(entry["tag"] == tag for entry in json.load(answer)["items"])
    except OSError:
        return False


def digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def image(layer):
    """An image of one layer: the layer's bytes and the manifest's."""
    config = {"mediaType": CONFIG, "digest": digest(b"{}"), "size": 2}
    layers = [{"mediaType": LAYER, "digest": digest(layer), "size": len(layer)}]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    return layer, json.dumps(manifest).encode()


class Person(threading.Thread):
    """Pushes one image after the other to a repository of their own, each under a tag of its own and as `moving`."""

    def __init__(self, server, address, owner, n):
        super().__init__(name=f"{owner} {n}")
        self.repository, self.random = f"{owner}/replicas{n}", random.Random(SEED + n)
        self.client = Registry(address, owner, server.password(owner), timeout=30)
        self.reader = Registry(address, timeout=30)
        self.acknowledged, self.failed, self.pulls = [], [], 0
        self.end, self.problem, self.moving = False, None, None

    def run(self):
        try:
            while not self.end:
                self.push(len(self.acknowledged))
                self.must_be(self.reader, "moving", self.moving)
                self.must_be(self.reader, *self.random.choice(self.acknowledged))
        except Exception as problem:
            self.problem = f"{type(problem).__name__}: {problem}"

    def push(self, n):
        layer, manifest = image(self.random.randbytes(self.random.randrange(1, 50_000)))
        self.until([201], "PUT of a blob", lambda: self.put_in_chunks(layer))
        if not n:
            self.until([201], "PUT of the config", lambda: self.client.put_blob(self.repository, b"{}", digest(b"{}")))
        for tag in (f"v{n}", "moving"):
            self.until([201], f"PUT of {tag}", lambda: self.client.put_manifest(self.repository, tag, manifest))
        self.acknowledged.append((f"v{n}", manifest))
        self.moving = manifest

    def put_in_chunks(self, layer):
        """An upload whose steps may each be at another replica."""
        location, half = self.client.begin_upload(self.repository), len(layer) // 2
        for begin, chunk in ((0, layer[:half]), (half, layer[half:])):
            if chunk:
                range_of = {"Content-Range": f"{begin}-{begin + len(chunk) - 1}", "Content-Type": "application/octet-stream"}
                answer = self.client.ask("PATCH", location, chunk, range_of)
                if answer.status != 202:
                    return answer
                location = answer.headers["Location"].removeprefix(f"http://{self.client.address}")
        return self.client.ask("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest(layer)}", b"")

    def must_be(self, client, tag, manifest):
        """What was acknowledged is there, wherever it is asked for."""
        answer = self.until([200], f"GET of {tag}", lambda: client.ask("GET", f"/v2/{self.repository}/manifests/{tag}"))
        must(answer.body == manifest, f"{tag} is another manifest than the one that was acknowledged: {answer}")
        layer = json.loads(manifest)["layers"][0]["digest"]
        self.until([200, 307], f"GET of a blob of {tag}", lambda: client.ask("GET", f"/v2/{self.repository}/blobs/{layer}"))
        self.pulls += 1

    def must_all_be_at(self, client):
        for tag, manifest in [*self.acknowledged, ("moving", self.moving)]:
            answer = client.ask("GET", f"/v2/{self.repository}/manifests/{tag}")
            must((answer.status, answer.body) == (200, manifest), f"{self.repository}:{tag} at {client.address}: {answer}")

    def until(self, wanted, what, ask):
        """Does it again when the connection breaks or the server cannot; anything else that is not expected is a fault."""
        while True:
            began = time.monotonic()
            try:
                answer = ask()
                if answer.status in wanted:
                    return answer
                must(answer.status >= 500, f"{what}: {answer}")
                why = str(answer)
            except Failed as problem:
                why = str(problem)
                must("Error" in why or "Disconnected" in why or "IncompleteRead" in why, why)
            self.failed.append((time.monotonic(), f"{what} ({time.monotonic() - began:.1f} s): {why}"))
            must(len(self.failed) < 100, f"nothing works any more: {why}")
            time.sleep(0.1)


class SignedIn:
    """Somebody with a browser and a device, who signed in through the balancer."""

    sites, name = {}, "replicas"
    sign_in = Dev.sign_in

    def __init__(self, suite, server, registry):
        self.suite, self.server, self.registry, self.pushes = suite, server, registry, 0
        self.browser, self.helper = Browser(), Helper(suite, self)
        self.helper.login(self.browser, registry, OWNERS[0])
        self.must_still_be()

    def must_still_be(self):
        page = self.browser.open(f"http://{self.registry}/auth/account")
        must(OWNERS[0] in page.text, f"the browser is signed out: {page}")
        got = json.loads(self.helper.shell.run("docker-credential-atcr", "get", stdin=self.registry.encode()))
        self.pushes += 1
        device = Registry(self.registry, got["Username"], got["Secret"], timeout=30)
        answer = device.put_blob(f"{OWNERS[0]}/device", str(self.pushes).encode(), digest(str(self.pushes).encode()))
        must(answer.status == 201, f"the device does not push any more: {answer}")
