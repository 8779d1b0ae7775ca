"""The credential helper in bad moods of a machine: no pull of what is public fails or hangs for it.

With Docker's settings (crane) and those of containers (skopeo), which ask the helper in their own ways.
"""

import concurrent.futures
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time

from lib.process import Shell, end, must

OWNER = "alice.test"
REPOSITORY = f"{OWNER}/helper"
AT_ONCE = 20
# Far beyond what a pull takes: whoever needs it hangs.
HANGS = 20


def check(suite, server):
    arm = suite.images.arm
    server.client(OWNER).push(REPOSITORY, arm)
    folder = suite.home("helper")
    pulls = 0
    with contextlib.ExitStack() as stack:
        moods = {
            "nobody signed in": Home(suite, server, f"{folder}/nobody"),
            "no home": Home(suite, server, f"{folder}/none").without("HOME"),
            "damaged file": Home(suite, server, f"{folder}/damaged").keeping("{"),
            "expired session": Home(suite, server, f"{folder}/expired").keeping(expired(server)),
            "no D-Bus": Home(suite, server, f"{folder}/no-bus").signed_in().asking("/nowhere"),
            "silent D-Bus": Home(suite, server, f"{folder}/silent").signed_in().asking(silent(stack, folder)),
            "read-only disk": read_only(stack, Home(suite, server, mounted(stack, folder)).signed_in()),
            "keyring": keyring(suite, stack, Home(suite, server, f"{folder}/keyring")),
        }
        for mood, home in moods.items():
            pulls += home.pull(mood)
        lock(moods["keyring"])
        pulls += moods["keyring"].pull("locked keyring")
        busy = Home(suite, server, f"{folder}/busy").signed_in()
        busy.stale()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as many:
            pulls += sum(many.map(lambda n: busy.pull(f"at once {n}"), range(AT_ONCE)))
    shutil.rmtree(folder)
    return f"{pulls} public pulls, {len(moods) + 2} moods, {AT_ONCE} at once"


class Home:
    """A user's home whose settings of Docker and of containers ask the helper."""

    def __init__(self, suite, server, path):
        self.suite, self.server, self.path = suite, server, path
        os.makedirs(f"{path}/.docker", exist_ok=True)
        for name in ("config.json", "auth.json"):
            with open(f"{path}/.docker/{name}", "w") as file:
                json.dump({"credHelpers": {server.registry: "atcr"}}, file)
        self.shell = Shell(f"{suite.logs}/helper-{os.path.basename(path)}.log")
        binaries = os.path.dirname(suite.atcr)
        self.shell.env = {"HOME": path, "PATH": f"{binaries}:{self.shell.env['PATH']}", "DOCKER_CONFIG": f"{path}/.docker",
                          "XDG_RUNTIME_DIR": f"{path}/run"}
        os.makedirs(f"{path}/run", mode=0o700, exist_ok=True)

    @property
    def kept(self):
        return f"{self.path}/.atcr/credentials.json"

    def without(self, name):
        del self.shell.env[name]
        return self

    def keeping(self, text):
        os.makedirs(f"{self.path}/.atcr")
        with open(self.kept, "w") as file:
            file.write(text)
        return self

    def signed_in(self):
        self.shell.run("docker-credential-atcr", "login", self.server.registry, "--app-password", "--username", OWNER,
                       stdin=self.server.password(OWNER).encode())
        self.stale()
        return self

    def stale(self):
        """The next one who asks has the registry asked whether the secret is still good."""
        with open(self.kept) as file:
            kept = json.load(file)
        kept["registries"][self.server.registry]["accounts"][0]["checked_at"] = 0
        with open(self.kept, "w") as file:
            json.dump(kept, file)

    def asking(self, bus):
        self.shell.env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
        return self

    def pull(self, mood):
        """One pull for each kind of settings."""
        source, target = f"{self.server.registry}/{REPOSITORY}:1.0", f"{self.suite.directory}/helper/pulled {mood}"
        began = time.monotonic()
        self.shell.run("crane", "--insecure", "pull", "--format", "oci", source, f"{target} crane", timeout=HANGS)
        self.shell.run("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--authfile",
                       f"{self.path}/.docker/auth.json", f"docker://{source}", f"dir:{target} skopeo", timeout=HANGS)
        must(time.monotonic() - began < HANGS, f"{mood}: two pulls took {time.monotonic() - began:.1f} s")
        return 2

    def get(self):
        """What `get` gives; nothing when there are no credentials."""
        asked = subprocess.run(["docker-credential-atcr", "get"], input=self.server.registry.encode(), env=self.shell.env,
                               capture_output=True, timeout=HANGS)
        return json.loads(asked.stdout) if asked.returncode == 0 else None


def expired(server):
    account = {"name": OWNER, "username": OWNER, "secret": f"atcr_device_{'A' * 43}", "kind": "device"}
    return json.dumps({"version": 1, "registries": {server.registry: {"active": OWNER, "accounts": [account]}}})


def silent(stack, folder):
    """A bus that takes connections and says nothing."""
    path = f"{folder}/silent-bus"
    listening = stack.enter_context(socket.socket(socket.AF_UNIX))
    listening.bind(path)
    listening.listen(64)
    return path


def mounted(stack, folder):
    path = f"{folder}/read-only"
    os.makedirs(path)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    stack.callback(subprocess.run, ["umount", path], check=True)
    return path


def read_only(stack, home):
    subprocess.run(["mount", "-o", "remount,ro", home.path], check=True)
    return home


def keyring(suite, stack, home):
    """A session with GNOME's keyring, unlocked; the secret of a sign-in goes there."""
    with open(f"{suite.logs}/helper-keyring-daemons.log", "ab") as log:
        bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=log, env=home.shell.env, text=True, start_new_session=True)
        stack.callback(end, bus)
        home.shell.env["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
        daemon = subprocess.Popen(["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
                                  stdin=subprocess.PIPE, stdout=log, stderr=log, env=home.shell.env, start_new_session=True)
        stack.callback(end, daemon)
    daemon.stdin.write(b"interop")
    daemon.stdin.close()
    daemon.stdin = None
    deadline = time.monotonic() + 20
    while b"org.freedesktop.secrets" not in subprocess.run(
            ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus",
             "org.freedesktop.DBus.ListNames"], env=home.shell.env, capture_output=True).stdout:
        must(time.monotonic() < deadline and daemon.poll() is None, "GNOME's keyring does not start")
        time.sleep(0.1)
    home.signed_in()
    with open(home.kept) as file:
        account = json.load(file)["registries"][home.server.registry]["accounts"][0]
    must(account["in_keyring"] and not account["secret"], f"the secret is not in the keyring: {sorted(account)}")
    must(home.get()["Secret"], "the keyring gives no secret")
    return home


def lock(home):
    home.shell.run("dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.secrets", "/org/freedesktop/secrets",
                   "org.freedesktop.Secret.Service.Lock", "array:objpath:/org/freedesktop/secrets/collection/login")
    must(home.get() is None, "a locked keyring gives a secret")
