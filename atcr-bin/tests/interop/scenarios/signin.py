"""From `docker-credential-atcr login` to a signed record in a PDS, over a restart of everything, and out again.

The same steps at the reference's PDS, in two releases, and at the one of `atcr dev`. At the reference's, a second registry
is a confidential client at an https name, whose permission set is published by then.
"""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import time
import urllib.parse

from clients.podman import Podman
from lib import xrpc
from lib.appview import AppView
from lib.browser import Browser
from lib.hold import Hold
from lib.process import Failed, end, last_line, must
from lib.reference import Reference
from lib.registry import Registry

ROOT = os.path.realpath(f"{os.path.dirname(__file__)}/../../../..")
JUDGE = os.path.realpath(f"{os.path.dirname(__file__)}/../atproto")
OWNER, OTHER, PUBLISHER = "alice.test", "bob.test", "lexauth.test"
PASSWORDS = {PUBLISHER: "lexauth-pass", OWNER: "alice-pass", OTHER: "bob-pass"}
# Servers take no client of a name that is reserved.
SITE = "https://registry.atcr-interop.dev"
SET = "io.atcr.authFullApp"


def check(suite, _):
    networks = {"dev": Dev, "current": Current, "older": Older}
    with concurrent.futures.ThreadPoolExecutor(len(networks)) as side_by_side:
        return ", ".join(side_by_side.map(lambda name: at(suite, name, networks[name]), networks))


def at(suite, name, network):
    """All of it at one network; says at which PDS."""
    began = time.monotonic()
    try:
        with network(suite, f"signin-{name}") as there:
            chain(suite, there)
            there.more()
            return f"{there.pds} in {time.monotonic() - began:.0f} s"
    except Failed as problem:
        raise Failed(f"{name}: {problem}") from problem


def chain(suite, there):
    """Signs a device in, pushes with it, restarts everything, pushes again, and signs out."""
    helper, browser = Helper(suite, there), Browser(there.sites)
    shown = helper.login(browser, there.registry, OWNER)
    must(helper.device in shown.text and "127.0.0.1" in shown.text, f"whose device is it? {shown}")
    there.must_have_session(OWNER)

    podman = Podman(Anonymous(there), suite.images, helper.home, suite.logs)
    podman.auth = f"{helper.home}/.docker/config.json"
    podman.shell.env |= {"REGISTRY_AUTH_FILE": podman.auth, **{name: helper.shell.env[name] for name in ("HOME", "PATH")}}
    digest = podman.push_image(podman.load(suite.images.app), "app")
    must_be_signed(suite, there, f"{podman.name}-app", digest)
    podman.pull_image(podman.reference(), digest, suite.images.app.config())
    docker(helper, podman)

    there.restart()
    must(f"* {OWNER} (device): signed in" in helper.run("status"), "the device does not live on")
    page = browser.open(f"{there.url}/auth/account")
    must(OWNER in page.text, f"the browser is signed out: {page}")
    again = podman.push_image(podman.load(suite.images.arm), "again")
    must_be_signed(suite, there, f"{podman.name}-again", again)

    # To sign out ends the session there and the device here; what was pushed stays.
    page = browser.submit(page, "/auth/logout")
    there.must_have_no_session(OWNER)
    must("sign in again" in helper.run("status"), "the device works on without a session")
    podman.shell.refused("podman", "push", "--tls-verify=false", "--authfile", podman.auth, podman.load(suite.images.arm),
                         f"docker://{podman.reference('late')}",
                         saying=["denied", "unauthorized", "authentication required"])
    helper.login(browser, there.registry, OWNER)
    helper.run("logout", there.registry)
    page = browser.open(f"{there.url}/auth/devices")
    must("Devices that may push" in page.text and helper.device not in page.text, f"the device is in the list: {page}")
    podman.pull_image(podman.reference(), digest, suite.images.app.config())
    podman.empty()


def docker(helper, podman):
    """Docker's command line without an engine: reads what is public, and pushes a list with the helper's secret."""
    reference, listed = podman.reference("docker"), podman.reference("list")
    podman.remote("push", "--quiet", "--format", "v2s2", podman.reference(), f"docker://{reference}")
    found = json.loads(helper.shell.run("docker", "manifest", "inspect", "--insecure", reference))
    must(found["layers"], "docker finds no layers")
    helper.shell.run("docker", "manifest", "create", "--insecure", listed, reference)
    helper.shell.run("docker", "manifest", "push", "--insecure", "--purge", listed)
    must(json.loads(helper.shell.run("docker", "manifest", "inspect", "--insecure", listed))["manifests"], "an empty list")


def must_be_signed(suite, there, repository, digest):
    """The manifest is a record in the owner's repo, which anybody can read, and which the PDS has signed."""
    did = there.accounts[OWNER]["did"]
    found = {uri: value for uri, value in xrpc.records(there.ready["pds"], did, "io.atcr.manifest").items()
             if value["repository"] == repository and value["digest"] == digest}
    must(len(found) == 1, f"{len(found)} records for {repository}@{digest}")
    rkey = next(iter(found)).split("/")[-1]
    record = suite.shell("signin-record").run(
        "node", f"{JUDGE}/record.mjs", "--pds", there.ready["pds"], "--plc", there.ready["plc"], "--did", did,
        f"io.atcr.manifest/{rkey}")
    must(json.loads(record)["digest"] == digest, f"another record is signed: {record[:300]}")


class Anonymous:
    """What a client of the suite knows about a server: no password, for one would replace the session by its own."""

    def __init__(self, there):
        self.registry = there.registry

    def client(self, _=None):
        return Registry(self.registry)


class Helper:
    """`docker-credential-atcr` in a home of its own, and Docker's settings, which ask it."""

    device = "interop bench"

    def __init__(self, suite, there):
        self.home, self.there = suite.home(f"{there.name}-home"), there
        self.shell = suite.shell(there.name)
        binaries = os.path.dirname(suite.atcr)
        self.shell.env |= {"HOME": self.home, "PATH": f"{binaries}:{self.shell.env['PATH']}",
                           "DOCKER_CLI_EXPERIMENTAL": "enabled"}
        self.shell.env.pop("REGISTRY_AUTH_FILE", None)
        self.run("configure-docker", there.registry)

    def run(self, *arguments):
        return self.shell.run("docker-credential-atcr", *arguments)

    @contextlib.contextmanager
    def logging_in(self, registry):
        """`login` that waits: the link to open, and the process."""
        with open(self.shell.log, "ab") as log:
            process = subprocess.Popen(
                ["docker-credential-atcr", "login", registry, "--no-browser", "--device-name", self.device],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=self.shell.env, start_new_session=True)
            try:
                said = []
                while not (said and said[-1].strip().startswith("http")):
                    said.append(process.stderr.readline())
                    must(said[-1], f"no page to open: {last_line(''.join(said))}")
                log.write("".join(said).encode())
                yield said[-1].strip(), process
            finally:
                end(process)

    def login(self, browser, registry, handle):
        """Signs in; gives the page that asked for the approval."""
        with self.logging_in(registry) as (link, process):
            page = self.there.sign_in(browser, link, handle)
            done = browser.submit(page, "/device", decision="allow")
            must("Device allowed" in done.text, f"not allowed: {done}")
            try:
                out, err = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                raise Failed("login does not end after the approval") from None
            must(process.returncode == 0 and handle in out, f"login exited {process.returncode}: {last_line(err)}")
            return page


class Dev:
    """`atcr dev`: our own PDS."""

    def __init__(self, suite, name):
        self.suite, self.name, self.pds, self.sites = suite, name, "atcr dev", {}

    def __enter__(self):
        self.server = self.suite.server(self.name)
        self.server.start()
        self.take()
        return self

    def __exit__(self, *failure):
        self.server.kill()

    def take(self):
        self.ready, self.accounts = self.server.ready, self.server.accounts
        self.registry, self.url = self.server.registry, self.ready["appview"].rstrip("/")

    def restart(self):
        self.server.kill()
        self.server.start()
        self.take()

    def sign_in(self, browser, link, handle):
        page = asked(browser, link, handle)
        if page.has("/oauth/authorize/sign-in"):
            page = browser.submit(page, "/oauth/authorize/sign-in", username=handle, password=self.server.password(handle))
        if page.has("/oauth/authorize/consent"):
            page = browser.submit(page, "/oauth/authorize/consent", decision="allow")
        return page

    def must_have_session(self, handle):
        """Our own PDS is asked by its tests."""

    must_have_no_session = must_have_session

    def more(self):
        """All is done."""


class Current:
    """The reference's PDS and directory, a hold and a registry, each a process of its own."""

    release = "current"

    def __init__(self, suite, name):
        self.suite, self.name, self.atcr = suite, name, suite.atcr
        self.data, self.stack = f"{suite.directory}/{name}", contextlib.ExitStack()
        self.sites = {}

    def __enter__(self):
        log = f"{self.suite.logs}/{self.name}"
        with self.stack:
            accounts = {**PASSWORDS}
            self.reference = Reference(self.suite, self.release, f"{self.data}/pds", f"{log}-pds.log", accounts, self.sites)
            self.stack.enter_context(self.reference)
            self.ready, self.accounts = self.reference.ready, self.reference.accounts
            self.hold = Hold(self, OWNER, f"{self.data}/hold", f"{log}-hold.log", "web", settings=OPEN)
            self.stack.enter_context(self.hold)
            self.appview = AppView(self, self.hold, f"{self.data}/appview", f"{log}-appview.log")
            self.stack.enter_context(self.appview)
            self.site = AppView(self, self.hold, f"{self.data}/site", f"{log}-site.log", SITE)
            # Both registries and whoever fetches the documents of the second one know where it is.
            self.sites[SITE] = self.reference.sites[SITE] = f"http://{self.site.address}"
            self.stack = self.stack.pop_all()
        self.registry, self.url, self.pds = self.appview.address, self.appview.url, f"@atproto/pds {self.reference.version}"
        return self

    def __exit__(self, *failure):
        self.stack.close()

    def restart(self):
        running = [self.reference, self.hold, self.appview]
        for process in running:
            process.kill()
        for process in running:
            process.start()

    def sign_in(self, browser, link, handle):
        page = asked(browser, link, handle)
        if "/oauth/authorize" not in page.url:
            return page
        protected = {"X-CSRF-Token": browser.cookie(page.url, "csrf-token")}
        credentials = {"locale": "en", "username": handle, "password": PASSWORDS[handle], "remember": False}
        entered = browser.call(page, "/@atproto/oauth-provider/~api/sign-in", credentials, **protected)
        # The releases call it by different names.
        names = {key: entered["account"][key] for key in ("did", "sub") if key in entered["account"]}
        key = "did" if "did" in names else "sub"
        agreed = browser.call(page, "/@atproto/oauth-provider/~api/consent", {key: names[key]}, **protected,
                              Authorization=f"Bearer {entered['ephemeralToken']}")
        return browser.open(agreed["url"], site="same-origin", referer=page.url)

    def sessions(self, handle):
        return self.reference.sessions(self.accounts[handle]["did"])

    def must_have_session(self, handle):
        """The permission set is not published yet: each permission was asked for by itself."""
        asked, = (json.loads(session["parameters"])["scope"].split() for session in self.sessions(handle))
        must(f"include:{SET}" not in asked and "repo:io.atcr.manifest" in asked, f"asked for: {asked[:6]}")

    def must_have_no_session(self, handle):
        must(not self.sessions(handle), f"the PDS still has a session of {handle}")

    def more(self):
        """A confidential client and a published permission set; its key is rotated under a session."""
        publish(self.ready["pds"], self.accounts[PUBLISHER])
        self.reference.kill()
        self.reference.forget_lexicons()
        self.reference.start()
        with self.site:
            browser = Browser(self.sites)
            page = self.sign_in(browser, f"{SITE}/auth/oauth/login?return_to=/auth/account", OTHER)
            must(OTHER in page.text, f"not signed in: {page}")
            session, = self.sessions(OTHER)
            asked = json.loads(session["parameters"])["scope"].split()
            must(f"include:{SET}" in asked and "repo:io.atcr.manifest" not in asked, f"asked for: {asked[:6]}")
            must(json.loads(session["clientAuth"])["method"] == "private_key_jwt", f"{session['clientAuth']}")
            helper = Helper(self.suite, Named(self, f"{self.name}-site", self.site.address))
            helper.login(browser, self.site.address, OTHER)
            got = json.loads(helper.shell.run("docker-credential-atcr", "get", stdin=self.site.address.encode()))
            owner = Registry(self.site.address, got["Username"], got["Secret"], timeout=60)
            owner.push(f"{OTHER}/site", self.suite.images.arm)

            # Its access token is refused from now on, so the refresh token is redeemed, by the key of before.
            self.site.kill()
            os.rename(f"{self.data}/site/oauth.key", f"{self.data}/site/oauth.previous.key")
            self.reference.kill()
            self.reference.start()
            self.site.start()
            before = session["currentRefreshToken"]
            Registry(self.site.address, got["Username"], got["Secret"], timeout=60).push(
                f"{OTHER}/rotated", self.suite.images.arm)
            session, = self.sessions(OTHER)
            must(session["currentRefreshToken"] != before, "nothing was refreshed")
            page = browser.open(f"{SITE}/auth/account")
            browser.submit(page, "/auth/logout")
            self.must_have_no_session(OTHER)


class Older(Current):
    """An older release of the reference's PDS."""

    release = "older"


class Named:
    """A network under another name, with another registry."""

    def __init__(self, there, name, registry):
        self.name, self.registry, self.sign_in = name, registry, there.sign_in


# Everybody may keep blobs there.
OPEN = {"HOLD_SERVER_PUBLIC": "true", "HOLD_REGISTRATION_ALLOW_ALL_CREW": "true"}


def asked(browser, link, handle):
    """Opens a page of the registry, and names oneself where it asks."""
    page = browser.open(link)
    if not page.has("/auth/oauth/login"):
        return page
    query = urllib.parse.urlencode({**page.fields("/auth/oauth/login"), "handle": handle})
    return browser.open(urllib.parse.urljoin(page.url, f"/auth/oauth/login?{query}"))


def publish(pds, account):
    """Publishes our permission set as a record of the account that lexicons are looked up at."""
    with open(f"{ROOT}/lexicons/io/atcr/authFullApp.json") as file:
        lexicon = json.load(file)
    xrpc.Writer(pds, account).put("com.atproto.lexicon.schema", SET, lexicon)
