"""Object storages of others as child processes, each with one bucket `blobs`.

What is not installed is not there; `.ci/install` brings Azurite, `.ci/install-storages` the others.
"""

import base64
import datetime
import hashlib
import hmac
import os
import secrets
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

from lib.process import end, must
from lib.service import free_port

HERE = os.path.dirname(os.path.realpath(__file__))
BUCKET = "blobs"
# Of Ceph's disk, in bytes; the file is sparse.
BLOCK_DEVICE = 20 << 30


class Storage:
    """Use as a context manager; `settings` are what a hold is told of it. Its processes are ended by their own pids."""

    name = None

    def __init__(self, shell, directory):
        self.shell, self.directory, self.processes = shell, directory, []
        self.port = free_port()
        os.makedirs(directory)

    @classmethod
    def available(cls):
        return bool(shutil.which(cls.name))

    def __enter__(self):
        try:
            self.start()
            self._answers(f"http://127.0.0.1:{self.ready_port()}/")
            self.make_bucket()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure):
        for process in reversed(self.processes):
            end(process)

    def run(self, *argv, env=None):
        """Starts a program of the storage that lives as long as it."""
        self.processes.append(self.shell.start(*argv, env=env))

    def ready_port(self):
        return self.port

    def make_bucket(self):
        pass

    def _answers(self, url, timeout=60):
        deadline = time.monotonic() + timeout
        while True:
            try:
                return urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError:
                return None
            except OSError as problem:
                must(all(process.poll() is None for process in self.processes), f"{self.name} ended; see {self.shell.log}")
                must(time.monotonic() < deadline, f"{self.name} did not become ready: {problem}")
                time.sleep(0.1)


class Azurite(Storage):
    name = "azurite"
    program = f"{HERE}/../storage/node_modules/azurite/dist/src/blob/main.js"
    account = "interop"

    @classmethod
    def available(cls):
        return os.path.exists(cls.program)

    def start(self):
        self.key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.run(
            "node", self.program, "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", self.directory,
            "--silent", "--disableTelemetry", env={"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"})

    def make_bucket(self):
        """By a signature of the account: create (c) containers (c) of the blob service (b)."""
        version = "2021-12-02"
        expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)
        query = {"sv": version, "ss": "b", "srt": "c", "sp": "c", "se": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
                 "spr": "https,http"}
        fields = [self.account, query["sp"], query["ss"], query["srt"], "", query["se"], "", query["spr"], version, "", ""]
        signature = hmac.digest(base64.b64decode(self.key), "\n".join(fields).encode(), hashlib.sha256)
        query |= {"sig": base64.b64encode(signature).decode(), "restype": "container"}
        url = f"http://127.0.0.1:{self.port}/{self.account}/{BUCKET}?{urllib.parse.urlencode(query)}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", data=b""), timeout=10).close()

    def settings(self):
        return {
            "HOLD_STORAGE_DRIVER": "azure",
            "HOLD_STORAGE_BUCKET": BUCKET,
            "HOLD_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}/{self.account}",
            "HOLD_STORAGE_ACCOUNT": self.account,
            "HOLD_STORAGE_ACCOUNT_KEY": self.key,
        }


class OfS3(Storage):
    region = "us-east-1"

    def settings(self):
        return {
            "HOLD_STORAGE_DRIVER": "s3",
            "HOLD_STORAGE_BUCKET": BUCKET,
            "HOLD_STORAGE_REGION": self.region,
            "HOLD_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "HOLD_STORAGE_ACCESS_KEY": self.id,
            "HOLD_STORAGE_SECRET_KEY": self.secret,
        }

    def environment(self):
        """The same as programs of AWS are told."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }


class Garage(OfS3):
    name = "garage"
    region = "garage"

    def ready_port(self):
        return self.admin

    def start(self):
        # The forms that Garage wants of a key.
        self.id, self.secret = f"GK{secrets.token_hex(12)}", secrets.token_hex(32)
        self.admin = free_port()
        config = f"{self.directory}/garage.toml"
        with open(config, "w") as file:
            file.write(f"""\
metadata_dir = "{self.directory}/meta"
data_dir = "{self.directory}/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{free_port()}"
rpc_secret = "{secrets.token_hex(32)}"
[s3_api]
s3_region = "{self.region}"
api_bind_addr = "127.0.0.1:{self.port}"
[admin]
api_bind_addr = "127.0.0.1:{self.admin}"
admin_token = "{secrets.token_hex(16)}"
""")
        self.run("garage", "-c", config, "server", "--single-node", "--default-bucket", env={
            "GARAGE_DEFAULT_ACCESS_KEY": self.id, "GARAGE_DEFAULT_SECRET_KEY": self.secret,
            "GARAGE_DEFAULT_BUCKET": BUCKET, "RUST_LOG": "garage=warn"})


class S3sFs(OfS3):
    name = "s3s-fs"

    def start(self):
        self.id, self.secret = secrets.token_hex(10), secrets.token_hex(20)
        os.makedirs(f"{self.directory}/{BUCKET}")
        self.run("s3s-fs", "--host", "127.0.0.1", "--port", str(self.port), "--access-key", self.id,
                 "--secret-key", self.secret, self.directory)


class Ceph(OfS3):
    """The gateway of Ceph in front of the smallest cluster: a monitor, and an OSD whose disk is a file."""

    name = "ceph"

    @classmethod
    def available(cls):
        return all(map(shutil.which, ("ceph-mon", "ceph-osd", "radosgw")))

    def start(self):
        self.id, self.secret = secrets.token_hex(10), secrets.token_hex(20)
        cluster, monitor = str(uuid.uuid4()), f"[v2:127.0.0.1:{free_port()}]"
        for daemon in ("mon", "osd", "rgw"):
            os.makedirs(f"{self.directory}/{daemon}")
        self.config = f"{self.directory}/ceph.conf"
        with open(self.config, "w") as file:
            file.write(f"""\
[global]
fsid = {cluster}
mon_host = {monitor}
mon_data = {self.directory}/mon
osd_data = {self.directory}/osd
rgw_data = {self.directory}/rgw
keyring = {self.directory}/keyring
run_dir = {self.directory}
crash_dir = {self.directory}
admin_socket = {self.directory}/$name.asok
pid_file =
log_file =
log_to_stderr = false
public_network = 127.0.0.0/8
ms_mon_client_mode = crc
ms_mon_service_mode = crc
ms_mon_cluster_mode = crc
ms_bind_before_connect = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = bluestore
bluestore_block_size = {BLOCK_DEVICE}
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_warn = 2
mon_data_avail_crit = 1
rgw_frontends = beast endpoint=127.0.0.1:{self.port}
rgw_run_sync_thread = false
""")
        open(f"{self.directory}/keyring", "w").close()
        self._once("monmaptool", "--create", "--fsid", cluster, "--addv", "a", monitor, f"{self.directory}/monmap")
        self._once("ceph-mon", "--mkfs", "-i", "a", "--monmap", f"{self.directory}/monmap")
        self._daemon("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        self._once("ceph", "--connect-timeout", "60", "osd", "new", osd, "0")
        self._once("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._once("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default")
        self._daemon("ceph-osd", "-i", "0")
        self._once("radosgw-admin", "-n", "client.rgw.a", "user", "create", "--uid=interop", "--display-name=interop",
                   f"--access-key={self.id}", f"--secret-key={self.secret}")
        self._daemon("radosgw", "-n", "client.rgw.a")

    def _once(self, program, *arguments):
        self.shell.run(program, "-c", self.config, *arguments)

    def _daemon(self, program, *arguments):
        self.run(program, "-f", "-c", self.config, *arguments)

    def make_bucket(self):
        self.shell.run("curl", "--silent", "--show-error", "--fail", "--aws-sigv4", f"aws:amz:{self.region}:s3",
                       "--user", f"{self.id}:{self.secret}", "--header", f"x-amz-content-sha256: {hashlib.sha256().hexdigest()}",
                       "--request", "PUT", f"http://127.0.0.1:{self.port}/{BUCKET}")


ALL = [Azurite, Ceph, Garage, S3sFs]
